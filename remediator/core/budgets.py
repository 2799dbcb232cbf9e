"""Counting attempts in windows: allowances of a rung and the host's budget.

A window is the half-open stretch ``(now - window, now]``. An attempt stamped in the future (the
clock was set back) counts as well: doubt about time must never make room for another attempt.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from remediator.core.policy import Limit


def spent_until(
    limits: Iterable[Limit], moments: Iterable[datetime], now: datetime
) -> datetime | None:
    """Return when the last of *limits* has room again, or None if all have room at *now*."""
    return max((until for _, until in _full(limits, moments, now)), default=None)


def spent_limit(
    limits: Iterable[Limit], moments: Iterable[datetime], now: datetime
) -> Limit | None:
    """Return the first of *limits* that has no room at *now*, None if all have."""
    return next((limit for limit, _ in _full(limits, moments, now)), None)


def _full(
    limits: Iterable[Limit], moments: Iterable[datetime], now: datetime
) -> Iterator[tuple[Limit, datetime]]:
    moments = sorted(moments)
    for limit in limits:
        inside = [moment for moment in moments if moment > now - limit.window]
        if len(inside) >= limit.count:
            yield limit, inside[len(inside) - limit.count] + limit.window
