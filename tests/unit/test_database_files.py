"""What was removed or replaced is noticed, also where the folder has rested for long before."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from remediator.database_files import DatabaseFiles
from tests.eventually import eventually

FILES = pytest.mark.parametrize("suffix", ["", "-wal"], ids=["database", "log"])
AFTER_AN_HOUR = 3600 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "here" / "inbox.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE x (y);")
        yield path


@pytest.fixture(params=[0, AFTER_AN_HOUR], ids=["just changed", "long at rest"])
def files(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> DatabaseFiles:
    pass_a_tick(path.parent, tmp_path / "probe")
    files = DatabaseFiles(path, lambda: time.time_ns() + request.param)
    assert [files.are_in_place() for _ in range(3)] == [True] * 3
    return files


def pass_a_tick(folder: Path, probe: Path) -> None:
    """Wait until what changes now is told from what changed in *folder* before, on any Linux."""

    def is_over() -> bool:
        probe.unlink(missing_ok=True)
        probe.touch()
        return probe.stat().st_ctime_ns > folder.stat().st_ctime_ns

    eventually(is_over, 5, "the clock of the file system goes on")


def replaced(path: Path) -> None:
    """Put a copy in its place, as who restores a backup does."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


@FILES
def test_what_was_removed_is_missed(files: DatabaseFiles, path: Path, suffix: str) -> None:
    path.with_name(path.name + suffix).unlink()

    assert not files.are_in_place()


@FILES
def test_what_was_renamed_is_missed(files: DatabaseFiles, path: Path, suffix: str) -> None:
    file = path.with_name(path.name + suffix)
    file.rename(file.with_name("elsewhere"))

    assert not files.are_in_place()


@FILES
def test_what_was_replaced_is_missed(files: DatabaseFiles, path: Path, suffix: str) -> None:
    replaced(path.with_name(path.name + suffix))

    assert not files.are_in_place()


@FILES
def test_a_copy_that_keeps_the_folders_times_is_no_disguise(
    files: DatabaseFiles, path: Path, suffix: str
) -> None:
    before = path.parent.stat()
    replaced(path.with_name(path.name + suffix))
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert not files.are_in_place()


def test_a_folder_that_was_moved_is_missed(files: DatabaseFiles, path: Path) -> None:
    path.parent.rename(path.parent.with_name("there"))

    assert not files.are_in_place()


def test_a_folder_that_stands_in_its_place_is_another(files: DatabaseFiles, path: Path) -> None:
    path.parent.rename(path.parent.with_name("there"))
    path.parent.mkdir()
    for suffix in ("", "-wal"):
        path.with_name(path.name + suffix).touch()

    assert not files.are_in_place()


def test_what_comes_and_goes_beside_them_changes_nothing(files: DatabaseFiles, path: Path) -> None:
    for _ in range(3):
        other = path.with_name("other")
        other.touch()
        assert files.are_in_place()
        other.unlink()
        assert files.are_in_place()


@pytest.mark.parametrize("late", [0, AFTER_AN_HOUR])
def test_behind_a_link_what_is_replaced_is_missed_as_well(
    path: Path, tmp_path: Path, late: int
) -> None:
    link = tmp_path / "inbox.db"
    link.symlink_to(path)
    pass_a_tick(path.parent, tmp_path / "probe")
    files = DatabaseFiles(link, lambda: time.time_ns() + late)
    assert [files.are_in_place() for _ in range(3)] == [True] * 3

    replaced(path)

    assert not files.are_in_place()


def test_what_was_never_there_is_not_in_place(tmp_path: Path) -> None:
    assert not DatabaseFiles(tmp_path / "inbox.db").are_in_place()
    assert not DatabaseFiles(tmp_path / "missing" / "inbox.db").are_in_place()
