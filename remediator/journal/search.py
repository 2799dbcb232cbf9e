"""Find incidents: by words, owner, container, GPU, alert, state and day, a page at a time.

Pages are cut by number, not by offset, so that the thousandth costs what the first does. Words are
looked for in a stretch of incidents at a time: an answer may have few rows, or none, and still say
where to go on.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from remediator.database import Database, stamp
from remediator.journal.incidents import Incident, incident_of

# So many incidents are read through for words before an answer is given: some 50 ms.
_STRETCH = 40_000
_HIGHEST = "\U0010ffff"
# As many digits as Docker itself shows.
_SHORTEST_ID = 12


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; an empty text and None ask for nothing. Times are aware UTC datetimes.

    ``container`` is a name or the beginning of an id of at least 12 digits, ``gpu`` a UUID or a
    slot such as ``0`` or ``1.0``. Only incidents numbered below ``before`` are found.
    """

    text: str = ""
    owner: str = ""
    container: str = ""
    gpu: str = ""
    alert: str = ""
    state: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An incident, and where its last decision left it if it has no outcome yet."""

    incident: Incident
    last_reason: str | None
    is_decided: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Incidents, the newest first; ``next`` is the next page's ``before``, None at the end."""

    found: tuple[Found, ...]
    next: int | None


class Search:
    """Reads of many incidents at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, query: Query, most: int) -> Page:
        """Return up to *most* incidents that meet *query*."""
        conditions, parameters = _conditions(query)
        lowest = None
        if query.text:
            lowest = self._lowest(query.before)
            conditions.append("i.id >= ?")
            parameters.append(lowest)
        where = " AND ".join(conditions) or "TRUE"
        rows = self._database.rows(
            # Only constants are put together here; what is asked for goes in as parameters.
            f"SELECT i.*, (SELECT d.id FROM decision d WHERE d.incident = i.id"  # noqa: S608
            f" ORDER BY d.id DESC LIMIT 1) AS last_decision FROM incident i WHERE {where}"
            f" ORDER BY i.id DESC LIMIT ?",
            (*parameters, most + 1),
        )
        found = tuple(self._found(row) for row in rows[:most])
        if len(rows) > most:
            return Page(found, found[-1].incident.id)
        return Page(found, lowest if lowest is not None and lowest > 1 else None)

    def count_open(self) -> int:
        """Return how many incidents are open."""
        row = self._database.row("SELECT count(*) AS n FROM incident WHERE closed_at IS NULL")
        return int(row["n"]) if row else 0

    def _lowest(self, before: int | None) -> int:
        """Return down to which number this page reads."""
        if before is None:
            row = self._database.row("SELECT max(id) + 1 AS top FROM incident")
            before = int(row["top"] or 1) if row else 1
        return max(1, before - _STRETCH)

    def _found(self, row: sqlite3.Row) -> Found:
        last = None
        if row["outcome"] is None and row["last_decision"] is not None:
            last = self._database.row(
                "SELECT reason FROM decision WHERE id = ?", (row["last_decision"],)
            )
        return Found(
            incident_of(row), last["reason"] if last else None, row["last_decision"] is not None
        )


def _conditions(query: Query) -> tuple[list[str], list[object]]:
    """Return what an incident ``i`` must meet, as SQL and its parameters."""
    conditions: list[str] = [_STATE[query.state]] if query.state else []
    parameters: list[object] = []
    for condition, value in (
        ("i.id < ?", query.before),
        ("i.owner = ?", query.owner or None),
        ("i.id IN (SELECT incident FROM incident_gpu WHERE gpu = ?)", query.gpu or None),
        ("i.id IN (SELECT incident FROM firing WHERE alertname = ?)", query.alert or None),
        ("i.opened_at >= ?", _stamp(query.since)),
        ("i.opened_at < ?", _stamp(query.until)),
        *((_TEXT, f"%{_literal(word)}%") for word in query.text.split()),
    ):
        if value is not None:
            conditions.append(condition)
            parameters.append(value)
    if query.container:
        conditions.append("(i.title = ? OR i.subject >= ? AND i.subject < ?)")
        parameters += _container(query.container)
    return conditions, parameters


_STATE = {"open": "i.closed_at IS NULL", "closed": "i.closed_at IS NOT NULL"}
_TEXT = (
    "i.title || ' ' || i.fault || ' ' || i.subject || ' ' || coalesce(i.owner, '') || ' '"
    " || coalesce(i.outcome, '') LIKE ? ESCAPE '\\'"
)


def _container(text: str) -> tuple[str, str, str]:
    """Return a name, and between which subjects those lie whose id begins so, if it is an id."""
    beginning = f"container:{text}"
    is_id = len(text) >= _SHORTEST_ID and all(digit in "0123456789abcdef" for digit in text)
    return text, beginning, beginning + _HIGHEST if is_id else beginning


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def _literal(word: str) -> str:
    """Return *word* with nothing in it that LIKE would take for a pattern."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
