"""Counts that last: added to in the transaction that makes true what is counted."""

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime

from remediator.core.delays import bucket_of
from remediator.core.tallies import Tally, Until
from remediator.database import Database

_NAMES = {tally.value: tally for tally in Tally}


def count(connection: sqlite3.Connection, tally: Tally, labels: str, amount: float = 1.0) -> None:
    """Add *amount* inside the transaction that *connection* is in."""
    connection.execute(
        "INSERT INTO tally (name, labels, amount) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
        (tally.value, labels, amount),
    )


class Tallies:
    """Reads and writes of what is counted for good."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> Mapping[tuple[Tally, str], float]:
        """Return every count by what is counted and its labels: some dozens, however old it is."""
        rows = self._database.rows("SELECT name, labels, amount FROM tally")
        return {
            (_NAMES[row["name"]], row["labels"]): row["amount"]
            for row in rows
            if row["name"] in _NAMES
        }

    def delay(self, until: Until, seconds: float) -> None:
        """Count how long it took from an alert's start."""
        labels = f"{until.value}/{bucket_of(seconds)}"
        with self._database.transaction() as connection:
            count(connection, Tally.ALERT_TO_ACTION, labels)
            count(connection, Tally.ALERT_TO_ACTION_SECONDS, until.value, seconds)

    def returned(self, gpu_hours: float, joules: float, until: datetime) -> None:
        """Count what was given back, and that it is counted up to then."""
        with self._database.transaction() as connection:
            count(connection, Tally.GPU_HOURS, "", gpu_hours)
            count(connection, Tally.JOULES, "", joules)
            connection.execute(
                "INSERT OR REPLACE INTO tally (name, labels, amount) VALUES (?, '', ?)",
                (Tally.COUNTED_TO.value, until.timestamp()),
            )

    def counted_to(self) -> datetime | None:
        """Return up to when it is counted what was given back, None if it never was."""
        row = self._database.row(
            "SELECT amount FROM tally WHERE name = ? AND labels = ''", (Tally.COUNTED_TO.value,)
        )
        return None if row is None else datetime.fromtimestamp(row["amount"], UTC)
