"""The log of events as a file: rotated, emptied, edited, hostile."""

import gzip
import json
import os
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.errors import SourceError
from remediator.sources.event_lines import Event, Lines
from remediator.sources.events_log import EventsLog

AT = "2026-03-01T12:00:00Z"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def line(kind: object = "container.create", at: object = AT, **more: object) -> str:
    return json.dumps({"timestamp": at, "event_type": kind, **more}) + "\n"


class Heard:
    """What a log told: kinds of the present file, and those of the files before."""

    def __init__(self) -> None:
        self.present: list[str] = []
        self.settled: list[str] = []

    def take(self, event: Event) -> None:
        self.present.append(event.kind)

    def settle(self) -> None:
        self.settled += self.present
        self.present = []

    def forget(self) -> None:
        self.present = []

    @property
    def all(self) -> list[str]:
        return sorted(self.settled + self.present)


class Site:
    """A log in a folder and who listens to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self.source = EventsLog(self.path)
        self.heard = Heard()

    def write(self, *kinds: str) -> None:
        with self.path.open("a") as file:
            file.writelines(line(kind) for kind in kinds)

    def kinds(self) -> list[str]:
        self.source.follow(self.heard)
        return self.heard.all


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_log_that_is_not_there_has_no_events_and_may_come(site: Site) -> None:
    assert site.kinds() == []

    site.write("a")

    assert site.kinds() == ["a"]


def test_only_what_was_added_is_told(site: Site) -> None:
    site.write("a", "b")
    assert site.kinds() == ["a", "b"]
    assert site.kinds() == ["a", "b"]

    site.write("c")

    assert site.kinds() == ["a", "b", "c"]


def test_half_a_line_waits_for_its_end(site: Site) -> None:
    whole = line("late")
    site.path.write_text(line("a") + whole[:20])
    assert site.kinds() == ["a"]

    with site.path.open("a") as file:
        file.write(whole[20:])

    assert site.kinds() == ["a", "late"]


def test_what_was_written_just_before_a_rotation_is_not_lost(site: Site) -> None:
    site.write("a")
    assert site.kinds() == ["a"]

    site.write("b")
    site.path.rename(site.path.with_suffix(".jsonl.1"))
    site.write("c")

    assert site.kinds() == ["a", "b", "c"]


def test_a_rotation_keeps_events_even_if_both_files_begin_alike(site: Site) -> None:
    site.write("same")
    assert site.kinds() == ["same"]

    site.path.rename(site.path.with_suffix(".jsonl.1"))
    site.write("same")

    assert site.kinds() == ["same", "same"]


def test_a_rotated_file_may_be_compressed_at_once(site: Site) -> None:
    site.write("a")
    assert site.kinds() == ["a"]

    site.path.unlink()
    assert site.kinds() == ["a"]
    site.write("b")

    assert site.kinds() == ["a", "b"]


@pytest.mark.parametrize("more", [(), ("x", "y", "z")], ids=["shorter", "longer than before"])
def test_an_emptied_file_keeps_what_was_told(site: Site, more: tuple[str, ...]) -> None:
    site.write("a", "b")
    assert site.kinds() == ["a", "b"]

    os.truncate(site.path, 0)
    site.write("c", *more)

    assert site.kinds() == sorted(["a", "b", "c", *more])


def test_an_emptied_file_keeps_what_was_told_before_anything_is_in_it(site: Site) -> None:
    site.write("a")
    assert site.kinds() == ["a"]

    os.truncate(site.path, 0)

    assert site.kinds() == ["a"]
    site.write("b")
    assert site.kinds() == ["a", "b"]


def test_a_file_that_was_empty_for_a_moment_while_it_was_put_back_counts_once(site: Site) -> None:
    site.write("a", "b")
    assert site.kinds() == ["a", "b"]
    before = site.path.read_text()

    os.truncate(site.path, 0)
    assert site.kinds() == ["a", "b"]
    site.path.write_text(before + line("c"))

    assert site.kinds() == ["a", "b", "c"]


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "replaced"])
def test_an_edited_file_is_counted_anew(site: Site, in_place: bool) -> None:
    site.write("a", "b", "c")
    assert site.kinds() == ["a", "b", "c"]

    edited = line("a") + line("c")
    if in_place:
        site.path.write_text(edited)
    else:
        site.path.with_name("new").write_text(edited)
        site.path.with_name("new").replace(site.path)

    assert site.kinds() == ["a", "c"]


def test_a_start_takes_in_what_was_rotated_lately(site: Site, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl.1").write_text(line("yesterday"))
    with gzip.open(tmp_path / "events.jsonl-20260301.gz", "wt") as file:
        file.write(line("packed"))
    (tmp_path / "events.jsonl.bak").write_text(line("somebody's copy"))
    (tmp_path / "events.jsonl.9").write_text(line("old"))
    ago = datetime.now(UTC) - timedelta(days=2)
    os.utime(tmp_path / "events.jsonl.9", (ago.timestamp(), ago.timestamp()))
    site.write("today")

    assert site.kinds() == ["packed", "today", "yesterday"]
    assert site.kinds() == ["packed", "today", "yesterday"]


def test_a_broken_archive_costs_only_itself(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "events.jsonl.1.gz").write_bytes(b"no archive")
    site.write("today")

    assert site.kinds() == ["today"]
    assert "events.jsonl.1.gz" in caplog.text


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_plain_file_is_an_error_and_hangs_nobody(site: Site, make: object) -> None:
    assert callable(make)
    make(site.path)

    with pytest.raises(SourceError, match="not a plain file"):
        site.kinds()


def test_a_path_through_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SourceError, match="cannot read"):
        EventsLog(tmp_path / "file" / "events.jsonl").follow(Heard())


def test_lines_without_sense_are_left_out_and_told_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.path.write_text("nonsense\n" + line("a") + "[]\n{}\n\n")
    assert site.kinds() == ["a"]
    with site.path.open("a") as file:
        file.write("more\n")
    assert site.kinds() == ["a"]

    assert len(caplog.records) == 1
    assert str(site.path) in caplog.text


def events(*parts: bytes) -> list[Event]:
    lines = Lines()
    return [event for part in parts for event in lines.take(part)]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        pytest.param("2026-03-01T12:00:00Z", NOON, id="UTC"),
        pytest.param("2026-03-01T12:00:00.123456Z", NOON.replace(microsecond=123456), id="micros"),
        pytest.param("2026-03-01T12:00:00.123456789Z", NOON.replace(microsecond=123456), id="nano"),
        pytest.param("2026-03-01T13:00:00+01:00", NOON, id="Berlin"),
        pytest.param("2026-03-01T12:00:00", NOON, id="no zone means UTC"),
    ],
)
def test_times_are_utc(text: str, at: datetime) -> None:
    assert events(line(at=text).encode()) == [Event(at, "container.create")]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        pytest.param(5, "unknown", id="a number"),
        pytest.param(None, "unknown", id="null"),
        pytest.param({"a": [1]}, "unknown", id="an object"),
        pytest.param("  ", "unknown", id="blank"),
        pytest.param("x" * 5000, "x" * 100, id="long"),
        pytest.param('a"b\\c', 'a"b\\c', id="quotes are escaped later"),
        pytest.param(
            "a\nb\x1b[1m", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[1m", id="control"
        ),
    ],
)
def test_a_kind_is_a_short_text_whatever_was_written(kind: object, named: str) -> None:
    assert [event.kind for event in events(line(kind).encode())] == [named]


def test_a_kind_that_is_no_text_encoding_is_still_an_event() -> None:
    broken = line("a?b").encode().replace(b"?", b"\xff")

    assert [event.kind for event in events(broken)] == ["a\N{REPLACEMENT CHARACTER}b"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(line(at="soon"), id="no time"),
        pytest.param(line(at=5), id="a number for a time"),
        pytest.param(line(at="0001-01-01T00:00:00+14:00"), id="before all time"),
        pytest.param('{"event_type": "a"}\n', id="without a time"),
        pytest.param("[" * 30_000 + "\n", id="deep"),
        pytest.param('{"timestamp": "' + AT + '", "event_type": "\\ud800"}\n', id="half a letter"),
    ],
)
def test_what_is_no_event_is_counted_as_senseless(text: str) -> None:
    lines = Lines()

    assert list(lines.take(text.encode())) == []
    assert lines.senseless == 1


def test_a_line_without_end_is_not_kept_in_memory() -> None:
    lines = Lines()
    part = b"x" * 100_000

    tracemalloc.start()
    for _ in range(100):
        assert list(lines.take(part)) == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found = list(lines.take(b"\n" + line("after").encode()))

    assert most < 10 * len(part)
    assert [event.kind for event in found] == ["after"]
    assert lines.senseless == 1


def test_zeros_before_a_line_are_no_part_of_it() -> None:
    assert [event.kind for event in events(b"\0" * 500 + line("a").encode())] == ["a"]
