import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path

import pytest

from remediator.database import Database, maybe, moment, open_reader, open_writer, stamp
from remediator.errors import InboxError, JournalError, StoreError
from tests.unit.confined import run_on_read_only, run_on_tiny_disk

INBOX, JOURNAL = "remediator.inbox", "remediator.journal"
INSERT = "INSERT INTO delivery (received_at, sender, body) VALUES ('now', ?, ?)"
SENDERS = "SELECT sender FROM delivery ORDER BY id"


def newest(package: str) -> int:
    """Return the number of the newest schema that *package* ships."""
    schema = resources.files(package).joinpath("schema")
    return max(int(file.name.removesuffix(".sql")) for file in schema.iterdir())


@contextlib.contextmanager
def closing_raw(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "inbox.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = open_writer(path, INBOX, InboxError)
    yield opened
    opened.close()


def put(database: Database, sender: str) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, (sender, b"{}"))


def put_alone(database: Database, sender: str) -> None:
    database.insert(INSERT, (sender, b"{}"))


def put_and_fail(database: Database, sender: str, statement: str | None = None) -> None:
    with database.transaction() as connection:
        connection.execute(INSERT, (sender, b"{}"))
        if statement is None:
            raise ZeroDivisionError
        connection.execute(statement)


def as_writer(path: Path) -> Database:
    return open_writer(path, JOURNAL, JournalError)


def as_reader(path: Path) -> Database:
    return open_reader(path, JournalError)


def senders(database: Database) -> list[str]:
    return [row["sender"] for row in database.rows(SENDERS)]


def reopened(path: Path) -> list[str]:
    database = open_reader(path, InboxError)
    try:
        return senders(database)
    finally:
        database.close()


@pytest.mark.parametrize("package", [INBOX, JOURNAL])
def test_a_file_is_made_with_its_folder_and_the_newest_schema(folder: Path, package: str) -> None:
    path = folder / "new" / "folder with ?#% in its name" / "x.db"

    database = open_writer(path, package, StoreError)

    version = database.row("PRAGMA user_version")
    mode = database.row("PRAGMA journal_mode")
    foreign_keys = database.row("PRAGMA foreign_keys")
    synchronous = database.row("PRAGMA synchronous")
    database.close()
    assert version is not None
    assert version[0] == newest(package)
    assert mode is not None
    assert mode[0] == "wal"
    assert foreign_keys is not None
    assert foreign_keys[0] == 1
    assert synchronous is not None
    assert synchronous[0] == 2
    assert path.stat().st_mode & 0o007 == 0


def test_an_empty_file_is_made_a_database(path: Path) -> None:
    path.touch()

    database = open_writer(path, INBOX, InboxError)

    assert senders(database) == []
    database.close()


def test_opening_it_again_keeps_what_is_in_it(path: Path, database: Database) -> None:
    put(database, "a")

    again = open_writer(path, INBOX, InboxError)

    assert senders(again) == ["a"]
    again.close()


def test_a_schema_newer_than_the_program_is_refused(path: Path, database: Database) -> None:
    database.close()
    with closing_raw(path) as raw:
        raw.execute("PRAGMA user_version = 99")

    message = f"{path}: schema version 99 is newer than this program's {newest(INBOX)}"
    with pytest.raises(InboxError, match=message):
        open_writer(path, INBOX, InboxError)


@pytest.mark.parametrize("opening", [as_writer, as_reader])
def test_what_is_no_database_is_refused_and_left_alone(
    path: Path, opening: Callable[[Path], Database]
) -> None:
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    before = path.read_bytes()

    with pytest.raises(JournalError, match=f"{path}: file is not a database"):
        opening(path)

    assert path.read_bytes() == before


def test_below_a_file_there_can_be_no_database(folder: Path) -> None:
    (folder / "file").touch()

    with pytest.raises(InboxError, match=r"Not a directory|File exists"):
        open_writer(folder / "file" / "inbox.db", INBOX, InboxError)
    with pytest.raises(InboxError):
        open_reader(folder / "file" / "inbox.db", InboxError)


def test_a_folder_is_no_database(folder: Path) -> None:
    with pytest.raises(InboxError, match="unable to open database file"):
        open_writer(folder, INBOX, InboxError)


def test_what_nobody_has_written_yet_cannot_be_read(path: Path) -> None:
    message = "does not exist yet: has the program that writes it been started"
    with pytest.raises(InboxError, match=message):
        open_reader(path, InboxError)

    assert not path.exists()


def test_a_reader_sees_what_is_committed_while_the_writer_is_open(
    path: Path, database: Database
) -> None:
    reader = open_reader(path, InboxError)
    put(database, "a")

    with database.transaction() as connection:
        connection.execute(INSERT, ("b", b""))
        assert senders(reader) == ["a"]

    assert senders(reader) == ["a", "b"]
    reader.close()


