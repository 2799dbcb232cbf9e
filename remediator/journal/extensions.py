"""Extensions: who keeps a container from the idle stop, and until when."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from remediator.core.extensions import Extension, Keepable, Via
from remediator.database import Database, moment, stamp

# The newest of a run says it all: whoever ends an extension writes one that is over.
_IN_FORCE = (
    "SELECT container, started_at, until FROM extension e WHERE until > ? AND id ="
    " (SELECT max(id) FROM extension WHERE container = e.container AND started_at = e.started_at)"
)
# One run of a container: its full id, and the moment this run started (UTC).
Run = tuple[str, datetime]


class Extensions:
    """Reads and writes of extensions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def give(self, kept: Keepable, extension: Extension, reason: str) -> None:
        """Keep a container's run until then; it counts instead of any earlier one."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO extension (container, started_at, name, until, actor, via, reason,"
                " given_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    kept.target.id,
                    stamp(kept.target.started_at),
                    kept.name,
                    stamp(extension.until),
                    extension.actor,
                    extension.via.value,
                    reason,
                    stamp(extension.given_at),
                ),
            )

    def last(self, container: str, started_at: datetime | None) -> Extension | None:
        """Return the newest extension of a run, or of any run where nobody knows which."""
        row = self._database.row(
            "SELECT * FROM extension WHERE container = ? AND (? IS NULL OR started_at = ?)"
            " ORDER BY id DESC LIMIT 1",
            (container, *(2 * (None if started_at is None else stamp(started_at),))),
        )
        return None if row is None else _extension(row)

    def in_force(self, now: datetime) -> Mapping[Run, datetime]:
        """Return until when each run is kept that is kept at *now*."""
        rows = self._database.rows(_IN_FORCE, (stamp(now),))
        return {(r["container"], moment(r["started_at"])): moment(r["until"]) for r in rows}


def _extension(row: sqlite3.Row) -> Extension:
    return Extension(
        until=moment(row["until"]),
        actor=row["actor"],
        via=Via.of(row["via"]),
        given_at=moment(row["given_at"]),
    )
