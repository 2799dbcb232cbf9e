"""Noticing that somebody set the clock.

Notice periods, cooldowns and budgets are stretches of the time of day. If that jumps, a warning
may seem older than it is, and an attempt out of its window, so that too much is done.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ClockMark:
    """The time of day beside the time since a boot, which nobody can set."""

    boot: str
    uptime: timedelta
    at: datetime


def step_between(then: ClockMark, now: ClockMark) -> timedelta:
    """Return by how much the clock was set between two marks; negative if it was set back.

    Across a reboot only a clock that went back can be told from time that passed.
    """
    passed = now.at - then.at
    if then.boot == now.boot:
        return passed - (now.uptime - then.uptime)
    return min(passed, timedelta())
