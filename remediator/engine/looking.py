"""Look at one incident: ask the sources, decide, and write down what was decided and why."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from remediator.core import notices
from remediator.core.aftermath import hint_is_over
from remediator.core.alerts import Alert, Origin, Status
from remediator.core.budgets import quotas_of
from remediator.core.case import Case, Decision, History, Hold, HoldReason, Remediate
from remediator.core.catalogue import offer_of
from remediator.core.decision import before_looking, decide
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.policy import PolicyRule, Rung
from remediator.engine.following import Following
from remediator.engine.keeping import kept_of
from remediator.engine.parts import EngineParts
from remediator.journal.attempts import AttemptRecord, Need
from remediator.journal.incidents import FiringRecord, Incident

log = logging.getLogger(__name__)

_SLOWEST_RECHECK = timedelta(minutes=5)
# A look takes as long as its slowest source; after this a crashed one is made up for.
_LEASE = timedelta(minutes=2)
# An alert that no source confirms and nobody repeats is forgotten after this.
_LAPSE = timedelta(hours=1)
# How long an end that Prometheus cannot confirm is doubted.
_DOUBT = timedelta(minutes=10)
# When an alert began is told by two clocks: Prometheus's own, and this machine's.
_CLOCKS_DIFFER = timedelta(seconds=5)
_LAPSING = frozenset({HoldReason.UNCONFIRMED, HoldReason.TARGET_GONE})


class Looking:
    """Makes the decisions about incidents."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._journal = parts.journal
        self._following = Following(parts)

    def look(self, incident_id: int) -> int | None:
        """Decide about an incident; return the attempt that was planned, if one was."""
        incident = self._journal.incidents.incident(incident_id)
        if incident is None or incident.closed_at is not None:
            return None
        now = self._parts.clock.now()
        lease = now + _LEASE
        self._journal.incidents.take(incident_id, lease)
        firings = self._journal.incidents.firings(incident_id)
        active = [record for record in firings if record.alert.status is Status.FIRING]
        if not active:
            self._end(incident, firings, lease)
            return None
        again: list[datetime] = []
        lapsed: list[bool] = []
        for record in active:
            planned, decision = self._consider(incident, record)
            if planned is not None:
                return planned
            now = self._parts.clock.now()
            if self._ends(record, decision, now):
                again.append(now)
                continue
            again.append(self._next_look(record, decision, now))
            lapsed.append(_has_lapsed(record, decision, now))
        self._journal.incidents.look_again(incident_id, min(again), lease)
        if lapsed and all(lapsed):
            self._close(incident, firings, "never confirmed")
        return None

    def _ends(self, record: FiringRecord, decision: Decision, now: datetime) -> bool:
        """End a hint of our own that nothing can follow from; nobody else would."""
        alert = record.alert
        rule = self._parts.policy().rule_for(alert.labels)
        if alert.origin is not Origin.EPILOG or not hint_is_over(alert, decision, rule, now):
            return False
        self._journal.incidents.end_hint(alert.firing, now)
        return True

    def _end(self, incident: Incident, firings: list[FiringRecord], lease: datetime) -> None:
        """Close an incident whose alerts are said to have resolved, if Prometheus says so too.

        Whoever can post an alert can post its end as well, and with the incident would go what
        lasts as long: a rejection, a limit. A silent Prometheus is waited for, but not for ever.
        """
        again: list[datetime] = []
        for record in _latest(firings):
            at = self._doubt(incident, record)
            if at is not None:
                again.append(at)
        if again:
            self._journal.incidents.look_again(incident.id, min(again), lease)
        else:
            self._close(incident, firings, "resolved by itself")

    def _doubt(self, incident: Incident, record: FiringRecord) -> datetime | None:
        """Return when to look again at an alert that may not have resolved, None if it has."""
        rule = self._parts.policy().rule_for(record.alert.labels)
        if rule is None or record.alert.origin is Origin.EPILOG:
            return None
        if _eyes(rule).remediation not in self._parts.remediations:
            return None
        seen = self._look_with(_eyes(rule), record.alert)
        report, now = seen.report_of(Source.PROMETHEUS), self._parts.clock.now()
        fires = _is_same_stretch(record, seen)
        silent = report is not None and report.verdict is Verdict.SILENT
        said_at = record.resolved_at or now
        if report is None or not (fires or (silent and now - said_at <= _DOUBT)):
            return None
        hold = Hold(HoldReason.RESOLVED, f"its end was delivered, but prometheus: {report.says}")
        with self._journal.transaction():
            self._write(incident, record, hold, seen, rule)
            if fires:
                self._journal.incidents.fires_still(record.alert.firing)
        return now if fires else now + self._parts.recheck

    def _close(self, incident: Incident, seen: list[FiringRecord], outcome: str) -> None:
        """Close an incident, unless something is still being done or was delivered meanwhile."""
        now = self._parts.clock.now()
        with self._journal.transaction():
            if self._journal.incidents.firings(incident.id) != seen:
                self._journal.incidents.look_again(incident.id, now)
                return
            if any(a.ended_at is None for a in self._journal.attempts.of_incident(incident.id)):
                self._journal.incidents.look_again(incident.id, now + self._parts.recheck)
                return
            for record in seen:
                if record.alert.status is Status.RESOLVED:
                    resolved = Hold(HoldReason.RESOLVED, "the alert has resolved")
                    self._write(incident, record, resolved, None, None)
            self._journal.incidents.close(incident.id, now, outcome)

    def _consider(self, incident: Incident, record: FiringRecord) -> tuple[int | None, Decision]:
        """Decide about one firing; return the attempt that was planned, and the decision."""
        policy = self._parts.policy()
        rule = policy.rule_for(record.alert.labels)
        paused = self._journal.operations.pause_reason()
        case = Case(record.alert, policy, History(paused=paused), None, self._parts.clock.now())
        decision: Decision | None = before_looking(case)
        if decision is None and rule is not None:
            case = self._observed(incident.id, case, rule)
            decision = decide(case)
        if decision is None:
            raise LookupError("no guard held an alert without a policy rule")
        with self._journal.transaction():
            if isinstance(decision, Remediate):
                # Others may have spent the budget since it was looked at: here they wait.
                case = self._remembered(incident.id, case)
                decision = decide(case)
            self._write(incident, record, decision, case.observation, rule)
            self._remember(incident, case.observation)
            planned = self._following.follow(incident, record, case, decision)
        return planned, decision

    def reconsider(self, planned: AttemptRecord) -> datetime | str:
        """Return why a planned attempt must not be carried out any more, or when that was seen.

        It had to wait for a free hand, and meanwhile everything may have changed: the machine,
        the policy, what people did to keep the container.
        """
        why = "no alert asks for it any more"
        policy = self._parts.policy()
        for record in self._journal.incidents.firings(planned.incident):
            alert = record.alert
            rule = policy.rule_for(alert.labels)
            case = Case(alert, policy, History(), None, self._parts.clock.now())
            if before_looking(case) is not None or rule is None:
                continue
            case = self._observed(planned.incident, case, rule, without=planned.id)
            decision = decide(case)
            if _is_same(decision, case.observation, planned):
                return case.now
            why = decision.because if isinstance(decision, Hold) else "it is another one's turn"
        return why

    def _observed(
        self, incident: int, case: Case, rule: PolicyRule, without: int | None = None
    ) -> Case:
        seen = self._look_with(_eyes(rule), case.alert)
        now = self._parts.clock.now()
        warned_at = None
        if seen.target is not None:
            firing = case.alert.firing
            warned_at = self._journal.decisions.warned_at(firing, seen.target.key, rule.name)
        history = replace(case.history, warned_at=warned_at)
        seen_case = replace(case, observation=seen, history=history, now=now)
        return self._remembered(incident, seen_case, without)

    def _look_with(self, eyes: Rung, alert: Alert) -> Observation:
        remediation = self._parts.remediations[eyes.remediation]
        seen = remediation.observe(alert, self._parts.clock.now(), eyes.options)
        for report in seen.reports:
            if report.verdict is Verdict.SILENT:
                self._parts.metrics.source_errors.labels(report.source.value).inc()
        return seen

    def _remembered(self, incident: int, case: Case, without: int | None = None) -> Case:
        """Return *case* with what the journal says now."""
        breaker = self._journal.operations.breaker()
        rule = case.policy.rule_for(case.alert.labels)
        quotas = quotas_of(case.policy, rule, breaker, case.now) if rule else ()
        seen = case.observation
        need = Need(seen.target.key if seen and seen.target else None, quotas)
        history = replace(
            case.history,
            attempts=self._journal.attempts.past(need, case.now, without),
            paused=self._journal.operations.pause_reason(),
            breaker=breaker,
            approvals=self._journal.approvals.usable(incident, without),
            kept=kept_of(self._journal, seen.target if seen else None),
        )
        return replace(case, history=history)

    def _write(
        self,
        incident: Incident,
        record: FiringRecord,
        decision: Decision,
        seen: Observation | None,
        rule: PolicyRule | None,
    ) -> None:
        now = self._parts.clock.now()
        name = rule.name if rule else None
        if not self._journal.decisions.decided(
            incident.id, record.alert, decision, seen, now, name
        ):
            return
        if isinstance(decision, Hold):
            verdict, reason, because = "hold", decision.reason.value, decision.because
        else:
            verdict, reason, because = "remediate", "", f"by policy rule {decision.policy_rule}"
        self._parts.metrics.decisions.labels(verdict, reason).inc()
        log.info(
            "incident %s: %s: %s %s: %s",
            incident.id,
            notices.clean(incident.title),
            verdict,
            reason or "now",
            notices.clean(because, 400),
        )

    def _remember(self, incident: Incident, seen: Observation | None) -> None:
        if seen is not None and seen.title:
            self._journal.incidents.name(incident.id, seen.title, seen.owner)

    def _next_look(self, record: FiringRecord, decision: Decision, now: datetime) -> datetime:
        """Return when to look again: soon after news, more and more rarely without."""
        if isinstance(decision, Hold) and decision.reason is HoldReason.WARNING_DUE:
            return now
        age = (now - record.last_received_at) / 8
        at = now + min(max(age, self._parts.recheck), _SLOWEST_RECHECK)
        until = decision.until if isinstance(decision, Hold) else None
        return min(at, until) if until is not None and until > now else at


