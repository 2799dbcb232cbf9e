"""The guards: each holds for one reason, or lets the case pass.

Nothing here reads a clock, a file or a socket. `remediator.core.decision` asks them in order.
"""

from datetime import datetime, timedelta
from operator import attrgetter

from remediator.core.alerts import Status
from remediator.core.approvals import Answer
from remediator.core.budgets import breaker_of, budget_of, spent_limit, spent_until
from remediator.core.case import Case, Hold, HoldReason, Remediate
from remediator.core.catalogue import offer_of
from remediator.core.durations import humanize
from remediator.core.extensions import Extension, clock_of
from remediator.core.lifecycle import keep_alive_helps
from remediator.core.observation import Report, Source, Verdict
from remediator.core.policy import PolicyRule, Rung, Warn
from remediator.core.proposal import Past, Proposal

# A warning that nothing followed for this long after its notice period is forgotten by people.
_WARNING_KEEPS = timedelta(hours=1)
_planned_at = attrgetter("planned_at")
# Asked for by every decision: to get a member from its enumeration is slow on Python 3.11.
_RESOLVED = Status.RESOLVED
_PROMETHEUS = Source.PROMETHEUS
_AGREES = Verdict.AGREES
_DISAGREES = Verdict.DISAGREES
_GONE = Verdict.GONE
_SILENT = Verdict.SILENT


def resolved(case: Case, _: PolicyRule | None) -> Hold | None:
    """Hold where the alert has ended."""
    if case.alert.status is _RESOLVED:
        return Hold(HoldReason.RESOLVED, "the alert has resolved")
    return None


def no_policy_rule(_: Case, policy_rule: PolicyRule | None) -> Hold | None:
    """Hold where the policy does not speak of the alert."""
    if policy_rule is None:
        return Hold(HoldReason.NO_POLICY_RULE, "no policy rule matches its labels")
    return None


def paused(case: Case, _: PolicyRule | None) -> Hold | None:
    """Hold while an operator has paused everything."""
    if case.history.paused is not None:
        return Hold(HoldReason.PAUSED, f"paused: {case.history.paused}")
    return None


def exempt(case: Case) -> Hold | None:
    """Hold where a label, a keep-alive, an extension or the limits protect the target."""
    seen = case.observation
    if seen is None:
        return None
    if seen.exempt is not None:
        return Hold(HoldReason.EXEMPT, seen.exempt)
    matcher = case.policy.never_touches(seen.labels) if seen.labels else None
    if matcher is not None:
        return Hold(HoldReason.EXEMPT, f"its label {matcher} puts it out of reach of the policy")
    kept = _extension(case)
    if kept is not None and kept.holds_at(case.now):
        because = f"it is kept until {clock_of(kept.until)}, {kept.by}"
        return Hold(HoldReason.EXEMPT, because, until=kept.until)
    return None


def _extension(case: Case) -> Extension | None:
    """Return the target's extension, if what the alert is about is what extensions are for."""
    kept = case.history.kept
    return kept if kept is not None and keep_alive_helps(case.alert.name) else None


def unconfirmed(case: Case) -> Hold | None:
    """Hold unless Prometheus confirms the alert with the same labels, and no source is silent."""
    if case.observation is None:
        return Hold(HoldReason.UNCONFIRMED, "no source could be asked")
    confirmed = case.observation.confirmed_labels
    labels = case.alert.labels
    # The same labels lead to the same rule, which need not be looked for twice.
    if (
        confirmed is not None
        and confirmed != labels
        and case.policy.rule_for(confirmed) is not case.policy.rule_for(labels)
    ):
        # Labels can be added on the way; they must not choose what is done.
        because = "prometheus: with the labels it has itself, another policy rule would match"
        return Hold(HoldReason.UNCONFIRMED, because)
    for report in case.observation.reports:
        disagrees = report.source is _PROMETHEUS and report.verdict is not _AGREES
        if disagrees or report.verdict is _SILENT:
            return Hold(HoldReason.UNCONFIRMED, _quote(report))
    return None


def target_gone(case: Case) -> Hold | None:
    """Hold where what the alert names is not there, or is not exactly that any more."""
    gone = _first(case, _GONE)
    if gone is not None:
        return Hold(HoldReason.TARGET_GONE, _quote(gone))
    if case.observation is None or case.observation.target is None:
        return Hold(HoldReason.TARGET_GONE, "nothing exact could be identified to act on")
    return None


def condition_gone(case: Case) -> Hold | None:
    """Hold where a source says that it is not so."""
    report = _first(case, _DISAGREES)
    return None if report is None else Hold(HoldReason.CONDITION_GONE, _quote(report))


def in_progress(_: Case, proposal: Proposal) -> Hold | None:
    """Hold while an attempt on the target may still change the machine."""
    for attempt in proposal.past.underway:
        if attempt.target_key == proposal.past.target_key:
            because = f"{attempt.remediation} is {attempt.state.value} on this target"
            return Hold(HoldReason.IN_PROGRESS, because)
    return None


def conflicting(_: Case, proposal: Proposal) -> Hold | None:
    """Hold while an attempt on another target uses what this one would need for itself."""
    lane = proposal.offer.lane
    if lane is None:
        return None
    for attempt in proposal.past.underway:
        if offer_of(attempt.remediation).lane is lane:
            because = (
                f"{attempt.remediation} is {attempt.state.value} on {attempt.target_key},"
                f" and {lane.value} are for one at a time"
            )
            return Hold(HoldReason.IN_PROGRESS, because)
    return None


