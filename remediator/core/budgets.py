"""Counting attempts in windows: allowances of a rung and the host's budget.

A window is the half-open stretch ``(now - window, now]``. An attempt stamped in the future (the
clock was set back) counts as well: doubt about time must never make room for another attempt.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from remediator.core.attempts import PastAttempt
from remediator.core.case import Breaker
from remediator.core.catalogue import CATALOGUE
from remediator.core.policy import Limit, Policy, PolicyRule

_DESTRUCTIVE = frozenset(offer.name for offer in CATALOGUE if offer.destructive)


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits that attempts of *remediations* fill together, on whatever target.

    Those from before ``after`` are forgiven; one of that very moment is not, since doubt about time
    must never make room. Attempts that spend no allowance are left out by whoever asks.
    """

    remediations: frozenset[str]
    limits: tuple[Limit, ...]
    after: datetime | None = None

    def moments(self, counted: Iterable[PastAttempt]) -> list[datetime]:
        """Return when those of *counted* were planned that fill it."""
        return [
            attempt.planned_at
            for attempt in counted
            if attempt.remediation in self.remediations
            and (self.after is None or attempt.planned_at >= self.after)
        ]


def budget_of(policy: Policy, remediation: str) -> Quota:
    """Return what the host may see of one remediation."""
    return Quota(frozenset({remediation}), policy.budget.get(remediation, ()))


def breaker_of(policy: Policy, breaker: Breaker, now: datetime) -> Quota:
    """Return what the breaker lets the host see of all that is destructive.

    Attempts from before a person closed it are that person's responsibility. A closing that lies
    ahead of *now* was stamped by a clock that was set back since.
    """
    closed_at = breaker.closed_at
    after = closed_at if closed_at and closed_at <= now else None
    return Quota(_DESTRUCTIVE, policy.open_after, after)


def quotas_of(
    policy: Policy, policy_rule: PolicyRule, breaker: Breaker, now: datetime
) -> tuple[Quota, ...]:
    """Return every quota that a decision under *policy_rule* may depend on."""
    names = dict.fromkeys(rung.remediation for rung in policy_rule.rungs)
    return (*(budget_of(policy, name) for name in names), breaker_of(policy, breaker, now))


def spent_until(
    limits: Iterable[Limit], moments: Iterable[datetime], now: datetime
) -> datetime | None:
    """Return when the last of *limits* has room again, or None if all have room at *now*."""
    ordered = sorted(moments)
    found = [_room_again(limit, ordered, now) for limit in limits]
    return max([until for until in found if until is not None], default=None)


def spent_limit(
    limits: Iterable[Limit], moments: Iterable[datetime], now: datetime
) -> Limit | None:
    """Return the first of *limits* that has no room at *now*, None if all have."""
    ordered = sorted(moments)
    for limit in limits:
        if _room_again(limit, ordered, now) is not None:
            return limit
    return None


def _room_again(limit: Limit, ordered: Sequence[datetime], now: datetime) -> datetime | None:
    """Return when *limit* has room again, None if it has at *now*; the oldest of *ordered* first.

    It is full as long as its count, from the newest one on, is inside the window.
    """
    if len(ordered) < limit.count:
        return None
    until = ordered[len(ordered) - limit.count] + limit.window
    return until if until > now else None
