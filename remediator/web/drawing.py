"""Turn values into what a template draws: times and spans as text, hours as bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from remediator.core.durations import humanize

# The drawing's own units; the browser scales it to the width there is.
CHART_WIDTH, CHART_HEIGHT = 700.0, 120.0
_GAP = 0.25


class Day(Protocol):
    """A day with what was given back on it."""

    @property
    def day(self) -> date:
        """Which one."""
        ...

    @property
    def gpu_hours(self) -> float:
        """How much."""
        ...


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of a chart, in the drawing's units, and what it says."""

    x: float
    y: float
    width: float
    height: float
    says: str


def bars_of(days: Sequence[Day]) -> tuple[Bar, ...]:
    """Return a bar for each day; the highest fills the chart."""
    highest = max((day.gpu_hours for day in days), default=0.0) or 1.0
    step = CHART_WIDTH / max(1, len(days))
    return tuple(
        Bar(
            x=round(number * step + step * _GAP / 2, 2),
            y=round(CHART_HEIGHT * (1 - day.gpu_hours / highest), 2),
            width=round(step * (1 - _GAP), 2),
            height=round(CHART_HEIGHT * day.gpu_hours / highest, 2),
            says=f"{day.day:%d %b}: {day.gpu_hours:g} GPU-hours",
        )
        for number, day in enumerate(days)
    )


def moment_text(at: datetime, now: datetime) -> str:
    """Return a time as short as it can be told from others; UTC."""
    if at.date() == now.date():
        return f"{at:%H:%M:%S}"
    return f"{at:%d %b %H:%M}" if at.year == now.year else f"{at:%Y-%m-%d %H:%M}"


def span_text(seconds: float) -> str:
    """Return a time in seconds for a person."""
    return humanize(timedelta(seconds=min(max(seconds, 0), 1e9)))


def percent_of(part: float, whole: float) -> float:
    """Return *part* as a percentage of *whole*, never outside 0-100."""
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole > 0 else 100.0
