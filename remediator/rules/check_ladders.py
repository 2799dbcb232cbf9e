"""Checks of the policy's ladders by themselves: allowances, warnings, and how long things take."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from remediator.core.catalogue import Kind as TargetKind
from remediator.core.catalogue import offer_of
from remediator.core.durations import format_duration
from remediator.core.limits import TYPES, Limits, LimitsBook
from remediator.core.policy import Limit, PolicyRule
from remediator.rules.check_policy import names_in
from remediator.rules.findings import Finding, Kind, finding
from remediator.rules.policy_nodes import PolicyFile

_WARNED = frozenset({TargetKind.CONTAINER, TargetKind.PROCESS})
# By then only what never ends still exempts anybody.
_LATE = datetime.max.replace(tzinfo=UTC)
_INTERFACES = ("orchestration", "docker")


def check_ladders(file: PolicyFile, limits: LimitsBook | None) -> Iterator[Finding]:
    """Yield what does not fit within the policy, and into the limits if they are known."""
    every = [] if limits is None else list(_every(limits))
    for number, rule in enumerate(file.policy.rules):
        yield from _allowance(file, number, rule)
        yield from _warnings(file, number, rule)
        yield from _graces(file, number, rule, every)
        yield from _notice(file, number, rule, every)


def _every(book: LimitsBook) -> Iterator[Limits]:
    """Yield the limits of every kind of container that may come."""
    for user in ("", *book.members, *book.users):
        for kind in TYPES:
            for interface in _INTERFACES:
                yield book.limits_for(user, kind, interface, _LATE)


def _allowance(file: PolicyFile, number: int, rule: PolicyRule) -> Iterator[Finding]:
    policy = file.policy
    for position, rung in enumerate(rule.rungs):
        offer = offer_of(rung.remediation)
        budget = policy.budget.get(rung.remediation, ())
        breaker = policy.open_after if offer.destructive else ()
        for what, limits in (("the breaker opens at", breaker), ("the budget allows", budget)):
            over = _over(rung.attempts, limits)
            if over is not None:
                ours, theirs = over
                message = f"{_said(ours)} can never be used up: {what} {_said(theirs)}"
                place = file.at("rules", number, "do", position, "attempts")
                yield finding(Kind.OVER_BREAKER, place, message)


def _over(ours: Iterable[Limit], theirs: Iterable[Limit]) -> tuple[Limit, Limit] | None:
    """Return an allowance and a limit over all that is less, for as long a time or longer."""
    for allowance in ours:
        for limit in theirs:
            if limit.count < allowance.count and limit.window >= allowance.window:
                return allowance, limit
    return None


def _said(limit: Limit) -> str:
    return f"{limit.count} per {format_duration(limit.window)}"


def _warnings(file: PolicyFile, number: int, rule: PolicyRule) -> Iterator[Finding]:
    taken = [
        rung.remediation
        for rung in rule.rungs
        if offer_of(rung.remediation).destructive and offer_of(rung.remediation).kind in _WARNED
    ]
    if taken and (rule.warn is None or not rule.warn.before):
        message = f"{taken[0]} comes without a warning: give people time to save their work"
        yield finding(Kind.NO_WARNING, file.at("rules", number, "do"), message)


def _graces(
    file: PolicyFile, number: int, rule: PolicyRule, every: Iterable[Limits]
) -> Iterator[Finding]:
    longest = max((one.sigterm_grace for one in every), default=None)
    for position, rung in enumerate(rule.rungs):
        if rung.remediation != "stop-container":
            continue
        given = rung.options.get("grace")
        grace = given if isinstance(given, timedelta) else longest
        if grace is not None and grace >= rung.timeout:
            message = (
                f"the grace of {format_duration(grace)} does not fit into the timeout of"
                f" {format_duration(rung.timeout)}: the attempt is given up before the kill"
            )
            yield finding(Kind.LONG_GRACE, file.at("rules", number, "do", position), message)


def _notice(
    file: PolicyFile, number: int, rule: PolicyRule, every: Iterable[Limits]
) -> Iterator[Finding]:
    shortest = _shortest(rule, every)
    if rule.warn is not None and shortest is not None and rule.warn.before > shortest:
        message = (
            f"a warning of {format_duration(rule.warn.before)} is longer than the shortest limit"
            f" itself, {format_duration(shortest)}"
        )
        yield finding(Kind.LONG_WARNING, file.at("rules", number, "warn", "before"), message)


def _shortest(rule: PolicyRule, every: Iterable[Limits]) -> timedelta | None:
    names = " ".join(name for one in rule.matchers for name in names_in(one))
    if "ContainerIdle" in names:
        return min(
            (one.idle_timeout for one in every if one.idle_timeout is not None), default=None
        )
    if "MaxRuntime" in names:
        return min((one.max_runtime for one in every if one.max_runtime is not None), default=None)
    return None
