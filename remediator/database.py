"""Open SQLite the one way this project does: WAL, every commit on the disk before it returns.

Each database has one writing program.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from remediator.database_files import DatabaseFiles, make
from remediator.database_schema import check_version, migrate
from remediator.errors import StoreError
from remediator.shared_sync import SharedSync

_BUSY_SECONDS = 10.0
# A file of some gigabytes is looked through at its opening for no longer than this, by an SQLite
# that lets itself be interrupted at it.
_LOOK_THROUGH_SECONDS = 10.0
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Database:
    """One open database; safe to share between threads, which take turns.

    Once SQLite has found it damaged, or the disk has refused a sync, nothing more is read or
    written: what is left of it is for a person to save, and what it still says is no ground to act
    on.
    """

    def __init__(self, connection: sqlite3.Connection, error: type[StoreError], path: Path) -> None:
        self._connection = connection
        self._cursor = connection.cursor()
        self._lock = threading.RLock()
        self._error = error
        self._path = path
        self._name = path.name
        self._files = DatabaseFiles(path)
        self._damage: sqlite3.Error | OSError | None = None
        self._sync: SharedSync | None = None

    def share_syncs(self, count: Callable[[], int], durable: Callable[[int], None]) -> None:
        """Let commits of several threads wait for the disk together from now on.

        *count* is asked at each commit, and *durable* told what it said once that commit, or one
        after it, is on the disk.
        """
        with self._lock, self._translated():
            self._sync = SharedSync(f"{self._path}-wal", count, durable)
            # What SQLite still syncs itself keeps the file whole, at checkpoints; the rest we do.
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def is_in_place(self) -> bool:
        """Tell whether the files that were opened are still those that their paths lead to."""
        return self._files.are_in_place()

    @contextlib.contextmanager
    def transaction(self, *, waits: bool = True) -> Iterator[sqlite3.Connection]:
        """Yield the connection inside a transaction: durable when the block ends, or nothing.

        What *waits* not, where syncs are shared, is durable with the next one that does: for what
        a crash may undo, since it is done again.
        """
        with self._translated():
            with self._lock:
                if self._connection.in_transaction:
                    yield self._connection
                    return
                self._refuse()
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                    raise
                commit = self._commit()
            if waits:
                self._wait(commit)

    def _commit(self) -> int:
        """Commit; return its number for `_wait`."""
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            # A full disk can leave the transaction open, and the next one would join it.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return self._sync.committed() if self._sync else 0

    def _wait(self, commit: int) -> None:
        try:
            if self._sync is not None:
                self._sync.wait(commit)
        except OSError as error:
            # Nobody knows what of the newest rows is on the disk, and another sync may hide it.
            self._damage = error
            raise self._error(f"{self._name} cannot be brought to the disk: {error}") from error

    def insert(self, sql: str, parameters: tuple[object, ...]) -> int:
        """Insert one row, in a transaction of its own, and return its number.

        It is durable when this returns, and there sooner than by `transaction`, which costs two
        more statements.
        """
        with self._lock:
            if self._damage is not None or not self._files.are_in_place():
                self._refuse()
            try:
                number = int(self._cursor.execute(sql, parameters).lastrowid or 0)
            except sqlite3.Error as error:
                raise self._told(error) from error
            if self._sync is None:
                return number
            commit = self._sync.committed()
        self._wait(commit)
        return number

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        with self._lock, self._translated():
            return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Row | None:
        """Return the first row of a query, or None."""
        with self._lock, self._translated():
            found: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
            return found

    def close(self) -> None:
        """Close the connection; what was committed stays."""
        with self._lock:
            self._connection.close()
            if self._sync is not None:
                self._sync.close()

    def _refuse(self) -> None:
        """Raise what is wrong, if anything is."""
        self._refuse_if_damaged()
        if not self.is_in_place():
            # What goes into a file without a name is gone with its last reader.
            raise self._error(
                f"{self._name} was removed or replaced: restart the program that writes it"
            )

    def _refuse_if_damaged(self) -> None:
        if self._damage is not None:
            raise self._error(f"{self._name}: {self._damage}") from self._damage

    def _told(self, error: sqlite3.Error) -> StoreError:
        # Only the lowest byte says what it is, the rest where.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            self._damage = error
        return self._error(f"{self._name}: {error}")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        self._refuse_if_damaged()
        try:
            yield
        except sqlite3.Error as error:
            raise self._told(error) from error


@dataclass(frozen=True, slots=True)
class Shape:
    """How SQLite keeps a database: bytes of a page of a new one, KiB of pages held in memory.

    A file of more than ``look_bytes`` is not looked through at its opening: that reads all of it.
    """

    page_bytes: int = 4096
    cache_kib: int = 2000
    look_bytes: int | None = None


_USUAL = Shape()


def open_writer(
    path: Path, package: str, error: type[StoreError], mode: int = 0o640, shape: Shape = _USUAL
) -> Database:
    """Open *path* for its writing program, made and migrated by *package*'s ``schema`` files."""
    with _explained(path, error):
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, mode)
        connection = _connect(f"{path.resolve().as_uri()}?mode=rw")
        try:
            connection.execute(f"PRAGMA page_size = {shape.page_bytes}")
            connection.execute(f"PRAGMA cache_size = -{shape.cache_kib}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            if shape.look_bytes is None or path.stat().st_size <= shape.look_bytes:
                _look_through(connection)
            migrate(connection, package)
        except sqlite3.Error:
            # A migration that failed may have left its transaction open, and with it the lock.
            connection.close()
            raise
    return Database(connection, error, path)


def open_reader(
    path: Path, error: type[StoreError], package: str | None = None, *, trusted: bool = True
) -> Database:
    """Open *path* for reading only; the writer need not run.

    With *package*, a database that its writer has not brought to the newest schema is refused.
    Unless *trusted*, what the file itself defines may call no function that does anything.
    """
    with _explained(path, error):
        if not path.exists():
            raise error(f"{path} does not exist yet: has the program that writes it been started?")
        uri = path.resolve().as_uri()
        try:
            connection = _connect_to_read(f"{uri}?mode=ro")
        except sqlite3.OperationalError:
            if path.with_name(path.name + "-wal").exists():
                raise
            # Closed cleanly by its writer, in a folder where we may not make the -shm file.
            connection = _connect_to_read(f"{uri}?mode=ro&immutable=1")
        if not trusted:
            connection.execute("PRAGMA trusted_schema = OFF")
        if package is not None:
            check_version(connection, path, package, error)
    return Database(connection, error, path)


def stamp(moment: datetime) -> str:
    """Return *moment* as text that sorts in time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def moment(text: str) -> datetime:
    """Return the time that `stamp` wrote."""
    return datetime.fromisoformat(text)


def maybe(parse: Callable[[str], datetime], text: str | None) -> datetime | None:
    """Return ``parse(text)``, or None for NULL."""
    return None if text is None else parse(text)


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    return connection


def _connect_to_read(uri: str) -> sqlite3.Connection:
    connection = _connect(uri)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        # While it is open, nobody can make anew what is wrong with the files beside it.
        connection.close()
        raise
    return connection


def _look_through(connection: sqlite3.Connection) -> None:
    """Raise DatabaseError if the file is damaged: to find it out later may be in the middle."""
    deadline = time.monotonic() + _LOOK_THROUGH_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        found = "ok"
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise sqlite3.DatabaseError(f"database disk image is malformed: {' '.join(found.split())}")


@contextlib.contextmanager
def _explained(path: Path, error: type[StoreError]) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as cause:
        raise error(f"{path}: {cause}") from cause
