"""Attempts and their steps: written before the machine is touched, settled after."""

import logging
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.attempts import IN_PROGRESS, LEGAL_MOVES, AttemptState, PastAttempt, Task
from remediator.core.budgets import Quota
from remediator.core.policy import Limit
from remediator.core.tallies import Tally
from remediator.database import Database, maybe, moment, stamp
from remediator.journal.incidents import keep_gpus
from remediator.journal.tallies import count
from remediator.journal.tasks import task_from_json, task_to_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt; ``target_key`` is the exact identity of what it acts on."""

    id: int
    incident: int
    policy_rule: str
    rung: int
    remediation: str
    target_key: str
    task: Task
    state: AttemptState
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    message: str | None


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of an attempt; ``ended_at`` is None if the worker died during it."""

    name: str
    detail: str
    began_at: datetime
    ended_at: datetime | None
    result: str | None


@dataclass(frozen=True, slots=True)
class Need:
    """What a decision is about; attempts on the target older than ``memory`` are forgotten."""

    target_key: str | None
    quotas: tuple[Quota, ...]
    memory: timedelta = timedelta(days=31)


class Attempts:
    """Reads and writes of attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def plan(self, incident: int, plan: PastAttempt, task: Task) -> int | None:
        """Write down what is about to be tried; None if something is in progress on the target."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT OR IGNORE INTO attempt (incident, policy_rule, rung, remediation, target,"
                " task, state, planned_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    incident,
                    plan.policy_rule,
                    plan.rung,
                    plan.remediation,
                    plan.target_key,
                    task_to_json(task),
                    plan.state.value,
                    stamp(plan.planned_at),
                ),
            )
            if cursor.rowcount != 1:
                return None
            number = int(cursor.lastrowid or 0)
            keep_gpus(connection, incident, str(task.context.get("gpus") or "").split(", "))
        return number

    def claim(self, attempt: int, now: datetime) -> bool:
        """Move a planned attempt to running; False if it is not there to be claimed.

        The row is committed before this returns, so nothing is ever done to a machine that the
        journal does not know about.
        """
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE attempt SET state = ?, started_at = ? WHERE id = ? AND state = ?",
                (AttemptState.RUNNING.value, stamp(now), attempt, AttemptState.PLANNED.value),
            )
        return cursor.rowcount == 1

    def move(self, attempt: int, state: AttemptState, message: str, now: datetime) -> bool:
        """Move an attempt to *state*; False if that is not a legal move from where it stands."""
        ended = None if state in IN_PROGRESS else stamp(now)
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT state, remediation FROM attempt WHERE id = ?", (attempt,)
            ).fetchone()
            if row is None or state not in LEGAL_MOVES[AttemptState(row["state"])]:
                return False
            connection.execute(
                "UPDATE attempt SET state = ?, message = ?, ended_at = ? WHERE id = ?",
                (state.value, message, ended, attempt),
            )
            if ended is not None:
                count(connection, Tally.ATTEMPTS, f"{row['remediation']}/{state.value}")
        return True

    def begin_step(self, attempt: int, name: str, detail: str, now: datetime) -> int:
        """Write down a step that is about to be done; return its number."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO step (attempt, name, detail, began_at) VALUES (?, ?, ?, ?)",
                (attempt, name, detail, stamp(now)),
            )
        return int(cursor.lastrowid or 0)

    def end_step(self, step: int, result: str, now: datetime) -> None:
        """Write down what came of a step."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE step SET ended_at = ?, result = ? WHERE id = ?", (stamp(now), result, step)
            )

    def steps(self, attempt: int) -> list[StepRecord]:
        """Return the steps of an attempt in order."""
        rows = self._database.rows("SELECT * FROM step WHERE attempt = ? ORDER BY id", (attempt,))
        return [
            StepRecord(
                row["name"],
                row["detail"],
                moment(row["began_at"]),
                maybe(moment, row["ended_at"]),
                row["result"],
            )
            for row in rows
        ]

    def attempt(self, attempt: int) -> AttemptRecord | None:
        """Return one attempt, or None."""
        rows = self._records("WHERE id = ?", (attempt,))
        return rows[0] if rows else None

    def of_incident(self, incident: int) -> list[AttemptRecord]:
        """Return the attempts of an incident in order."""
        return self._records("WHERE incident = ? ORDER BY id", (incident,))

    def unsettled(self) -> list[AttemptRecord]:
        """Return the attempts that may still change the machine, or may have.

        One that cannot be read is set aside as failed: it must not keep all others waiting.
        """
        unreadable = []
        records = []
        for row in self._database.rows(
            # The plus has SQLite sort the few of the index, and not look through all in this order.
            "SELECT * FROM attempt WHERE state IN ('planned', 'running', 'unknown') ORDER BY +id"
        ):
            try:
                records.append(_record(row))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                unreadable.append((f"its row cannot be read: {error!r}", row["id"]))
        for message, number in unreadable:
            log.error("attempt %s is set aside: %s", number, message)
            with self._database.transaction() as connection:
                connection.execute(
                    "UPDATE attempt SET state = 'failed', message = ?, ended_at = planned_at"
                    " WHERE id = ?",
                    (message, number),
                )
        return records

    def past(
        self, need: Need, now: datetime, without: int | None = None
    ) -> tuple[PastAttempt, ...]:
        """Return what one decision at *now* can depend on, in order, however many there are.

        That is what counts on its target, all that is in progress, and of each limit that is full
        the newest attempts that fill it. *without* is an attempt about which it is asked whether
        it should still be.
        """
        rows = self._database.rows(
            "SELECT * FROM attempt WHERE state IN ('planned', 'running', 'unknown')"
            " AND id IS NOT ?",
            (without,),
        )
        rows += self._counted(
            "target = ? AND planned_at > ?",
            (need.target_key, stamp(now - need.memory)),
            without,
        )
        for quota in need.quotas:
            for limit in quota.limits:
                rows += self._filling(quota, limit, now, without)
        return tuple(
            _past(row) for row in sorted({row["id"]: row for row in rows}.values(), key=_id)
        )

    def _filling(
        self, quota: Quota, limit: Limit, now: datetime, without: int | None
    ) -> list[sqlite3.Row]:
        """Return the newest attempts that fill *limit*; nothing while it has room."""
        # What is as old as the window is outside, what was planned when a person closed counts.
        since = now - limit.window + timedelta.resolution
        since = since if quota.after is None else max(since, quota.after)
        names = sorted(quota.remediations)
        of_quota = f"remediation IN ({', '.join('?' * len(names))}) AND planned_at >= ?"
        last = self._counted(
            of_quota, (*names, stamp(since)), without, f"LIMIT 1 OFFSET {limit.count - 1}"
        )
        if not last:
            return []
        return self._counted(of_quota, (*names, last[0]["planned_at"]), without)

    def _counted(
        self, where: str, parameters: tuple[object, ...], without: int | None, part: str = ""
    ) -> list[sqlite3.Row]:
        """Return attempts that spend allowance, the newest first."""
        return self._database.rows(
            f"SELECT * FROM attempt WHERE state <> 'refused' AND {where} AND id IS NOT ?"  # noqa: S608
            f" ORDER BY planned_at DESC {part}",
            (*parameters, without),
        )

    def _records(self, where: str, parameters: tuple[object, ...]) -> list[AttemptRecord]:
        rows = self._database.rows(f"SELECT * FROM attempt {where}", parameters)  # noqa: S608
        return [_record(row) for row in rows]


def _id(row: sqlite3.Row) -> int:
    return int(row["id"])


def _past(row: sqlite3.Row) -> PastAttempt:
    return PastAttempt(
        target_key=row["target"],
        policy_rule=row["policy_rule"],
        rung=row["rung"],
        remediation=row["remediation"],
        state=AttemptState(row["state"]),
        planned_at=moment(row["planned_at"]),
        ended_at=maybe(moment, row["ended_at"]),
    )


def _record(row: sqlite3.Row) -> AttemptRecord:
    return AttemptRecord(
        id=row["id"],
        incident=row["incident"],
        policy_rule=row["policy_rule"],
        rung=row["rung"],
        remediation=row["remediation"],
        target_key=row["target"],
        task=task_from_json(row["task"]),
        state=AttemptState(row["state"]),
        planned_at=moment(row["planned_at"]),
        started_at=maybe(moment, row["started_at"]),
        ended_at=maybe(moment, row["ended_at"]),
        message=row["message"],
    )
