"""What keeps an operator in charge: pauses, the breaker, and the commands that were given."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.case import Breaker
from remediator.core.clock_steps import ClockMark
from remediator.database import Database, maybe, moment, stamp
from remediator.journal.incidents import to_json


@dataclass(frozen=True, slots=True)
class PauseRecord:
    """A stretch in which nothing new is begun; ``ended_at`` is None while it lasts."""

    reason: str
    actor: str
    began_at: datetime
    ended_at: datetime | None
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class BreakerRecord:
    """One opening of the breaker; the last three are None while it is open."""

    opened_at: datetime
    because: str
    closed_at: datetime | None
    closed_by: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """A command of an operator and the worker's answer to it."""

    actor: str
    action: str
    argument: Mapping[str, str]
    given_at: datetime
    taken_at: datetime
    accepted: bool
    answer: str
    incident: int | None


class Operations:
    """Reads and writes of all three."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause_reason(self) -> str | None:
        """Return why new attempts are paused, or None."""
        pause = self.pause_in_force()
        return f"{pause.reason} ({pause.actor})" if pause else None

    def pause_in_force(self) -> PauseRecord | None:
        """Return the pause that lasts, or None."""
        row = self._database.row("SELECT * FROM pause WHERE ended_at IS NULL ORDER BY id DESC")
        if row is None:
            return None
        return PauseRecord(row["reason"], row["actor"], moment(row["began_at"]), None, None)

    def pause(self, reason: str, actor: str, now: datetime) -> None:
        """Begin a pause; one that lasts already is ended by it, and so gets a new reason."""
        with self._database.transaction() as connection:
            self.resume(actor, now)
            connection.execute(
                "INSERT INTO pause (reason, actor, began_at) VALUES (?, ?, ?)",
                (reason, actor, stamp(now)),
            )

    def resume(self, actor: str, now: datetime) -> bool:
        """End the pause; False if there was none."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE pause SET ended_at = ?, ended_by = ? WHERE ended_at IS NULL",
                (stamp(now), actor),
            )
        return cursor.rowcount > 0

    def breaker(self) -> Breaker:
        """Return how the breaker stands, as decisions need to know it."""
        opened = self.breaker_in_force()
        row = self._database.row("SELECT max(closed_at) AS closed_at FROM breaker")
        closed_at = maybe(moment, row["closed_at"]) if row else None
        return Breaker(opened.because if opened else None, closed_at)

    def breaker_in_force(self) -> BreakerRecord | None:
        """Return the opening that lasts, or None while the breaker is closed."""
        row = self._database.row("SELECT * FROM breaker WHERE closed_at IS NULL")
        if row is None:
            return None
        return BreakerRecord(moment(row["opened_at"]), row["because"], None, None, None)

    def open_breaker(self, because: str, now: datetime) -> bool:
        """Open the breaker; False if it is open already."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO breaker (opened_at, because) VALUES (?, ?)",
                (stamp(now), because),
            )
        return cursor.rowcount == 1

    def close_breaker(self, actor: str, reason: str, now: datetime) -> bool:
        """Close the breaker; False if it is not open."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE breaker SET closed_at = ?, closed_by = ?, reason = ?"
                " WHERE closed_at IS NULL",
                (stamp(now), actor, reason),
            )
        return cursor.rowcount == 1

    def clock_mark(self) -> ClockMark | None:
        """Return the clock as it was last kept."""
        row = self._database.row("SELECT boot, uptime, at FROM clock")
        if row is None:
            return None
        return ClockMark(row["boot"], timedelta(seconds=row["uptime"]), moment(row["at"]))

    def clock_offset(self) -> timedelta:
        """Return by how much the clock was set while a pause for it has lasted."""
        row = self._database.row("SELECT offset_seconds FROM clock")
        return timedelta(seconds=row["offset_seconds"]) if row else timedelta()

    def keep_clock(self, mark: ClockMark, offset: timedelta | None = None) -> None:
        """Keep the clock as it is, and by how much it was set if that is new."""
        seconds = None if offset is None else offset.total_seconds()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO clock (id, boot, uptime, at, offset_seconds)"
                " VALUES (1, ?, ?, ?, coalesce(?, 0)) ON CONFLICT DO UPDATE SET"
                " boot = excluded.boot, uptime = excluded.uptime, at = excluded.at,"
                " offset_seconds = coalesce(?, offset_seconds)",
                (mark.boot, mark.uptime.total_seconds(), stamp(mark.at), seconds, seconds),
            )

    def keep(self, inbox: str, number: int, command: CommandRecord) -> None:
        """Keep what became of command *number* of *inbox*."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO command (inbox, number, incident, actor, action, argument, given_at,"
                " taken_at, accepted, answer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    inbox,
                    number,
                    command.incident,
                    command.actor,
                    command.action,
                    to_json(command.argument),
                    stamp(command.given_at),
                    stamp(command.taken_at),
                    command.accepted,
                    command.answer,
                ),
            )

    def answer_to(self, inbox: str, number: int) -> CommandRecord | None:
        """Return what became of a command, None while nobody has taken it."""
        row = self._database.row(
            "SELECT * FROM command WHERE inbox = ? AND number = ?", (inbox, number)
        )
        return None if row is None else command_of(row)

    def of_incident(self, incident: int) -> list[CommandRecord]:
        """Return the commands about *incident* in order."""
        rows = self._database.rows(
            "SELECT * FROM command WHERE incident = ? ORDER BY id", (incident,)
        )
        return [command_of(row) for row in rows]


def command_of(row: sqlite3.Row) -> CommandRecord:
    """Return the command that a row of its table stands for."""
    return CommandRecord(
        actor=row["actor"],
        action=row["action"],
        argument=json.loads(row["argument"]),
        given_at=moment(row["given_at"]),
        taken_at=moment(row["taken_at"]),
        accepted=bool(row["accepted"]),
        answer=row["answer"],
        incident=row["incident"],
    )
