"""Reads of what a whole month brought, for its report."""

import sqlite3
from datetime import UTC, datetime

from remediator.core.attempts import AttemptState
from remediator.core.catalogue import CATALOGUE
from remediator.core.extensions import Via
from remediator.core.months import Month
from remediator.core.report import Ended, Extended, Material, Warned
from remediator.database import Database, maybe, moment, stamp
from remediator.journal.board import Board

# An attempt answers the alert about which it was last decided to act before it began.
_ENDED = (
    "SELECT a.remediation, a.state, a.started_at, a.ended_at, (SELECT d.starts_at FROM decision d"
    " WHERE d.incident = a.incident AND d.verdict = 'remediate'"
    " AND d.at <= coalesce(a.started_at, a.ended_at) ORDER BY d.id DESC LIMIT 1) AS alert_at"
    " FROM attempt a WHERE a.ended_at >= ? AND a.ended_at < ? ORDER BY a.id"
)
_ALERT_OF = (
    "SELECT starts_at FROM decision WHERE incident = ? AND verdict = 'remediate' AND at <= ?"
    " ORDER BY id DESC LIMIT 1"
)
_HOLDS = (
    "SELECT reason, count(*) AS holds, count(DISTINCT incident) AS incidents FROM decision"
    " WHERE verdict = 'hold' AND at >= ? AND at < ? GROUP BY reason"
)
_SILENT = frozenset(offer.name for offer in CATALOGUE if not offer.acts)


class Months:
    """Reads over one month at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._board = Board(database)

    def since(self) -> datetime | None:
        """Return from when on nothing is forgotten yet; None while there is nothing."""
        row = self._database.row("SELECT min(id) AS first FROM incident")
        if row is None or row["first"] is None:
            return None
        # What was closed before the oldest that is left may have been forgotten.
        columns = ("opened_at",) if row["first"] == 1 else ("closed_at", "opened_at")
        for column in columns:
            row = self._database.row(
                f"SELECT min({column}) AS since FROM incident WHERE {column} IS NOT NULL"  # noqa: S608
            )
            if row is not None and row["since"] is not None:
                return moment(row["since"])
        return None

    def material(self, month: Month) -> Material:
        """Return everything that a report of *month* is made of."""
        between = (stamp(month.begin), stamp(month.end))
        return Material(
            stops=self._board.stops(month.begin, month.end),
            attempts=[_ended(row) for row in self._database.rows(_ENDED, between)],
            holds={
                row["reason"]: (row["holds"], row["incidents"])
                for row in self._database.rows(_HOLDS, between)
            },
            warnings=self._warnings(between),
            extensions=self._extensions(between),
            incidents=self._count("incident WHERE opened_at >= ? AND opened_at < ?", between),
            put_back=self._count(
                "lasting WHERE ended_at >= ? AND ended_at < ? AND state = 'undone'", between
            ),
        )

    def alert_at(self, incident: int, begun_at: datetime) -> datetime | None:
        """Return when the alert began that what began at *begun_at* answers."""
        row = self._database.row(_ALERT_OF, (incident, stamp(begun_at)))
        return _time(row["starts_at"]) if row else None

    def _warnings(self, between: tuple[str, str]) -> list[Warned]:
        rows = self._database.rows(
            "SELECT i.owner, i.subject, w.warned_at FROM warning w JOIN incident i"
            " ON i.id = w.incident WHERE w.warned_at >= ? AND w.warned_at < ?",
            between,
        )
        return [
            Warned(row["owner"] or "", row["subject"], moment(row["warned_at"])) for row in rows
        ]

    def _extensions(self, between: tuple[str, str]) -> list[Extended]:
        rows = self._database.rows(
            # One that is over from the beginning only takes an earlier one back.
            "SELECT container, via, given_at FROM extension WHERE given_at >= ? AND given_at < ?"
            " AND until > given_at",
            between,
        )
        return [
            Extended(row["container"], Via.of(row["via"]).value, moment(row["given_at"]))
            for row in rows
        ]

    def _count(self, what: str, parameters: tuple[str, str]) -> int:
        row = self._database.row(f"SELECT count(*) AS n FROM {what}", parameters)  # noqa: S608
        return int(row["n"]) if row else 0


def _ended(row: sqlite3.Row) -> Ended:
    return Ended(
        remediation=row["remediation"],
        state=AttemptState(row["state"]),
        alert_at=_time(row["alert_at"]) if row["alert_at"] else None,
        started_at=maybe(moment, row["started_at"]),
        ended_at=moment(row["ended_at"]),
        acts=row["remediation"] not in _SILENT,
    )


def _time(text: str) -> datetime | None:
    """Return a time as Alertmanager sent it; None for one that is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
