"""Questions to administrators and their answers; an approval serves one attempt."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from remediator.core.approvals import Answer, Approval
from remediator.core.attempts import PastAttempt
from remediator.database import Database, maybe, moment, stamp


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """A question with its answer; ``attempt`` is the one that an approval led to."""

    id: int
    incident: int
    remediation: str
    approval: Approval
    answered_at: datetime | None
    attempt: int | None


class Approvals:
    """Reads and writes of approvals."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, incident: int, remediation: str, question: Approval) -> int:
        """Write down a question and return its number."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO approval (incident, policy_rule, rung, remediation, target, asked_at,"
                " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    incident,
                    question.policy_rule,
                    question.rung,
                    remediation,
                    question.target_key,
                    stamp(question.asked_at),
                    stamp(question.expires_at),
                ),
            )
        return int(cursor.lastrowid or 0)

    def waiting(self, incident: int, now: datetime) -> ApprovalRecord | None:
        """Return the newest question about *incident* that can still be answered."""
        found = [
            record
            for record in self.of_incident(incident)
            if record.approval.answer is Answer.WAITING and not record.approval.is_over(now)
        ]
        return found[-1] if found else None

    def answer(self, question: int, answer: Answer, actor: str, reason: str, now: datetime) -> bool:
        """Write an answer down; False if there is one already."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE approval SET answer = ?, actor = ?, reason = ?, answered_at = ?"
                " WHERE id = ? AND answer = 'waiting'",
                (answer.value, actor, reason, stamp(now), question),
            )
        return cursor.rowcount == 1

    def use(self, incident: int, attempt: int, plan: PastAttempt) -> None:
        """Say that *attempt* is the one that was approved: no other may lean on it."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE approval SET attempt = ? WHERE incident = ? AND policy_rule = ?"
                " AND rung = ? AND target = ? AND answer = 'approved' AND attempt IS NULL",
                (attempt, incident, plan.policy_rule, plan.rung, plan.target_key),
            )

    def usable(self, incident: int, attempt: int | None = None) -> tuple[Approval, ...]:
        """Return the questions of *incident*, without approvals that served another *attempt*."""
        return tuple(
            record.approval
            for record in self.of_incident(incident)
            if record.attempt is None or record.attempt == attempt
        )

    def of_incident(self, incident: int) -> list[ApprovalRecord]:
        """Return the questions about *incident* in order."""
        rows = self._database.rows(
            "SELECT * FROM approval WHERE incident = ? ORDER BY id", (incident,)
        )
        return [_record(row) for row in rows]


def _record(row: sqlite3.Row) -> ApprovalRecord:
    return ApprovalRecord(
        id=row["id"],
        incident=row["incident"],
        remediation=row["remediation"],
        approval=Approval(
            policy_rule=row["policy_rule"],
            rung=row["rung"],
            target_key=row["target"],
            asked_at=moment(row["asked_at"]),
            expires_at=moment(row["expires_at"]),
            answer=Answer(row["answer"]),
            actor=row["actor"],
            reason=row["reason"],
        ),
        answered_at=maybe(moment, row["answered_at"]),
        attempt=row["attempt"],
    )
