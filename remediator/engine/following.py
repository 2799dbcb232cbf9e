"""Write down what follows from a decision: an attempt, a warning, a question, a notice."""

from collections.abc import Callable
from dataclasses import dataclass

from remediator.core import notices
from remediator.core.approvals import Approval
from remediator.core.attempts import AttemptState, PastAttempt, Task
from remediator.core.case import Case, Decision, Hold, HoldReason, Remediate
from remediator.core.lifecycle import keep_alive_helps
from remediator.core.observation import Observation
from remediator.core.policy import Audience, PolicyRule
from remediator.core.targets import Target
from remediator.engine.keeping import way_to_keep
from remediator.engine.parts import EngineParts
from remediator.engine.telling import tell
from remediator.journal.incidents import FiringRecord, Incident


@dataclass(frozen=True, slots=True)
class _Held:
    """A hold about something exact, with all that may follow from it."""

    incident: Incident
    record: FiringRecord
    rule: PolicyRule
    hold: Hold
    target: Target
    matter: notices.Matter


class Following:
    """Writes what follows, in the transaction of the decision itself."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._journal = parts.journal
        self._after: dict[HoldReason, Callable[[_Held], None]] = {
            HoldReason.WARNING_DUE: self._warn,
            HoldReason.WAITING_FOR_APPROVAL: self._ask,
            HoldReason.BREAKER_OPEN: self._open_breaker,
            HoldReason.ATTEMPTS_EXHAUSTED: self._escalate,
            HoldReason.NOTIFY_ONLY: self._notify,
        }

    def follow(
        self, incident: Incident, record: FiringRecord, case: Case, decision: Decision
    ) -> int | None:
        """Write what follows from *decision*; return the attempt that was planned, if one was."""
        seen = case.observation
        rule = case.policy.rule_for(case.alert.labels)
        if seen is None or seen.target is None or rule is None:
            return None
        if isinstance(decision, Remediate):
            task = Task(
                target=seen.target,
                timeout=decision.rung.timeout,
                verify_within=decision.rung.verify_within,
                options=decision.rung.options,
                context=seen.context,
                seen_at=case.now,
            )
            return self._plan(incident, decision, task)
        after = self._after.get(decision.reason)
        if after is not None:
            matter = self._matter_of(incident, record, seen, seen.target)
            after(_Held(incident, record, rule, decision, seen.target, matter))
        return None

    def _plan(self, incident: Incident, decision: Remediate, task: Task) -> int | None:
        plan = PastAttempt(
            target_key=task.target.key,
            policy_rule=decision.policy_rule,
            rung=decision.number,
            remediation=decision.rung.remediation,
            state=AttemptState.PLANNED,
            planned_at=self._parts.clock.now(),
        )
        planned = self._journal.attempts.plan(incident.id, plan, task)
        if planned is not None:
            self._journal.approvals.use(incident.id, planned, plan)
        return planned

    def _warn(self, held: _Held) -> None:
        """Warn of what is due, and write down when."""
        due, warn = held.hold.instead, held.rule.warn
        if not isinstance(due, Remediate) or warn is None:
            return
        now = self._parts.clock.now()
        self._journal.decisions.warn(
            held.incident.id, held.record.alert.firing, held.target.key, due.policy_rule, now
        )
        notice = notices.warning(held.matter, due.rung, now + warn.before, warn.before)
        tell(self._parts, notice, warn.tell)

    def _ask(self, held: _Held) -> None:
        """Ask the administrators whether what is due may be done; once, until that is over."""
        due = held.hold.instead
        if not isinstance(due, Remediate):
            return
        now = self._parts.clock.now()
        within = held.rule.approve_within
        question = Approval(due.policy_rule, due.number, held.target.key, now, now + within)
        self._journal.approvals.ask(held.incident.id, due.rung.remediation, question)
        notice = notices.approval_wanted(held.matter, due.rung, within)
        tell(self._parts, notice, held.rule.escalate)

    def _open_breaker(self, held: _Held) -> None:
        opens = held.hold.opens
        if opens and self._journal.operations.open_breaker(opens, self._parts.clock.now()):
            notice = notices.breaker_opened(held.matter, held.hold.because)
            tell(self._parts, notice, (Audience.ADMINS,))

    def _escalate(self, held: _Held) -> None:
        if self._journal.incidents.settle_once(held.incident.id, "escalated"):
            notice = notices.escalated(held.matter, held.hold.because)
            tell(self._parts, notice, held.rule.escalate)

    def _notify(self, held: _Held) -> None:
        if held.incident.outcome is None and _would_act(held.hold):
            keepable = keep_alive_helps(held.matter.alert)
            notice = notices.informed(held.matter, held.hold.because, keepable=keepable)
            tell(self._parts, notice, held.rule.tell)
            self._journal.incidents.settle(held.incident.id, "notified")

    def _matter_of(
        self, incident: Incident, record: FiringRecord, seen: Observation, target: Target
    ) -> notices.Matter:
        """Return what a notice about *incident* is about, with the evidence as sentences."""
        name, now = record.alert.name, self._parts.clock.now()
        return notices.Matter(
            incident=incident.id,
            host=self._parts.host,
            title=seen.title or incident.title,
            owner=seen.owner,
            alert=name,
            evidence=tuple(f"{report.source.value}: {report.says}" for report in seen.reports),
            keep=way_to_keep(self._parts.links, target, incident.id, name, seen.context, now),
        )


def _would_act(hold: Hold) -> bool:
    """Whether only the mode stands in the way: a forged or stale alert is nobody's news."""
    instead = hold.instead
    return isinstance(instead, Remediate) or (
        instead is not None and instead.reason is HoldReason.WARNING_DUE
    )