def test_a_reader_cannot_write(path: Path, database: Database) -> None:
    reader = open_reader(path, InboxError)

    with pytest.raises(InboxError, match=r"inbox\.db: attempt to write a readonly database"):
        put(reader, "a")

    assert senders(database) == []
    reader.close()


def test_a_reader_outlives_its_writer(path: Path, database: Database) -> None:
    put(database, "a")
    reader = open_reader(path, InboxError)
    database.close()

    assert senders(reader) == ["a"]
    reader.close()


def test_what_was_closed_can_be_read(path: Path, database: Database) -> None:
    put(database, "a")
    database.close()

    assert reopened(path) == ["a"]


def test_what_was_closed_can_be_read_where_nothing_can_be_written(
    path: Path, database: Database
) -> None:
    put(database, "a")
    database.close()
    assert [file.name for file in path.parent.iterdir()] == ["inbox.db"]

    told = run_on_read_only(
        path.parent,
        """
        from remediator.database import open_reader
        from remediator.errors import InboxError
        reader = open_reader(folder / "inbox.db", InboxError)
        print([row["sender"] for row in reader.rows("SELECT sender FROM delivery")])
        """,
    )

    assert told == "['a']\n"


def test_a_read_only_folder_is_told_when_it_should_be_written(folder: Path) -> None:
    told = run_on_read_only(
        folder,
        """
        from remediator.database import open_writer
        from remediator.errors import InboxError
        try:
            open_writer(folder / "inbox.db", "remediator.inbox", InboxError)
        except InboxError as error:
            print(error)
        """,
    )

    assert told == (f"{folder}/inbox.db: [Errno 30] Read-only file system: '{folder}/inbox.db'\n")


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(folder: Path) -> None:
    told = run_on_tiny_disk(
        folder,
        """
        from remediator.database import open_writer
        from remediator.errors import InboxError
        inbox = open_writer(folder / "inbox.db", "remediator.inbox", InboxError)
        stored = 0
        insert = "INSERT INTO delivery (received_at, sender, body) VALUES ('', ?, ?)"
        try:
            while True:
                with inbox.transaction() as connection:
                    connection.execute(insert, (f"{stored}/1", b"x" * 2000))
                    connection.execute(insert, (f"{stored}/2", b"x" * 2000))
                stored += 1
        except InboxError as error:
            print(error)
        rows = inbox.rows("SELECT sender FROM delivery ORDER BY id")
        expected = [f"{n}/{half}" for n in range(stored) for half in (1, 2)]
        print(stored > 3, [row["sender"] for row in rows] == expected)
        try:
            with inbox.transaction() as connection:
                connection.execute(insert, ("too large again", b"x" * 100_000))
        except InboxError as error:
            print(error)
        # What was stored can be taken and forgotten, and then there is room again.
        inbox.close()
        inbox = open_writer(folder / "inbox.db", "remediator.inbox", InboxError)
        print(len(inbox.rows("SELECT 1 FROM delivery")) == 2 * stored)
        print([row[0] for row in inbox.rows("PRAGMA integrity_check")])
        inbox.close()
        """,
        size="192k",
    )

    full = "inbox.db: database or disk is full"
    assert told.splitlines() == [full, "True True", full, "True", "['ok']"]


def test_there_is_no_room_for_a_database_on_a_full_disk(folder: Path) -> None:
    told = run_on_tiny_disk(
        folder,
        """
        from remediator.database import open_writer
        from remediator.errors import InboxError
        (folder / "full").write_bytes(b"x" * 60_000)
        try:
            open_writer(folder / "inbox.db", "remediator.inbox", InboxError)
        except InboxError as error:
            print(error)
        """,
        size="64k",
    )

    assert told.startswith(f"{folder}/inbox.db: ")
    assert "full" in told or "disk I/O error" in told


def garbage_on(path: Path, page: int) -> None:
    """Overwrite one page of a file that nobody has in memory."""
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


def test_a_damaged_file_is_found_out_at_its_opening(path: Path, database: Database) -> None:
    for number in range(200):
        put(database, f"{number} {'x' * 500}")
    database.close()
    garbage_on(path, 9)

    with pytest.raises(InboxError, match=f"{path}: database disk image is malformed: .*Page 9"):
        open_writer(path, INBOX, InboxError)


def test_once_it_is_found_damaged_nothing_is_read_or_written_any_more(
    path: Path, database: Database
) -> None:
    for number in range(200):
        put(database, f"{number} {'x' * 500}")
    database.close()
    reader = open_reader(path, InboxError)
    garbage_on(path, 9)

    malformed = r"inbox\.db: database disk image is malformed"
    with pytest.raises(InboxError, match=malformed):
        reader.rows("SELECT * FROM delivery")
    with pytest.raises(InboxError, match=malformed):
        reader.row("SELECT 1")
    with pytest.raises(InboxError, match=malformed):
        put_alone(reader, "b")
    reader.close()


