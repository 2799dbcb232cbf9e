"""Counting attempts in windows: allowances of a rung and the host's budget.

A window is the half-open stretch ``(now - window, now]``. An attempt stamped in the future (the
clock was set back) counts as well: doubt about time must never make room for another attempt.
"""

from collections.abc import Iterable
from datetime import datetime

from remediator.core.policy import Limit


def spent_until(
    limits: Iterable[Limit], moments: Iterable[datetime], now: datetime
) -> datetime | None:
    """Return when the last of *limits* has room again, or None if all have room at *now*."""
    moments = sorted(moments)
    full = []
    for limit in limits:
        inside = [moment for moment in moments if moment > now - limit.window]
        if len(inside) >= limit.count:
            full.append(inside[len(inside) - limit.count] + limit.window)
    return max(full, default=None)
