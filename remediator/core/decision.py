"""Decide what to do about one alert.

Nothing here reads a clock, a file or a socket. The caller brings the policy, what the journal
remembers, what the sources said and the time, so every decision can be replayed later from the
journal alone.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from remediator.core.alerts import Alert, Status
from remediator.core.attempts import PastAttempt
from remediator.core.budgets import spent_until
from remediator.core.catalogue import offer_of
from remediator.core.durations import humanize
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Mode, Policy, PolicyRule, Rung, Warn

# A warning that nothing followed for this long after its notice period is forgotten by people.
_WARNING_KEEPS = timedelta(hours=1)


class HoldReason(enum.Enum):
    """Why nothing is done, in the order of the guards; also the ``reason`` label of a metric."""

    RESOLVED = "resolved"
    NO_POLICY_RULE = "no_policy_rule"
    PAUSED = "paused"
    OBSERVE_ONLY = "observe_only"
    NOTIFY_ONLY = "notify_only"
    EXEMPT = "exempt"
    UNCONFIRMED = "unconfirmed"
    TARGET_GONE = "target_gone"
    CONDITION_GONE = "condition_gone"
    IN_PROGRESS = "in_progress"
    WARNING_DUE = "warning_due"
    WARNED = "warned"
    COOLDOWN = "cooldown"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    BUDGET = "budget"
    WAITING_FOR_APPROVAL = "waiting_for_approval"


@dataclass(frozen=True, slots=True)
class Remediate:
    """Carry out ``rung`` of ``policy_rule``, which is number ``number`` of its ladder from 0."""

    policy_rule: str
    number: int
    rung: Rung


@dataclass(frozen=True, slots=True)
class Hold:
    """Do nothing; ``until`` is set where waiting alone would change the answer.

    ``because`` is for a person. ``instead`` says what would have been decided if the mode had
    allowed it.
    """

    reason: HoldReason
    because: str
    until: datetime | None = None
    instead: "Remediate | Hold | None" = None


Decision = Remediate | Hold


@dataclass(frozen=True, slots=True)
class History:
    """What the journal remembers when a decision is made.

    ``attempts`` are those of this host, any target; ``warned_at`` is when this very target was
    warned under this policy rule.
    """

    attempts: tuple[PastAttempt, ...] = ()
    warned_at: datetime | None = None
    paused: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Everything one decision is made from; ``now`` is an aware UTC datetime."""

    alert: Alert
    policy: Policy
    history: History
    observation: Observation | None
    now: datetime


def decide(case: Case) -> Decision:
    """Return what to do about the alert of *case*.

    Reasons about this alert come before reasons about the whole service, so that an operator
    who reads the journal sees the nearest one. Guards that need no observation come first:
    `before_looking` tells whether the sources have to be asked at all.
    """
    policy_rule = _hold_or_rule(case)
    if isinstance(policy_rule, Hold):
        return policy_rule
    mode = policy_rule.mode.capped_by(case.policy.mode)
    after = _after_looking(case, policy_rule)
    if mode is Mode.OBSERVE:
        return _withheld(HoldReason.OBSERVE_ONLY, "the mode is observe", after)
    if mode is Mode.NOTIFY:
        return _withheld(HoldReason.NOTIFY_ONLY, "the mode is notify", after)
    if mode is Mode.APPROVE and isinstance(after, Remediate):
        because = f"{after.rung.remediation} waits for an administrator to approve it"
        return Hold(HoldReason.WAITING_FOR_APPROVAL, because)
    return after


def before_looking(case: Case) -> Hold | None:
    """Return the hold that needs no observation, or None if the sources must be asked."""
    found = _hold_or_rule(case)
    return found if isinstance(found, Hold) else None


def budget_spent_until(
    policy: Policy, attempts: Iterable[PastAttempt], now: datetime
) -> datetime | None:
    """Return when this host may do something destructive again, or None if it may at *now*."""
    moments = [
        attempt.planned_at
        for attempt in attempts
        if attempt.counts and offer_of(attempt.remediation).destructive
    ]
    return spent_until(policy.budget, moments, now)


