import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.limits import read_limits
from remediator.config.limits_file import LimitsFile
from remediator.core.limits import LimitsBook
from remediator.errors import ConfigError
from tests.builders import HOUR
from tests.eventually import eventually

GOOD = "{username: alice, exempt_from: [idle_timeout_h], reason: thesis, approved_by: dean}"
VOID = "{username: bob, exempt_from: [everything], reason: thesis, approved_by: dean}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a limits file, beside which there is room for members."""
    (tmp_path / "groups").mkdir()
    path = tmp_path / "limits.yaml"
    path.write_text("default_group: one\n")
    return path


def members(path: Path, group: str = "student") -> Path:
    return path.parent / "groups" / f"{group}.members"


def overrides(path: Path) -> Path:
    return path.with_name("user-overrides.yaml")


def exemptions(path: Path) -> Path:
    return path.with_name("lifecycle-exemptions.yaml")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("limits.yaml", None),
        ("limits.yaml", "defaults: {idle_timeout_h: soon}\n"),
        ("groups/student.members", "alice bob\n"),
        ("user-overrides.yaml", "- alice\n"),
        ("lifecycle-exemptions.yaml", "exemptions: 3\n"),
    ],
)
def test_a_program_does_not_start_with_broken_limits(
    path: Path, name: str, text: str | None
) -> None:
    file = path.parent / name
    file.unlink() if text is None else file.write_text(text)

    with pytest.raises(ConfigError, match=f"{name}:1:"):
        LimitsFile(path)


def test_without_a_file_the_strict_limits_hold() -> None:
    limits = LimitsFile(None)
    limits.refresh()
    limits.reload()

    assert limits.book == LimitsBook()
    assert limits.is_good
    assert limits.void_exemptions == 0


def test_an_edit_takes_effect(path: Path) -> None:
    limits = LimitsFile(path)

    path.write_text("default_group: another\n")
    limits.refresh()

    assert limits.book.default_group == "another"


def test_files_that_come_change_and_go_take_effect(path: Path) -> None:
    limits = LimitsFile(path, settle=timedelta())
    seen = []

    def look() -> None:
        limits.refresh()
        book = limits.book
        seen.append((dict(book.members), sorted(book.users), len(book.exemptions)))

    members(path).write_text("alice\n")
    look()
    members(path).write_text("alice\nbob # new\n")
    look()
    overrides(path).write_text("alice: {max_runtime_h: 3}\n")
    look()
    exemptions(path).write_text(f"exemptions: [{GOOD}]\n")
    look()
    for file in (members(path), overrides(path), exemptions(path)):
        file.unlink()
    look()

    both = {"alice": "student", "bob": "student"}
    assert seen == [
        ({"alice": "student"}, [], 0),
        (both, [], 0),
        (both, ["alice"], 0),
        (both, ["alice"], 1),
        ({}, [], 0),
    ]


def test_nothing_is_read_again_while_nothing_changes(path: Path) -> None:
    members(path).write_text("alice\n")
    reads = []

    def read(path: Path) -> LimitsBook:
        reads.append(path)
        return read_limits(path)

    limits = LimitsFile(path, read)
    for _ in range(5):
        limits.refresh()

    assert len(reads) == 1


def test_permissions_that_are_mended_are_seen(path: Path) -> None:
    limits = LimitsFile(path)
    book = limits.book

    path.chmod(0o600)
    limits.refresh()

    assert limits.book is not book


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("limits.yaml", "default_group: two\n", "default_group: [broken]\n"),
        ("groups/student.members", "bob\n", "bob carol\n"),
        ("user-overrides.yaml", "bob: {max_runtime_h: 3}\n", "bob: {max_runtim_h: 3}\n"),
        ("lifecycle-exemptions.yaml", f"exemptions: [{GOOD}]\n", f"exemptions: {GOOD}\n"),
    ],
)
def test_a_broken_edit_of_any_file_changes_nothing_at_all_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, name: str, good: str, bad: str
) -> None:
    file = path.parent / name
    limits = LimitsFile(path)
    last_good = limits.book

    file.write_text(bad)
    # A good edit of another file waits until all of them are good.
    members(path, "admin").write_text("zoe\n")
    for _ in range(3):
        limits.refresh()

    assert limits.book is last_good
    assert not limits.is_good
    [told] = errors(caplog)
    assert f"{file}:1:" in told

    file.write_text(good)
    limits.refresh()
    assert limits.is_good
    assert limits.book.members["zoe"] == "admin"
    assert limits.book == read_limits(path)


def test_limits_that_are_gone_are_not_good_until_they_are_back(path: Path) -> None:
    limits = LimitsFile(path)

    path.unlink()
    limits.refresh()
    assert (limits.book.default_group, limits.is_good) == ("one", False)

    path.write_text("default_group: mended\n")
    limits.refresh()
    assert (limits.book.default_group, limits.is_good) == ("mended", True)


