"""What was decided about incidents, on what evidence, and who was warned."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from remediator.core.alerts import Alert, Firing
from remediator.core.case import Decision, Hold, Remediate
from remediator.core.observation import Observation, Report
from remediator.core.tallies import Tally
from remediator.database import Database, maybe, moment, stamp
from remediator.journal.incidents import identity, to_json
from remediator.journal.tallies import count


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision, how often it was repeated without change, and what the sources said."""

    alert: str
    verdict: str
    reason: str | None
    because: str
    until: datetime | None
    policy_rule: str | None
    evidence: Sequence[Mapping[str, object]]
    at: datetime
    last_at: datetime
    times: int


class Decisions:
    """Reads and writes of decisions and warnings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def decided(
        self,
        incident: int,
        alert: Alert,
        decision: Decision,
        seen: Observation | None,
        now: datetime,
        policy_rule: str | None,
    ) -> bool:
        """Write a decision down; False if it only repeats the last one about this firing."""
        hold = decision if isinstance(decision, Hold) else None
        verdict = "hold" if hold else "remediate"
        reason = hold.reason.value if hold else None
        because = _because(decision)
        evidence = to_json([_report(report) for report in seen.reports] if seen else [])
        until = stamp(hold.until) if hold and hold.until else None
        with self._database.transaction() as connection:
            last = connection.execute(
                "SELECT id, verdict, reason FROM decision WHERE incident = ? AND fingerprint = ?"
                " AND starts_at = ? ORDER BY id DESC LIMIT 1",
                (incident, *identity(alert.firing)),
            ).fetchone()
            if hold and last and (last["verdict"], last["reason"]) == (verdict, reason):
                connection.execute(
                    "UPDATE decision SET times = times + 1, last_at = ?, until = ?, because = ?,"
                    " evidence = ? WHERE id = ?",
                    (stamp(now), until, because, evidence, last["id"]),
                )
                return False
            connection.execute(
                "INSERT INTO decision (incident, fingerprint, starts_at, verdict, reason, because,"
                " until, policy_rule, evidence, at, last_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    incident,
                    *identity(alert.firing),
                    verdict,
                    reason,
                    because,
                    until,
                    policy_rule,
                    evidence,
                    stamp(now),
                    stamp(now),
                ),
            )
            count(connection, Tally.DECISIONS, f"{verdict}/{reason or ''}")
        return True

    def of_incident(self, incident: int) -> list[DecisionRecord]:
        """Return what was decided about *incident*, in order."""
        rows = self._database.rows(
            "SELECT d.*, f.alertname FROM decision d JOIN firing f USING (fingerprint, starts_at)"
            " WHERE d.incident = ? ORDER BY d.id",
            (incident,),
        )
        return [
            DecisionRecord(
                alert=row["alertname"],
                verdict=row["verdict"],
                reason=row["reason"],
                because=row["because"],
                until=maybe(moment, row["until"]),
                policy_rule=row["policy_rule"],
                evidence=json.loads(row["evidence"]),
                at=moment(row["at"]),
                last_at=moment(row["last_at"]),
                times=row["times"],
            )
            for row in rows
        ]

    def warn(
        self, incident: int, firing: Firing, target: str, policy_rule: str, now: datetime
    ) -> None:
        """Write down that a warning is given now; it counts instead of any earlier one."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO warning (fingerprint, starts_at, target, policy_rule,"
                " incident, warned_at) VALUES (?, ?, ?, ?, ?, ?)",
                (*identity(firing), target, policy_rule, incident, stamp(now)),
            )

    def warned_at(self, firing: Firing, target: str, policy_rule: str) -> datetime | None:
        """Return when this firing's target was warned, if it was."""
        row = self._database.row(
            "SELECT warned_at FROM warning WHERE fingerprint = ? AND starts_at = ? AND target = ?"
            " AND policy_rule = ?",
            (*identity(firing), target, policy_rule),
        )
        return moment(row["warned_at"]) if row else None


def _report(report: Report) -> dict[str, object]:
    return {
        "source": report.source.value,
        "verdict": report.verdict.value,
        "says": report.says,
        "facts": dict(report.facts),
    }


def _because(decision: Decision) -> str:
    if isinstance(decision, Remediate):
        return f"{decision.rung.remediation}: every guard passed"
    return decision.because
