"""The outbox: notices wait here until somebody has been told."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.notices import Letter, NoticeKind
from remediator.database import Database, maybe, moment, stamp

_MOST_IN_DIGEST = 100


@dataclass(frozen=True, slots=True)
class NoticeRecord:
    """One notice to one recipient, and what became of it.

    ``digest`` is the lowest id of those that are told as one, if it is told so.
    """

    id: int
    incident: int | None
    letter: Letter
    created_at: datetime
    state: str
    tries: int
    sent_at: datetime | None
    result: str | None
    digest: int | None = None


class Notices:
    """Reads and writes of the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, incident: int | None, letters: list[Letter], now: datetime) -> None:
        """Have *letters* sent; call it in the transaction that makes true what they say.

        The first of its kind goes at once. One that comes within its patience after another waits,
        so that it goes together with those that wait as well.
        """
        with self._database.transaction() as connection:
            for letter in letters:
                connection.execute(
                    "INSERT INTO notice (incident, kind, notifier, recipient, subject, body, html,"
                    " why, advice, patience, created_at, next_try_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        incident,
                        letter.kind.value,
                        letter.notifier,
                        letter.recipient,
                        letter.subject,
                        letter.body,
                        letter.html,
                        letter.why,
                        letter.advice,
                        letter.patience.total_seconds(),
                        stamp(now),
                        stamp(_first_try(connection, letter, now)),
                    ),
                )

    def due(self, notifier: str, now: datetime, most: int = 32) -> list[NoticeRecord]:
        """Return what *notifier* has to send by *now*, the oldest first."""
        return self._records(
            "WHERE state = 'pending' AND notifier = ? AND next_try_at <= ? ORDER BY id LIMIT ?",
            (notifier, stamp(now), most),
        )

    def together_with(self, notice: NoticeRecord) -> list[NoticeRecord]:
        """Return what can be told as one with a notice, itself included, the oldest first.

        What was told as one once stays so: its second copy must be the same.
        """
        end = "AND state = 'pending' ORDER BY id LIMIT ?"
        if notice.digest is not None:
            return self._records(f"WHERE digest = ? {end}", (notice.digest, _MOST_IN_DIGEST))
        letter = notice.letter
        return self._records(
            "WHERE recipient = ? AND notifier = ? AND kind = ?"
            f" AND digest IS NULL AND patience > 0 {end}",
            (letter.recipient, letter.notifier, letter.kind.value, _MOST_IN_DIGEST),
        )

    def of_incident(self, incident: int) -> list[NoticeRecord]:
        """Return the notices of an incident in order."""
        return self._records("WHERE incident = ? ORDER BY id", (incident,))

    def try_again(self, notices: Sequence[int], at: datetime, why: str) -> None:
        """Leave notices waiting until *at*. Called before each try too: a crash retries them.

        Several are one digest from then on.
        """
        digest = min(notices) if len(notices) > 1 else None
        self._update(
            "tries = tries + 1, next_try_at = ?, result = ?, digest = coalesce(digest, ?)",
            (stamp(at), why, digest),
            notices,
        )

    def note(self, notices: Sequence[int], why: str) -> None:
        """Keep why the last try was in vain."""
        self._update("result = ?", (why,), notices)

    def sent(self, notices: Sequence[int], now: datetime, result: str) -> None:
        """Settle notices that were sent."""
        self._update("state = 'sent', sent_at = ?, result = ?", (stamp(now), result), notices)

    def failed(self, notice: int, why: str) -> None:
        """Settle a notice that can never be sent."""
        self._update("state = 'failed', result = ?", (why,), (notice,))

    def part(self, notices: Sequence[int], now: datetime, why: str) -> None:
        """Have what was one digest sent one by one."""
        self._update(
            "digest = NULL, patience = 0, next_try_at = ?, result = ?", (stamp(now), why), notices
        )

    def waiting(self) -> int:
        """Return how many notices wait to be sent."""
        row = self._database.row("SELECT count(*) AS n FROM notice WHERE state = 'pending'")
        return int(row["n"]) if row else 0

    def _update(self, changes: str, values: tuple[object, ...], notices: Sequence[int]) -> None:
        with self._database.transaction() as connection:
            connection.executemany(
                f"UPDATE notice SET {changes} WHERE id = ?",  # noqa: S608
                [(*values, notice) for notice in notices],
            )

    def _records(self, where: str, parameters: tuple[object, ...]) -> list[NoticeRecord]:
        rows = self._database.rows(f"SELECT * FROM notice {where}", parameters)  # noqa: S608
        return [
            NoticeRecord(
                id=row["id"],
                incident=row["incident"],
                letter=_letter(row),
                created_at=moment(row["created_at"]),
                state=row["state"],
                tries=row["tries"],
                sent_at=maybe(moment, row["sent_at"]),
                result=row["result"],
                digest=row["digest"],
            )
            for row in rows
        ]


def _first_try(connection: sqlite3.Connection, letter: Letter, now: datetime) -> datetime:
    """Return when to send a new letter: later if one of its kind has just been made."""
    if not letter.patience:
        return now
    since = stamp(now - letter.patience)
    found = connection.execute(
        "SELECT 1 FROM notice WHERE recipient = ? AND notifier = ? AND kind = ? AND created_at > ?"
        " LIMIT 1",
        (letter.recipient, letter.notifier, letter.kind.value, since),
    ).fetchone()
    return now if found is None else now + letter.patience


def _letter(row: sqlite3.Row) -> Letter:
    return Letter(
        kind=NoticeKind(row["kind"]),
        notifier=row["notifier"],
        recipient=row["recipient"],
        subject=row["subject"],
        body=row["body"],
        html=row["html"],
        why=row["why"],
        advice=row["advice"],
        patience=timedelta(seconds=row["patience"]),
    )