@pytest.mark.parametrize("how", ["emptied", "gone"])
@pytest.mark.parametrize("file", [overrides, exemptions, members])
def test_a_file_that_is_gone_for_a_moment_changes_nothing_but_nobody_is_stopped_meanwhile(
    path: Path, file: Callable[[Path], Path], how: str
) -> None:
    members(path).write_text("alice\n")
    overrides(path).write_text("alice: {idle_timeout_h: null}\n")
    exemptions(path).write_text(f"exemptions: [{GOOD}]\n")
    limits = LimitsFile(path, settle=HOUR)
    book, content = limits.book, file(path).read_text()

    file(path).write_text("") if how == "emptied" else file(path).unlink()
    for _ in range(2):
        limits.refresh()
        assert (limits.book is book, limits.is_good) == (True, False)

    file(path).write_text(f"{content}# edited\n")
    limits.refresh()
    assert (limits.book == book, limits.book is book, limits.is_good) == (True, False, True)


def test_what_is_gone_for_longer_is_gone(path: Path) -> None:
    overrides(path).write_text("alice: {idle_timeout_h: null}\n")
    limits = LimitsFile(path, settle=timedelta(milliseconds=50))

    overrides(path).unlink()

    def users() -> object:
        limits.refresh()
        return limits.book.users

    eventually(lambda: not users(), 5, "no overrides any more")
    assert limits.is_good


def test_void_exemptions_are_counted_and_told_once_for_each_change(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exemptions(path).write_text(f"exemptions:\n- {GOOD}\n- {VOID}\n")
    limits = LimitsFile(path)
    # The same entries at the same place, and an edit that is not about them.
    members(path).write_text("alice\n")
    limits.refresh()

    assert (limits.void_exemptions, limits.is_good) == (1, True)
    assert [exemption.user for exemption in limits.book.exemptions] == ["alice"]
    [told] = errors(caplog)
    assert f'{exemptions(path)}:3:33: exemptions[1].exempt_from[0]: unknown limit "ever' in told

    exemptions(path).write_text(f"exemptions:\n- {GOOD}\n- {VOID}\n- nonsense\n")
    limits.refresh()
    assert limits.void_exemptions == 2
    assert len(errors(caplog)) == 2

    exemptions(path).write_text(f"exemptions:\n- {GOOD}\n")
    limits.refresh()
    assert limits.void_exemptions == 0
    assert len(errors(caplog)) == 2


def editing(path: Path, *texts: str) -> Callable[[Path], LimitsBook]:
    """Return a reader that is overtaken by an edit once for each of *texts*."""
    left = list(texts)

    def read(_path: Path) -> LimitsBook:
        book = read_limits(path)
        if left:
            members(path).write_text(left.pop(0))
        return book

    return read


def test_files_that_change_while_they_are_read_are_read_anew(path: Path) -> None:
    limits = LimitsFile(path, editing(path, "alice\n", "alice\nbob\n"))

    assert limits.book.members == {"alice": "student", "bob": "student"}


def test_files_that_never_stand_still_are_not_good_until_they_do(path: Path) -> None:
    members(path).write_text("alice\n")
    edits = ["a\n", "a\nb\n", "a\nb\nc\n"]
    quiet = [""]

    def read(path: Path) -> LimitsBook:
        book = read_limits(path)
        if not quiet and edits:
            members(path).write_text(edits.pop(0))
        return book

    limits = LimitsFile(path, read)
    quiet.clear()
    limits.reload()
    assert (limits.book.members, limits.is_good) == ({"alice": "student"}, False)

    limits.refresh()
    assert (sorted(limits.book.members), limits.is_good) == (["a", "b", "c"], True)


def test_readers_never_see_half_of_a_change(path: Path) -> None:
    limits = LimitsFile(_with_both(path, 1), settle=HOUR)
    stop = threading.Event()
    seen = [limits.book]

    def look() -> None:
        while not stop.is_set():
            limits.refresh()
            book = limits.book
            if book is not seen[-1]:
                seen.append(book)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for hours in range(2, 12):
        _with_both(path, hours)
        wanted = {"max_runtime": hours * HOUR}
        eventually(lambda want=wanted: limits.book.users["alice"] == want, 5, "the edit")  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()

    assert all(book.users["alice"] == book.users["bob"] for book in seen)


def _with_both(path: Path, hours: int) -> Path:
    """Write the same for two users into two files, which are broken until both are done."""
    # Of another length each time, so that no edit looks like the one before.
    same = f"{{max_runtime_h: {hours}}} #{'x' * hours}\n"
    overrides(path).write_text("bob: {\n")
    path.write_text(f"user_overrides:\n  alice: {same}")
    overrides(path).write_text(f"bob: {same}")
    return path