@pytest.mark.parametrize("write", [put, put_alone])
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_was_removed_is_not_written_any_more(
    path: Path, database: Database, suffix: str, write: Callable[[Database, str], None]
) -> None:
    put(database, "a")
    path.with_name(path.name + suffix).unlink()

    assert not database.is_in_place()
    message = r"inbox\.db was removed or replaced: restart the program that writes it"
    with pytest.raises(InboxError, match=message):
        write(database, "b")
    assert senders(database) == ["a"]


def test_a_reader_of_what_was_closed_notices_that_it_is_written_again(path: Path) -> None:
    open_writer(path, INBOX, InboxError).close()
    reader = Database(sqlite3.connect(path), InboxError, path)
    assert reader.is_in_place()

    writer = open_writer(path, INBOX, InboxError)

    assert not reader.is_in_place()
    writer.close()
    reader.close()


def test_a_row_inserted_alone_is_committed_and_has_a_number(path: Path, database: Database) -> None:
    numbers = [database.insert(INSERT, (sender, b"{}")) for sender in "ab"]

    assert numbers == [1, 2]
    assert reopened(path) == ["a", "b"]


def test_a_row_that_cannot_be_inserted_alone_is_this_stores_error(database: Database) -> None:
    with pytest.raises(InboxError, match=r"inbox\.db: NOT NULL constraint failed"):
        database.insert(INSERT, (None, b"{}"))

    put_alone(database, "a")
    assert senders(database) == ["a"]


def test_a_row_inserted_inside_a_transaction_is_part_of_it(database: Database) -> None:
    with database.transaction() as connection:
        put_alone(database, "a")
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")

    assert senders(database) == []


def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    put(database, "a")

    with pytest.raises(ZeroDivisionError):
        put_and_fail(database, "b")

    assert senders(database) == ["a"]
    put(database, "c")
    assert senders(database) == ["a", "c"]


def test_a_bad_statement_is_this_stores_error_and_leaves_nothing(database: Database) -> None:
    with pytest.raises(InboxError, match=r"inbox\.db: no such table: missing"):
        put_and_fail(database, "b", "DELETE FROM missing")

    assert senders(database) == []


def test_a_transaction_inside_another_is_part_of_it(path: Path, database: Database) -> None:
    with database.transaction():
        put(database, "a")
        assert reopened(path) == []
    assert reopened(path) == ["a"]

    with pytest.raises(ZeroDivisionError), database.transaction():
        put_and_fail(database, "b")

    assert senders(database) == ["a"]


def test_after_closing_there_is_only_an_error(path: Path) -> None:
    database = open_writer(path, INBOX, InboxError)
    database.close()

    with pytest.raises(InboxError, match="Cannot operate on a closed database"):
        database.row("SELECT 1")


def test_threads_take_turns(database: Database) -> None:
    def write(name: str) -> None:
        for number in range(25):
            put(database, f"{name}{number}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(senders(database)) == sorted(f"{n}{i}" for n in "abcd" for i in range(25))


def test_everything_acknowledged_outlives_a_killed_writer(folder: Path) -> None:
    program = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from remediator.inbox.store import Inbox
inbox = Inbox.for_receiver(Path(sys.argv[1]))
while True:
    print(inbox.store(b"{}", "me", datetime.now(UTC)), flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    writer.stdout.close()
    writer.wait(10)

    path = folder / "inbox.db"
    stored = [sender for sender in reopened(path) if sender == "me"]
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    # One more may have been stored without the answer having got through.
    assert len(stored) - len(acknowledged) in {0, 1}
    database = open_writer(path, INBOX, InboxError)
    put(database, "after")
    assert senders(database)[-1] == "after"
    database.close()


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00+00:00",
        "2026-03-01T12:00:00.000001+00:00",
        "0999-03-01T12:00:00+00:00",
    ],
)
def test_a_time_is_read_as_it_was_written(text: str) -> None:
    at = datetime.fromisoformat(text)

    assert moment(stamp(at)) == at


def test_times_as_text_sort_like_times() -> None:
    here = timezone(timedelta(hours=14))
    times = [
        datetime(2026, 3, 1, 12, tzinfo=UTC),
        datetime(2026, 3, 1, 12, microsecond=5, tzinfo=UTC),
        datetime(2026, 3, 2, 3, tzinfo=here),
        datetime(2026, 3, 1, 14, tzinfo=UTC),
    ]

    assert sorted(times) == times
    assert sorted(stamp(at) for at in times) == [stamp(at) for at in times]


def test_what_is_null_is_none() -> None:
    assert maybe(moment, None) is None
    assert maybe(moment, "2026-03-01T12:00:00+00:00") == datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to a group")
def test_a_new_database_and_its_log_belong_to_the_group_of_their_folder(folder: Path) -> None:
    os.chown(folder, -1, 12345)

    database = open_writer(folder / "inbox.db", INBOX, InboxError)

    with contextlib.closing(database):
        assert {path.stat().st_gid for path in folder.glob("inbox.db*")} == {12345}
        assert len(list(folder.glob("inbox.db*"))) == 3
        assert (folder / "inbox.db").stat().st_mode & 0o777 == 0o640