def _hold_or_rule(case: Case) -> Hold | PolicyRule:
    if case.alert.status is Status.RESOLVED:
        return Hold(HoldReason.RESOLVED, "the alert has resolved")
    policy_rule = case.policy.rule_for(case.alert.labels)
    if policy_rule is None:
        return Hold(HoldReason.NO_POLICY_RULE, "no policy rule matches its labels")
    if case.history.paused is not None:
        return Hold(HoldReason.PAUSED, f"paused: {case.history.paused}")
    return policy_rule


def _after_looking(case: Case, policy_rule: PolicyRule) -> Decision:
    for guard in (_exempt, _unconfirmed, _target_gone, _condition_gone, _in_progress):
        hold = guard(case)
        if hold is not None:
            return hold
    number = _next_rung(case, policy_rule)
    rung = policy_rule.rungs[number]
    for rung_guard in _RUNG_GUARDS:
        hold = rung_guard(case, policy_rule, number)
        if hold is not None:
            return hold
    return Remediate(policy_rule.name, number, rung)


def _exempt(case: Case) -> Hold | None:
    seen = case.observation
    if seen is None:
        return None
    if seen.exempt is not None:
        return Hold(HoldReason.EXEMPT, seen.exempt)
    matcher = case.policy.never_touches(seen.labels) if seen.labels else None
    if matcher is not None:
        return Hold(HoldReason.EXEMPT, f"its label {matcher} puts it out of reach of the policy")
    return None


def _unconfirmed(case: Case) -> Hold | None:
    if case.observation is None:
        return Hold(HoldReason.UNCONFIRMED, "no source could be asked")
    confirmed = case.observation.confirmed_labels
    if confirmed is not None and case.policy.rule_for(confirmed) is not case.policy.rule_for(
        case.alert.labels
    ):
        # Labels can be added on the way; they must not choose what is done.
        because = "prometheus: with the labels it has itself, another policy rule would match"
        return Hold(HoldReason.UNCONFIRMED, because)
    for report in case.observation.reports:
        disagrees = report.source is Source.PROMETHEUS and report.verdict is not Verdict.AGREES
        if disagrees or report.verdict is Verdict.SILENT:
            return Hold(HoldReason.UNCONFIRMED, _quote(report))
    return None


def _target_gone(case: Case) -> Hold | None:
    gone = _first(case, Verdict.GONE)
    if gone is not None:
        return Hold(HoldReason.TARGET_GONE, _quote(gone))
    if case.observation is None or case.observation.target is None:
        return Hold(HoldReason.TARGET_GONE, "nothing exact could be identified to act on")
    return None


def _condition_gone(case: Case) -> Hold | None:
    report = _first(case, Verdict.DISAGREES)
    return None if report is None else Hold(HoldReason.CONDITION_GONE, _quote(report))


def _in_progress(case: Case) -> Hold | None:
    for attempt in _on_target(case):
        if attempt.in_progress:
            because = f"{attempt.remediation} is {attempt.state.value} on this target"
            return Hold(HoldReason.IN_PROGRESS, because)
    return None


def _warning(case: Case, policy_rule: PolicyRule, number: int) -> Hold | None:
    warn = policy_rule.warn
    if warn is None or not offer_of(policy_rule.rungs[number].remediation).destructive:
        return None
    warned_at = _valid_warning(case, warn)
    if warned_at is None:
        because = f"a warning comes first, {humanize(warn.before)} before anything is done"
        would = Remediate(policy_rule.name, number, policy_rule.rungs[number])
        return Hold(HoldReason.WARNING_DUE, because, instead=would)
    act_at = warned_at + warn.before
    if case.now < act_at:
        because = (
            f"the warning gives {humanize(warn.before)}, {humanize(act_at - case.now)} are left"
        )
        return Hold(HoldReason.WARNED, because, until=act_at)
    return None


