"""Commits of several threads wait for the disk together, and none is told of before it is there."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remediator.database import Database, open_writer
from remediator.errors import JournalError
from tests.eventually import eventually

JOURNAL = "remediator.journal"
ASK = "SELECT count(*) AS n FROM tally"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_writer(tmp_path / "journal.db", JOURNAL, JournalError)
    yield opened
    opened.close()


def put(database: Database, name: str) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO tally (name, labels, amount) VALUES ('t', ?, 1)", (name,))


def count(database: Database) -> int:
    row = database.row(ASK)
    return int(row["n"]) if row else 0


@contextlib.contextmanager
def on_a_disk_that_fails(path: Path) -> Iterator[None]:
    """Let the file that is synced be one for which Linux refuses that."""
    (file,) = (number for number in open_files() if is_synced_only(number, path))
    kept, (reading, writing) = os.dup(file), os.pipe()
    os.dup2(reading, file)
    try:
        yield
    finally:
        os.dup2(kept, file)
        for number in (kept, reading, writing):
            os.close(number)


def open_files() -> list[int]:
    return [int(name) for name in os.listdir("/proc/self/fd")]


def is_synced_only(number: int, path: Path) -> bool:
    """Whether it is open on *path*, and only to be read: SQLite writes through its own."""
    try:
        leads_to = os.readlink(f"/proc/self/fd/{number}")
        flags = Path(f"/proc/self/fdinfo/{number}").read_text()
    except FileNotFoundError:
        return False
    return leads_to == str(path) and int(flags.split("flags:")[1].split()[0], 8) & 3 == 0


class Gate:
    """Holds up whoever tells that something is durable, until it is opened."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.opened = threading.Event()

    def __call__(self, counted: int) -> None:
        self.told.append(counted)
        assert self.opened.wait(30)


def test_a_commit_is_on_the_disk_when_its_block_ends(database: Database) -> None:
    told: list[int] = []
    database.share_syncs(lambda: count(database), told.append)

    for number in range(3):
        put(database, str(number))
        assert told[-1] == number + 1


def test_those_who_commit_during_a_sync_wait_for_one_together(database: Database) -> None:
    gate = Gate()
    database.share_syncs(lambda: count(database), gate)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(put, database, "first")
        eventually(lambda: gate.told == [1], 10, "the first is being synced")
        others = [threads.submit(put, database, str(number)) for number in range(5)]
        eventually(lambda: count(database) == 6, 10, "the others are committed meanwhile")
        assert not any(other.done() for other in (first, *others))
        gate.opened.set()
        for done in (first, *others):
            done.result(30)

    assert gate.told == [1, 6]


def test_a_row_of_its_own_is_on_the_disk_as_well(database: Database) -> None:
    told: list[int] = []
    database.share_syncs(lambda: count(database), told.append)

    database.insert("INSERT INTO tally (name, labels, amount) VALUES ('t', ?, 1)", ("alone",))

    assert told == [1]


def test_of_a_transaction_inside_another_nothing_is_told_before_its_end(
    database: Database,
) -> None:
    told: list[int] = []
    database.share_syncs(lambda: count(database), told.append)

    with database.transaction():
        put(database, "inside")
        assert told == []

    assert told == [1]


def test_what_need_not_wait_is_on_the_disk_with_the_next_that_does(database: Database) -> None:
    told: list[int] = []
    database.share_syncs(lambda: count(database), told.append)

    with database.transaction(waits=False):
        put(database, "later")
    assert (told, count(database)) == ([], 1)
    put(database, "now")

    assert told == [2]


def test_what_was_rolled_back_is_not_waited_for(database: Database) -> None:
    told: list[int] = []
    database.share_syncs(lambda: count(database), told.append)

    with contextlib.suppress(ZeroDivisionError), database.transaction():
        put(database, "inside")
        raise ZeroDivisionError

    assert (told, count(database)) == ([], 0)


@pytest.fixture
def failing(database: Database, tmp_path: Path) -> Iterator[Database]:
    """A database of which one commit could not be brought to the disk, which works again."""
    database.share_syncs(lambda: count(database), lambda _: None)
    put(database, "before")
    with (
        on_a_disk_that_fails(tmp_path / "journal.db-wal"),
        pytest.raises(JournalError, match=r"journal\.db cannot be brought to the disk"),
    ):
        put(database, "lost, perhaps")
    return database


@pytest.mark.parametrize("use", [count, lambda database: put(database, "after")])
def test_after_a_sync_that_failed_nothing_is_read_or_written(
    failing: Database, use: Callable[[Database], object]
) -> None:
    with pytest.raises(JournalError, match="Invalid argument"):
        use(failing)


def test_a_sync_that_failed_is_none_for_whoever_waited_as_well(
    database: Database, tmp_path: Path
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        entered.set()
        assert go_on.wait(30)

    database.share_syncs(lambda: count(database), hold)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(put, database, "first")
        assert entered.wait(10)
        with on_a_disk_that_fails(tmp_path / "journal.db-wal"):
            others = [threads.submit(put, database, str(number)) for number in range(3)]
            eventually(lambda: count(database) == 4, 10, "the others are committed meanwhile")
            go_on.set()
            first.result(30)
            errors = [other.exception(30) for other in others]

    assert [type(error) for error in errors] == [JournalError] * 3


def test_all_is_kept_by_a_writer_that_many_threads_use(tmp_path: Path) -> None:
    database = open_writer(tmp_path / "journal.db", JOURNAL, JournalError)
    told: list[int] = []
    database.share_syncs(lambda: count(database), told.append)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: put(database, str(number)), range(400)))
    database.close()
    again = open_writer(tmp_path / "journal.db", JOURNAL, JournalError)

    assert count(again) == 400
    assert told[-1] == 400
    assert told == sorted(told)
    again.close()
