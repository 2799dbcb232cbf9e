"""The outbox: notices wait here until somebody has been told."""

from dataclasses import dataclass
from datetime import datetime

from remediator.core.notices import Letter
from remediator.database import Database, maybe, moment, stamp


@dataclass(frozen=True, slots=True)
class NoticeRecord:
    """One notice to one recipient, and what became of it."""

    id: int
    incident: int | None
    letter: Letter
    created_at: datetime
    state: str
    tries: int
    sent_at: datetime | None
    result: str | None


class Notices:
    """Reads and writes of the outbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, incident: int | None, letters: list[Letter], now: datetime) -> None:
        """Have *letters* sent; call it in the transaction that makes true what they say."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT INTO notice (incident, kind, notifier, recipient, subject, body,"
                " created_at, next_try_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        incident,
                        letter.kind.value,
                        letter.notifier,
                        letter.recipient,
                        letter.subject,
                        letter.body,
                        stamp(now),
                        stamp(now),
                    )
                    for letter in letters
                ],
            )

    def due(self, notifier: str, now: datetime, most: int = 32) -> list[NoticeRecord]:
        """Return what *notifier* has to send by *now*, the oldest first."""
        return self._records(
            "WHERE state = 'pending' AND notifier = ? AND next_try_at <= ? ORDER BY id LIMIT ?",
            (notifier, stamp(now), most),
        )

    def of_incident(self, incident: int) -> list[NoticeRecord]:
        """Return the notices of an incident in order."""
        return self._records("WHERE incident = ? ORDER BY id", (incident,))

    def try_again(self, notice: int, at: datetime, why: str) -> None:
        """Leave a notice waiting until *at*. Called before each try too: a crash retries it."""
        self._update("tries = tries + 1, next_try_at = ?, result = ?", (stamp(at), why, notice))

    def note(self, notice: int, why: str) -> None:
        """Keep why the last try was in vain."""
        self._update("result = ?", (why, notice))

    def sent(self, notice: int, now: datetime, result: str) -> None:
        """Settle a notice that was sent."""
        self._update("state = 'sent', sent_at = ?, result = ?", (stamp(now), result, notice))

    def failed(self, notice: int, why: str) -> None:
        """Settle a notice that can never be sent."""
        self._update("state = 'failed', result = ?", (why, notice))

    def waiting(self) -> int:
        """Return how many notices wait to be sent."""
        row = self._database.row("SELECT count(*) AS n FROM notice WHERE state = 'pending'")
        return int(row["n"]) if row else 0

    def _update(self, changes: str, parameters: tuple[object, ...]) -> None:
        with self._database.transaction() as connection:
            connection.execute(f"UPDATE notice SET {changes} WHERE id = ?", parameters)  # noqa: S608

    def _records(self, where: str, parameters: tuple[object, ...]) -> list[NoticeRecord]:
        rows = self._database.rows(f"SELECT * FROM notice {where}", parameters)  # noqa: S608
        return [
            NoticeRecord(
                id=row["id"],
                incident=row["incident"],
                letter=Letter.of(
                    row["kind"], row["notifier"], row["recipient"], row["subject"], row["body"]
                ),
                created_at=moment(row["created_at"]),
                state=row["state"],
                tries=row["tries"],
                sent_at=maybe(moment, row["sent_at"]),
                result=row["result"],
            )
            for row in rows
        ]