def _latest(firings: list[FiringRecord]) -> list[FiringRecord]:
    """Return the last firing of each alert: what was before it has ended at the latest with it."""
    by_labels = {tuple(sorted(record.alert.labels.items())): record for record in firings}
    return list(by_labels.values())


def _is_same_stretch(record: FiringRecord, seen: Observation) -> bool:
    """Whether what fires in Prometheus is this firing, and not one that has begun since."""
    report = seen.report_of(Source.PROMETHEUS)
    agrees = report is not None and report.verdict is Verdict.AGREES
    since = seen.active_since
    return agrees and since is not None and since <= record.alert.starts_at + _CLOCKS_DIFFER


def _has_lapsed(record: FiringRecord, decision: Decision, now: datetime) -> bool:
    return (
        isinstance(decision, Hold)
        and decision.reason in _LAPSING
        and now - record.last_received_at > _LAPSE
    )


def _eyes(rule: PolicyRule) -> Rung:
    """Return the rung whose observation serves the whole ladder of *rule*.

    That is the first destructive one, which asks most, or else the first that acts: a ladder has
    one target, and what protects it from the worst rung protects it from being told about the
    mildest.
    """
    offers = [(offer_of(rung.remediation), rung) for rung in rule.rungs]
    worst = [rung for offer, rung in offers if offer.destructive]
    acting = [rung for offer, rung in offers if offer.acts]
    return (worst or acting or list(rule.rungs))[0]


def _is_same(decision: Decision, seen: Observation | None, planned: AttemptRecord) -> bool:
    if not isinstance(decision, Remediate) or seen is None or seen.target is None:
        return False
    chosen = (decision.policy_rule, decision.number, seen.target.key)
    return chosen == (planned.policy_rule, planned.rung, planned.target_key)
