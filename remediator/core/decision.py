"""Decide what to do about one alert.

Nothing here reads a clock, a file or a socket. The caller brings the policy, what the journal
remembers, what the sources said and the time, so every decision can be replayed later from the
journal alone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from remediator.core import guards
from remediator.core.case import Case, Decision, Hold, HoldReason, Remediate
from remediator.core.policy import Mode, PolicyRule
from remediator.core.proposal import Proposal, past_of


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
    withheld = _withheld_by(mode, after)
    if withheld is not None:
        return withheld
    if mode is Mode.APPROVE and isinstance(after, Remediate):
        return guards.unapproved(case, after) or after
    return after


def explain(case: Case) -> list[tuple[str, Hold | None]]:
    """Return every guard by name, in order, with what it says on its own; None lets pass.

    Those that need a policy rule are left out where none matches.
    """
    policy_rule = case.policy.rule_for(case.alert.labels)
    verdicts = [(name, check(case, policy_rule)) for name, check in _BEFORE_LOOKING]
    if policy_rule is None:
        return verdicts
    proposal = _propose(case, policy_rule)
    after = _after_looking(case, policy_rule)
    mode = policy_rule.mode.capped_by(case.policy.mode)
    verdicts.append(("mode", _withheld_by(mode, after)))
    verdicts += [(_name(guard), guard(case)) for guard in _GUARDS]
    verdicts += [(_name(guard), guard(case, proposal)) for guard in _RUNG_GUARDS]
    if mode is Mode.APPROVE:
        verdicts.append(("approval", guards.unapproved(case, proposal.as_decision())))
    return verdicts


def before_looking(case: Case) -> Hold | None:
    """Return the hold that needs no observation, or None if the sources must be asked."""
    found = _hold_or_rule(case)
    return found if isinstance(found, Hold) else None


def _hold_or_rule(case: Case) -> Hold | PolicyRule:
    policy_rule = case.policy.rule_for(case.alert.labels)
    for _, check in _BEFORE_LOOKING:
        hold = check(case, policy_rule)
        if hold is not None:
            return hold
    # One of these guards has made sure that there is one.
    return cast(PolicyRule, policy_rule)


def _after_looking(case: Case, policy_rule: PolicyRule) -> Decision:
    for guard in _GUARDS:
        hold = guard(case)
        if hold is not None:
            return hold
    proposal = _propose(case, policy_rule)
    for rung_guard in _RUNG_GUARDS:
        hold = rung_guard(case, proposal)
        if hold is not None:
            return hold
    return proposal.as_decision()


def _propose(case: Case, policy_rule: PolicyRule) -> Proposal:
    past = past_of(case, policy_rule)
    return Proposal(policy_rule, guards.next_rung(case, policy_rule, past), past)


_BEFORE_LOOKING: tuple[tuple[str, Callable[[Case, PolicyRule | None], Hold | None]], ...] = (
    ("resolved", guards.resolved),
    ("policy rule", guards.no_policy_rule),
    ("pause", guards.paused),
)
_GUARDS: tuple[Callable[[Case], Hold | None], ...] = (
    guards.exempt,
    guards.unconfirmed,
    guards.target_gone,
    guards.condition_gone,
)
_RUNG_GUARDS: tuple[Callable[[Case, Proposal], Hold | None], ...] = (
    guards.in_progress,
    guards.conflicting,
    guards.warning,
    guards.cooldown,
    guards.exhausted,
    guards.budget,
    guards.breaker,
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


def _withheld_by(mode: Mode, after: Decision) -> Hold | None:
    if mode is Mode.OBSERVE:
        return _withheld(HoldReason.OBSERVE_ONLY, "the mode is observe", after)
    if mode is Mode.NOTIFY:
        return _withheld(HoldReason.NOTIFY_ONLY, "the mode is notify", after)
    return None


def _name(guard: Callable[..., Hold | None]) -> str:
    return guard.__name__.replace("_", " ")
