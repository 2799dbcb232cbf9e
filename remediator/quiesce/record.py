"""The durable record of what was stopped and has to run again.

Worker and command line write it, each only while it holds the `QuiesceLock`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Row

from remediator.core.quiescing import Member, MemberKind
from remediator.database import Database, moment, open_reader, open_writer, stamp
from remediator.errors import RecordError

FILE = "quiesce.db"
_KEPT = 100


@dataclass(frozen=True, slots=True)
class Recorded:
    """A member in the record: its place, and what is wrong if it could not be restored so far."""

    quiesce: int
    position: int
    member: Member
    is_stopped: bool
    is_outstanding: bool
    trouble: str


@dataclass(frozen=True, slots=True)
class QuiesceRecord:
    """One quiesce that is not over: why it was, since when, and all of its members."""

    id: int
    why: str
    began_at: datetime
    members: tuple[Recorded, ...]

    @property
    def outstanding(self) -> tuple[Recorded, ...]:
        """The members that ran and do not run again yet, as far as is known."""
        return tuple(recorded for recorded in self.members if recorded.is_outstanding)


class Record:
    """The record of one state folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def for_writing(cls, folder: Path) -> "Record":
        """Open the record in *folder*, made if there is none; RecordError if that can't be."""
        return cls(open_writer(folder / FILE, __package__ or "", RecordError))

    @classmethod
    def for_reading(cls, folder: Path) -> "Record":
        """Open the record in *folder* for looking; RecordError while there is none."""
        return cls(open_reader(folder / FILE, RecordError, __package__ or ""))

    def begin(self, why: str, members: Sequence[Member], now: datetime) -> QuiesceRecord:
        """Write down all *members* before any of them is touched; return what was written."""
        with self._database.transaction() as connection:
            # What is over is history: the last ones are kept for whoever asks.
            connection.execute(
                "DELETE FROM quiesce WHERE id <= (SELECT max(id) FROM quiesce) - ?"
                " AND id NOT IN (SELECT quiesce FROM member WHERE outstanding = 1)",
                (_KEPT,),
            )
            cursor = connection.execute(
                "INSERT INTO quiesce (began_at, why) VALUES (?, ?)", (stamp(now), why)
            )
            number = int(cursor.lastrowid or 0)
            connection.executemany(
                "INSERT INTO member (quiesce, position, kind, name, identity, was, ran, must_stop,"
                " steady, alone) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(number, place, *_columns(member)) for place, member in enumerate(members)],
            )
        recorded = (
            Recorded(number, place, member, is_stopped=False, is_outstanding=member.ran, trouble="")
            for place, member in enumerate(members)
        )
        return QuiesceRecord(number, why, now, tuple(recorded))

    def stopping(self, quiesce: int, position: int, now: datetime) -> None:
        """Write down that a member is about to be stopped."""
        self._write(
            "UPDATE member SET stopping_at = ? WHERE quiesce = ? AND position = ?",
            (stamp(now), quiesce, position),
        )

    def stopped(self, quiesce: int, position: int, now: datetime) -> None:
        """Write down that a member is down."""
        self._write(
            "UPDATE member SET stopped_at = ? WHERE quiesce = ? AND position = ?",
            (stamp(now), quiesce, position),
        )

    def restored(self, quiesce: int, position: int, now: datetime) -> None:
        """Write down that a member was seen running again."""
        self._write(
            "UPDATE member SET restored_at = ?, trouble = '' WHERE quiesce = ? AND position = ?",
            (stamp(now), quiesce, position),
        )

    def reopen(self, quiesce: int, position: int) -> None:
        """Write down that a member is to be stopped once more, and has to run again after it."""
        self._write(
            "UPDATE member SET restored_at = NULL WHERE quiesce = ? AND position = ?",
            (quiesce, position),
        )

    def troubled(self, quiesce: int, position: int, trouble: str) -> None:
        """Write down why a member does not run again yet."""
        self._write(
            "UPDATE member SET trouble = ? WHERE quiesce = ? AND position = ?",
            (trouble, quiesce, position),
        )

    def give_up(self, name: str, now: datetime) -> bool:
        """Let go of what is outstanding under *name*, as a person has said; False if nothing is."""
        changed = self._write(
            "UPDATE member SET restored_at = ?, trouble = 'given up'"
            " WHERE outstanding = 1 AND name = ?",
            (stamp(now), name),
        )
        return changed > 0

    def unfinished(self) -> tuple[QuiesceRecord, ...]:
        """Return every quiesce with outstanding members, the newest first."""
        rows = self._database.rows(
            "SELECT * FROM quiesce WHERE id IN"
            " (SELECT quiesce FROM member WHERE outstanding = 1) ORDER BY id DESC"
        )
        return tuple(
            QuiesceRecord(row["id"], row["why"], moment(row["began_at"]), self._members(row["id"]))
            for row in rows
        )

    def stopped_count(self) -> int:
        """Return how many services and containers were stopped and do not run again yet."""
        row = self._database.row(
            "SELECT count(DISTINCT name) AS n FROM member"
            " WHERE outstanding = 1 AND stopping_at IS NOT NULL"
        )
        return int(row["n"]) if row else 0

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _members(self, quiesce: int) -> tuple[Recorded, ...]:
        rows = self._database.rows(
            "SELECT * FROM member WHERE quiesce = ? ORDER BY position", (quiesce,)
        )
        return tuple(_recorded(row) for row in rows)

    def _write(self, sql: str, parameters: tuple[object, ...]) -> int:
        with self._database.transaction() as connection:
            return connection.execute(sql, parameters).rowcount


def _columns(member: Member) -> tuple[object, ...]:
    flags = (member.ran, member.must_stop, member.steady, member.alone)
    return (member.kind.value, member.name, member.identity, member.was, *map(int, flags))


def _recorded(row: Row) -> Recorded:
    member = Member(
        name=row["name"],
        kind=MemberKind(row["kind"]),
        was=row["was"],
        ran=bool(row["ran"]),
        must_stop=bool(row["must_stop"]),
        steady=bool(row["steady"]),
        alone=bool(row["alone"]),
        identity=row["identity"],
    )
    return Recorded(
        quiesce=row["quiesce"],
        position=row["position"],
        member=member,
        is_stopped=row["stopping_at"] is not None,
        is_outstanding=bool(row["outstanding"]),
        trouble=row["trouble"],
    )
