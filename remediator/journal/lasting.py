"""What remediations did that has to be put back, however often the worker dies meanwhile."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.database import Database, moment, stamp

_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(minutes=15)

# Still there, and its incident is closed: nothing asks for it any more. A time further ahead than
# anything is put off was written by a clock that has been set back since.
_DUE = (
    "SELECT l.attempt FROM lasting l JOIN attempt a ON a.id = l.attempt"
    " JOIN incident i ON i.id = a.incident"
    " WHERE l.ended_at IS NULL AND i.closed_at IS NOT NULL"
    " AND (l.next_try_at <= ? OR l.next_try_at > ?)"
    " ORDER BY l.attempt LIMIT ?"
)
_BUSY = (
    "SELECT 1 FROM attempt a JOIN attempt b ON b.target = a.target"
    " LEFT JOIN lasting l ON l.attempt = b.id"
    " WHERE a.id = ? AND (b.state IN ('planned', 'running', 'unknown')"
    " OR (l.state = 'undoing' AND l.attempt <> a.id)) LIMIT 1"
)
_OLDEST = (
    "SELECT l.first FROM lasting l JOIN attempt a ON a.id = l.attempt"
    " JOIN attempt b ON b.target = a.target AND b.remediation = a.remediation"
    " WHERE b.id = ? AND l.ended_at IS NULL ORDER BY l.attempt LIMIT 1"
)
_STACK = (
    "SELECT l.attempt, l.ended_at IS NULL AND i.closed_at IS NULL AS remains FROM lasting l"
    " JOIN attempt a ON a.id = l.attempt JOIN incident i ON i.id = a.incident"
    " WHERE l.first = (SELECT first FROM lasting WHERE attempt = ?) ORDER BY l.attempt"
)


@dataclass(frozen=True, slots=True)
class Lasted:
    """What became of it so far: when, whether that is the end, and a sentence."""

    at: datetime
    is_over: bool
    result: str


class LastingEffects:
    """Reads and writes of what lasts. An attempt is known by its number."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, attempt: int, now: datetime) -> None:
        """Have it put back in time; call it in the transaction that begins the attempt."""
        with self._database.transaction() as connection:
            oldest = connection.execute(_OLDEST, (attempt,)).fetchone()
            connection.execute(
                "INSERT INTO lasting (attempt, first, next_try_at) VALUES (?, ?, ?)",
                (attempt, oldest["first"] if oldest else attempt, stamp(now)),
            )

    def drop(self, attempt: int) -> None:
        """Forget it: nothing was changed."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM lasting WHERE attempt = ?", (attempt,))

    def due(self, now: datetime, most: int = 32) -> list[int]:
        """Return what nothing asks for any more and what is to be put back by *now*."""
        rows = self._database.rows(_DUE, (stamp(now), stamp(now + _LONGEST_WAIT), most))
        return [row["attempt"] for row in rows]

    def take(self, attempt: int, now: datetime) -> int | None:
        """Begin to put it back; return which try that is.

        None if it is over, or while something else is done to the target. The next try is put off
        before this one: a crash during it does not lead in a circle.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT tries FROM lasting WHERE attempt = ? AND ended_at IS NULL", (attempt,)
            ).fetchone()
            if row is None or connection.execute(_BUSY, (attempt,)).fetchone():
                return None
            tries = int(row["tries"]) + 1
            # The exponent is bounded so that a long outage cannot overflow a timedelta.
            wait = min(_FIRST_WAIT * 2 ** min(tries - 1, 10), _LONGEST_WAIT)
            connection.execute(
                "UPDATE lasting SET state = 'undoing', tries = ?, next_try_at = ?"
                " WHERE attempt = ?",
                (tries, stamp(now + wait), attempt),
            )
        return tries

    def put_off(self, attempt: int, why: str) -> None:
        """Leave it in force until the next try."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE lasting SET state = 'in force', result = ? WHERE attempt = ?",
                (why, attempt),
            )

    def end(self, attempt: int, result: str, now: datetime) -> None:
        """Settle it: there is nothing to put back any more."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE lasting SET state = 'undone', result = ?, ended_at = ? WHERE attempt = ?",
                (result, stamp(now), attempt),
            )

    def stack(self, attempt: int) -> list[tuple[int, bool]]:
        """Return all that has lasted on its target since nothing did, and what of it must remain.

        In the order in which it began.
        """
        rows = self._database.rows(_STACK, (attempt,))
        return [(row["attempt"], bool(row["remains"])) for row in rows]

    def is_being_undone(self, target_key: str) -> bool:
        """Whether something is being put back on a target."""
        row = self._database.row(
            "SELECT 1 FROM lasting l JOIN attempt a ON a.id = l.attempt"
            " WHERE l.ended_at IS NULL AND l.state = 'undoing' AND a.target = ?",
            (target_key,),
        )
        return row is not None

    def in_force(self) -> int:
        """Return how much has not been put back."""
        row = self._database.row("SELECT count(*) AS n FROM lasting WHERE ended_at IS NULL")
        return int(row["n"]) if row else 0

    def of_attempt(self, attempt: int) -> Lasted | None:
        """Return what became of what an attempt did, None while there is nothing to tell."""
        row = self._database.row("SELECT * FROM lasting WHERE attempt = ?", (attempt,))
        if row is None or row["result"] is None:
            return None
        return Lasted(
            at=moment(row["ended_at"] or row["next_try_at"]),
            is_over=row["ended_at"] is not None,
            result=row["result"],
        )