def warning(case: Case, proposal: Proposal) -> Hold | None:
    """Hold until a warning was given and its notice period is over."""
    warn = proposal.policy_rule.warn
    if warn is None or not proposal.offer.destructive:
        return None
    warned_at = _valid_warning(case, warn)
    if warned_at is None:
        because = f"a warning comes first, {humanize(warn.before)} before anything is done"
        return Hold(HoldReason.WARNING_DUE, because, instead=proposal.as_decision())
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
    kept = _extension(case)
    if kept is not None and warned_at < kept.until:
        # Who could rely on an extension is warned anew at its end.
        return None
    since = seen.active_since if seen else None
    return None if since is not None and warned_at < since else warned_at


def cooldown(case: Case, proposal: Proposal) -> Hold | None:
    """Hold for a while after the last attempt on the target."""
    own = proposal.past.own
    if not own:
        return None
    rungs = proposal.policy_rule.rungs
    last = max(own, key=_planned_at)
    cooldown = (rungs[last.rung] if last.rung < len(rungs) else proposal.rung).cooldown
    until = max([attempt.ended_at or attempt.planned_at for attempt in own]) + cooldown
    if case.now < until:
        because = f"{humanize(cooldown)} must pass after the last {last.remediation}"
        return Hold(HoldReason.COOLDOWN, because, until=until)
    return None


def exhausted(case: Case, proposal: Proposal) -> Hold | None:
    """Hold where the last rung has no allowance left."""
    if _is_in_vain(case, proposal.rung):
        because = f"{case.observation.in_vain if case.observation else ''}: a person has to look"
        return Hold(HoldReason.ATTEMPTS_EXHAUSTED, because)
    until = _rung_spent_until(case, proposal.rung, proposal.number, proposal.past)
    if until is None:
        return None
    if not proposal.offer.acts:
        return Hold(HoldReason.COOLDOWN, "people have been told already", until=until)
    tried = len(proposal.past.own)
    because = f"all its remediations have been tried ({tried} attempts); a person has to look"
    return Hold(HoldReason.ATTEMPTS_EXHAUSTED, because, until=until)


def budget(case: Case, proposal: Proposal) -> Hold | None:
    """Hold while the host has spent what the policy allows of this remediation."""
    name = proposal.rung.remediation
    quota = budget_of(case.policy, name)
    if not quota.limits:
        return None
    until = spent_until(quota.limits, quota.moments(proposal.past.counted), case.now)
    if until is None:
        return None
    return Hold(HoldReason.BUDGET, f"the host's budget for {name} is spent", until=until)


def breaker(case: Case, proposal: Proposal) -> Hold | None:
    """Hold what is destructive while the breaker is open, or would open by one more attempt."""
    if not proposal.offer.destructive:
        return None
    breaker = case.history.breaker
    if breaker.open_because is not None:
        return Hold(HoldReason.BREAKER_OPEN, f"the breaker is open: {breaker.open_because}")
    quota = breaker_of(case.policy, breaker, case.now)
    spent = spent_limit(quota.limits, quota.moments(proposal.past.counted), case.now)
    if spent is None:
        return None
    opens = f"{spent.count} destructive attempts within {humanize(spent.window)}"
    return Hold(HoldReason.BREAKER_OPEN, f"the breaker opens: {opens}", opens=opens)


def unapproved(case: Case, would: Remediate) -> Hold | None:
    """Return the hold of a remediation that nobody has approved, None if somebody has."""
    remediation = would.rung.remediation
    if not offer_of(remediation).acts:
        return None
    target = case.observation.target if case.observation else None
    asked = [
        approval
        for approval in case.history.approvals
        if (approval.policy_rule, approval.rung, approval.target_key)
        == (would.policy_rule, would.number, target.key if target else None)
    ]
    last = asked[-1] if asked else None
    reason = HoldReason.WAITING_FOR_APPROVAL
    if last is None or last.is_over(case.now):
        because = f"{remediation} waits for an administrator to approve it"
        return Hold(reason, because, instead=would)
    if last.answer is Answer.APPROVED:
        return None
    if last.answer is Answer.REJECTED:
        return Hold(reason, f"{last.actor} rejected {remediation}: {last.reason}")
    left = humanize(last.expires_at - case.now)
    because = f"{remediation} waits for an administrator to approve it within {left}"
    return Hold(reason, because, until=last.expires_at)


def next_rung(case: Case, policy_rule: PolicyRule, past: Past) -> int:
    """Return the first rung with allowance left that is not in vain, or the last one."""
    for number, rung in enumerate(policy_rule.rungs):
        in_vain = _is_in_vain(case, rung)
        if not in_vain and _rung_spent_until(case, rung, number, past) is None:
            return number
    return len(policy_rule.rungs) - 1


def _is_in_vain(case: Case, rung: Rung) -> bool:
    """Whether a rung would only do what lasts already: the ladder goes on without it."""
    seen = case.observation
    lasting = offer_of(rung.remediation).lasting
    return lasting and seen is not None and seen.in_vain is not None


def _rung_spent_until(case: Case, rung: Rung, number: int, past: Past) -> datetime | None:
    moments = [attempt.planned_at for attempt in past.own if attempt.rung == number]
    return spent_until(rung.attempts, moments, case.now)


def _first(case: Case, verdict: Verdict) -> Report | None:
    reports = case.observation.reports if case.observation else ()
    for report in reports:
        if report.verdict is verdict:
            return report
    return None


def _quote(report: Report) -> str:
    return f"{report.source.value}: {report.says}"
