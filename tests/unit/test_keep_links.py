"""Links that keep a container: what they permit, and that nobody else can make one."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.keep_links import ForgedError, KeepLink, LinkKey
from remediator.wiring.keep_links import KeepLinks, key_file_of, make_key
from tests.builders import DAY, HOUR, NOON, SECOND

LINK = KeepLink("c0" * 32, NOON - HOUR, 17, DAY, NOON + DAY)
RUN = (LINK.container, LINK.started_at)


@pytest.fixture
def key(tmp_path: Path) -> LinkKey:
    key = LinkKey(tmp_path / "link.key")
    key.make()
    return key


@pytest.mark.parametrize(
    "link",
    [
        LINK,
        replace(LINK, started_at=None),
        replace(LINK, incident=2**63 - 1, longest=SECOND),
        replace(LINK, longest=DAY * 365 * 200),
    ],
)
def test_a_link_says_what_was_signed(key: LinkKey, link: KeepLink) -> None:
    found = key.verify(key.sign(link))

    longest = min(link.longest, (2**32 - 1) * SECOND)
    assert found == replace(link, longest=longest)


def test_a_link_fits_in_two_lines_of_a_terminal_and_never_repeats(key: LinkKey) -> None:
    one, other = key.sign(LINK), key.sign(LINK)

    assert len(one) < 140
    assert one != other


def test_no_changed_character_goes_unnoticed(key: LinkKey) -> None:
    text = key.sign(LINK)
    body, _, signature = text.partition(".")
    for index in range(len(body)):
        changed = "A" if body[index] != "A" else "B"
        with pytest.raises(ForgedError):
            key.verify(f"{body[:index]}{changed}{body[index + 1 :]}.{signature}")


@pytest.mark.parametrize("text", ["", ".", "a.b", "é", "\x00", "A" * 10_000, "A" * 86 + "." * 43])
def test_what_is_no_link_is_forged(key: LinkKey, text: str) -> None:
    with pytest.raises(ForgedError):
        key.verify(text)


def test_a_link_of_another_key_is_forged(key: LinkKey, tmp_path: Path) -> None:
    text = key.sign(LINK)
    (tmp_path / "link.key").write_text("x" * 32)

    with pytest.raises(ForgedError):
        key.verify(text)


def test_a_form_is_no_link_and_belongs_to_one_link_only(key: LinkKey) -> None:
    link = key.sign(LINK)
    form = key.sign_form(link, NOON)

    assert key.accepts_form(link, form, NOON)
    assert not key.accepts_form(link, form, NOON + SECOND)
    assert not key.accepts_form(key.sign(LINK), form, NOON)
    assert not key.accepts_form(link, link, NOON)
    assert not key.accepts_form(link, "", NOON)
    with pytest.raises(ForgedError):
        key.verify(form)


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "link.key"
    LinkKey(path).make()
    first = path.read_bytes()
    LinkKey(path).make()

    assert path.read_bytes() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["link.key"]


def test_a_key_that_was_cut_off_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "link.key"
    path.write_text("ab")
    (tmp_path / "link.key.new").write_text("cd")

    LinkKey(path).make()

    assert len(LinkKey(path).read()) == 64


@pytest.mark.parametrize("kind", ["none", "short", "link", "pipe", "folder"])
def test_only_a_plain_file_of_some_length_is_a_key(tmp_path: Path, kind: str) -> None:
    """It is the receiver's folder, and the worker that reads there is root."""
    path = tmp_path / "link.key"
    match kind:
        case "short":
            path.write_text("x" * 31)
        case "link":
            (tmp_path / "secret").write_text("x" * 64)
            path.symlink_to(tmp_path / "secret")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()

    with pytest.raises(SetupError, match="link key"):
        LinkKey(path).read()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot make link key"):
        LinkKey(tmp_path / "none" / "link.key").make()


def test_the_key_is_no_part_of_what_is_printed(key: LinkKey) -> None:
    assert key.read().decode() not in repr(key)


def test_a_link_is_below_the_pages_url_and_lasts_for_a_day(key: LinkKey) -> None:
    url = KeepLinks("https://gpu.example.org/r", key).to_keep(RUN, 17, DAY, NOON)

    start = "https://gpu.example.org/r/extend?k="
    assert url.startswith(start)
    assert key.verify(url.removeprefix(start)) == LINK


@pytest.mark.parametrize("page_url", ["", "https://gpu.example.org"])
@pytest.mark.parametrize("container", ["idle", "c0" * 32])
def test_there_is_no_link_without_a_page_a_full_id_and_a_key(
    tmp_path: Path, page_url: str, container: str
) -> None:
    links = KeepLinks(page_url, LinkKey(tmp_path / "none"))

    assert links.to_keep((container, None), 1, DAY, NOON) == ""


def test_the_receiver_makes_the_key_only_where_links_are_wanted(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    settings.inbox_dir.mkdir()

    assert make_key(settings) is None
    assert make_key(replace(settings, page_url="https://gpu.example.org")) is not None
    assert key_file_of(settings) == tmp_path / "inbox" / "link.key"
    assert key_file_of(settings).exists()
    elsewhere = replace(settings, link_key_file=tmp_path / "key")
    assert key_file_of(elsewhere) == tmp_path / "key"