def _valid_warning(case: Case, warn: Warn) -> datetime | None:
    """Return when this stretch of the alert was warned of, if that is not too long ago.

    Whoever was warned, worked, and fell idle again is warned again, also where the end of the
    first stretch was never delivered.
    """
    warned_at = case.history.warned_at
    seen = case.observation
    if warned_at is None or case.now - warned_at > warn.before + _WARNING_KEEPS:
        return None
    since = seen.active_since if seen else None
    return None if since is not None and warned_at < since else warned_at


def _cooldown(case: Case, policy_rule: PolicyRule, number: int) -> Hold | None:
    counted = _counted(case, policy_rule)
    if not counted:
        return None
    rungs = policy_rule.rungs
    last = max(counted, key=lambda attempt: attempt.planned_at)
    cooldown = rungs[last.rung].cooldown if last.rung < len(rungs) else rungs[number].cooldown
    until = max(attempt.ended_at or attempt.planned_at for attempt in counted) + cooldown
    if case.now < until:
        because = f"{humanize(cooldown)} must pass after the last {last.remediation}"
        return Hold(HoldReason.COOLDOWN, because, until=until)
    return None


def _exhausted(case: Case, policy_rule: PolicyRule, number: int) -> Hold | None:
    until = _rung_spent_until(case, policy_rule, number)
    if until is None:
        return None
    if not offer_of(policy_rule.rungs[number].remediation).acts:
        return Hold(HoldReason.COOLDOWN, "people have been told already", until=until)
    tried = len(_counted(case, policy_rule))
    because = f"all its remediations have been tried ({tried} attempts); a person has to look"
    return Hold(HoldReason.ATTEMPTS_EXHAUSTED, because, until=until)


def _budget(case: Case, policy_rule: PolicyRule, number: int) -> Hold | None:
    if not offer_of(policy_rule.rungs[number].remediation).destructive:
        return None
    until = budget_spent_until(case.policy, case.history.attempts, case.now)
    if until is None:
        return None
    return Hold(HoldReason.BUDGET, "the budget of this host is spent", until=until)


_RUNG_GUARDS: tuple[Callable[[Case, PolicyRule, int], Hold | None], ...] = (
    _warning,
    _cooldown,
    _exhausted,
    _budget,
)


def _withheld(reason: HoldReason, why: str, instead: Decision) -> Hold:
    if isinstance(instead, Remediate):
        return Hold(reason, f"{why}; would have done {instead.rung.remediation}", instead=instead)
    would = instead.instead
    if isinstance(would, Remediate):
        done = would.rung.remediation
        because = f"{why}; would have given a warning, and then done {done}"
    else:
        because = f"{why}; would have held all the same: {instead.because}"
    return Hold(reason, because, instead=replace(instead, until=None))


def _next_rung(case: Case, policy_rule: PolicyRule) -> int:
    """Return the first rung with allowance left, or the last one."""
    for number in range(len(policy_rule.rungs)):
        if _rung_spent_until(case, policy_rule, number) is None:
            return number
    return len(policy_rule.rungs) - 1


def _rung_spent_until(case: Case, policy_rule: PolicyRule, number: int) -> datetime | None:
    counted = _counted(case, policy_rule)
    moments = [attempt.planned_at for attempt in counted if attempt.rung == number]
    return spent_until(policy_rule.rungs[number].attempts, moments, case.now)


def _counted(case: Case, policy_rule: PolicyRule) -> list[PastAttempt]:
    """Return the attempts on this target under this policy rule that spend allowance."""
    return [a for a in _on_target(case) if a.counts and a.policy_rule == policy_rule.name]


def _on_target(case: Case) -> list[PastAttempt]:
    target = case.observation.target if case.observation else None
    key = target.key if target else None
    return [attempt for attempt in case.history.attempts if attempt.target_key == key]


def _first(case: Case, verdict: Verdict) -> Report | None:
    reports = case.observation.reports if case.observation else ()
    return next((report for report in reports if report.verdict is verdict), None)


def _quote(report: Report) -> str:
    return f"{report.source.value}: {report.says}"
