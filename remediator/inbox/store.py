"""The inbox: deliveries and operators' commands, durable before they are acknowledged.

The network side writes it and the worker reads it. How far the worker has come is in the journal,
so that taking a delivery and writing what follows from it are one transaction.
"""

import logging
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from remediator.database import Database, Shape, moment, open_reader, open_writer, stamp
from remediator.errors import InboxError
from remediator.high_water import HighWaterMark
from remediator.inbox.numbers import make_good, newest, next_of, note

log = logging.getLogger(__name__)

FILE = "inbox.db"
_INSERT = {
    table: f"INSERT INTO {table} (id, received_at, {by}, body) VALUES ({next_of(table)}, ?, ?, ?)"  # noqa: S608
    for table, by in (("delivery", "sender"), ("command", "actor"))
}
# A body of a thousand alerts is 1 MB: in larger pages, and without spilling over before its commit,
# it costs half as much. Alertmanager waits while it is looked through, which for a million of
# deliveries would take seconds, twice; where it is damaged is found by who reads there.
_SHAPE = Shape(page_bytes=16 * 1024, cache_kib=8 * 1024, look_bytes=32 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored delivery: its number, when and from where it came, and the body as sent."""

    id: int
    received_at: datetime
    sender: str
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """One stored command: its number, when and by whom it was given, and the body as stored."""

    id: int
    received_at: datetime
    actor: str
    body: bytes


def _refuse_bait(path: Path) -> None:
    """Raise InboxError for a link, which may lead anywhere, and for a pipe, which keeps waiting."""
    try:
        found = path.lstat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise InboxError(f"{path} is no plain file: see who put it there, then remove it")


class Inbox:
    """The inbox of one state folder."""

    def __init__(
        self, database: Database, marks: Mapping[str, HighWaterMark] | None = None
    ) -> None:
        self._database = database
        self._marks = marks or {}
        self.lost = 0

    @classmethod
    def for_receiver(cls, folder: Path) -> "Inbox":
        """Open the inbox in *folder* for writing; InboxError if that can't be.

        ``lost`` is how many acknowledged deliveries and commands are not there any more.
        """
        inbox = cls(open_writer(folder / FILE, __package__ or "", InboxError, shape=_SHAPE))
        inbox._check(folder)
        return inbox

    @classmethod
    def for_worker(cls, folder: Path) -> "Inbox":
        """Open the inbox in *folder* for reading; InboxError while there is none.

        The folder belongs to the receiver's user, and the worker is root: only a plain file is
        opened, and nothing that its schema says is trusted.
        """
        _refuse_bait(folder / FILE)
        return cls(open_reader(folder / FILE, InboxError, trusted=False))

    def store(self, body: bytes, sender: str, now: datetime) -> int:
        """Store a delivery and return its number; it is on the disk when this returns."""
        return self._insert("delivery", [(stamp(now), sender, body)])[0]

    def store_all(self, deliveries: Sequence[tuple[bytes, str]], now: datetime) -> list[int]:
        """Store bodies with their senders, all of them or none, as `store` does.

        They wait for the disk once, which takes longer than all the rest.
        """
        at = stamp(now)
        rows = [(at, sender, body) for body, sender in deliveries]
        return self._insert("delivery", rows)

    def give(self, body: bytes, actor: str, now: datetime) -> int:
        """Store a command of *actor* and return its number; durable as a delivery is."""
        return self._insert("command", [(stamp(now), actor, body)])[0]

    def after(self, last: int, most: int = 64) -> list[Stored]:
        """Return up to *most* deliveries with a number above *last*, the oldest first."""
        rows = self._database.rows(
            "SELECT id, received_at, sender, body FROM delivery WHERE id > ? ORDER BY id LIMIT ?",
            (last, most),
        )
        return [Stored(r["id"], _when(r["received_at"]), r["sender"], r["body"]) for r in rows]

    def commands_after(self, last: int, most: int = 64) -> list[StoredCommand]:
        """Return up to *most* commands with a number above *last*, the oldest first.

        An inbox that its receiver has not migrated yet holds none.
        """
        if not self._database.row("SELECT 1 FROM sqlite_schema WHERE name = 'command'"):
            return []
        rows = self._database.rows(
            "SELECT id, received_at, actor, body FROM command WHERE id > ? ORDER BY id LIMIT ?",
            (last, most),
        )
        return [StoredCommand(r["id"], _when(r["received_at"]), *r[2:]) for r in rows]

    def is_in_place(self) -> bool:
        """Tell whether the inbox that was opened is still the one in its folder."""
        return self._database.is_in_place()

    def identity(self) -> str:
        """Return the name that this inbox was given when it was made."""
        row = self._database.row("SELECT name FROM identity")
        return str(row["name"]) if row else ""

    def newest(self) -> int:
        """Return the number of the newest delivery that was ever stored, 0 if none was."""
        return newest(self._database, "delivery")

    def forget(self, delivery: int, command: int, before: datetime, most: int) -> int:
        """Delete up to *most* rows of each kind that are numbered at most so and are older.

        Return how many. The numbers are never given again.
        """
        forgotten = 0
        with self._database.transaction() as connection:
            for table, upto in (("delivery", delivery), ("command", command)):
                note(connection, table)
                cursor = connection.execute(
                    f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id <= ?"  # noqa: S608
                    " AND received_at < ? ORDER BY id LIMIT ?)",
                    (upto, stamp(before), most),
                )
                forgotten += cursor.rowcount
        return forgotten

    def close(self) -> None:
        """Close the database."""
        self._database.close()
        for mark in self._marks.values():
            mark.close()

    def _check(self, folder: Path) -> None:
        """Compare with the high-water marks, and see that no number is given twice."""
        identity = self.identity()
        try:
            self._marks = {
                table: HighWaterMark(folder / f"{table}.mark", identity) for table in _INSERT
            }
        except OSError as error:
            self._database.close()
            raise InboxError(f"{folder}: {error.strerror}") from error
        for table, mark in self._marks.items():
            lost = make_good(self._database, table, mark)
            self.lost += lost
            if lost:
                log.error(
                    "the inbox has lost the newest %s of its %s rows: see the disk", lost, table
                )

    def _insert(self, table: str, rows: Sequence[tuple[str, str, bytes]]) -> list[int]:
        sql = _INSERT[table]
        if len(rows) == 1:
            numbers = [self._database.insert(sql, rows[0])]
        else:
            with self._database.transaction() as connection:
                numbers = [int(connection.execute(sql, row).lastrowid or 0) for row in rows]
        mark = self._marks.get(table)
        if mark is not None and numbers:
            mark.write(numbers[-1])
        return numbers


def _when(text: str) -> datetime:
    """Return when it came; the beginning of time for what no receiver of ours has written."""
    try:
        return moment(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.fromtimestamp(0, UTC)
