"""What a stop of the past would have been worth, and whether somebody would have missed it.

GPU-hours are counted as `remediator.core.returned` counts them, and never beyond the moment at
which the container really ended. A container that ended within minutes anyway, as one does that
Remediator really stopped, tells neither. A stop is regretted if the container became busy again
within the hour.
"""

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.backtest.deciding import Deed, time_of
from remediator.backtest.facts import Course, Facts
from remediator.core.returned import Stop, stretches

REGRET_WITHIN = timedelta(hours=1)
_AT_ONCE = timedelta(minutes=10)
_RUNNING = 1.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A deed with what followed in reality; *hours* is None where nobody can say."""

    deed: Deed
    hours: float | None = None
    busy_again_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def regretted(self) -> bool:
        """Whether the container became busy again within the hour."""
        return self.busy_again_at is not None


def judge(deeds: Iterable[Deed], facts: Facts, end: int) -> list[Judged]:
    """Return what followed each of *deeds* in reality, until *end* (milliseconds)."""
    judged = [_judged(deed, facts, end) for deed in deeds]
    stops = [
        _stop(one, facts, end)
        for one in judged
        if one.deed.ends_container and one.hours is not None
    ]
    hours: dict[tuple[datetime, str], float] = {}
    for stretch in stretches(stops):
        key = (stretch.begin, stretch.owner)
        hours[key] = hours.get(key, 0.0) + stretch.hours(stretch.begin, stretch.end)
    return [
        Judged(one.deed, hours.get(_key(one), 0.0), one.busy_again_at, one.ended_at)
        if one.hours is not None and one.deed.ends_container
        else one
        for one in judged
    ]


def _judged(deed: Deed, facts: Facts, end: int) -> Judged:
    if not deed.ends_container:
        return Judged(deed)
    moment = round(deed.at.timestamp() * 1000)
    ended = _ends_at(facts.course("running", deed.subject.name), moment)
    ended_at = None if ended is None else time_of(ended)
    busy = facts.course("busy", deed.subject.name).first((1.0,), moment)
    busy_at = None if busy is None or busy >= end else time_of(busy)
    if busy_at is not None and busy_at - deed.at > REGRET_WITHIN:
        busy_at = None
    vanished = ended_at is not None and ended_at - deed.at <= _AT_ONCE
    return Judged(deed, None if vanished else 0.0, busy_at, ended_at)


def _ends_at(course: Course, moment: int) -> int | None:
    """Return when a container did not run any more; one that is not told of for a while may run."""
    place = bisect.bisect_right(course.times, moment)
    for number in range(place, len(course.times)):
        value = course.values[number]
        if value == 0 or (value is None and _RUNNING not in course.values[number:]):
            return course.times[number]
    return None


def _stop(one: Judged, facts: Facts, end: int) -> Stop:
    moment = round(one.deed.at.timestamp() * 1000)
    container = one.deed.subject.name
    until = [time_of(end)]
    if one.ended_at is not None:
        until.append(one.ended_at)
    started, most = (facts.value(name, container, moment) for name in ("started", "max_runtime"))
    if started is not None and most is not None:
        until.append(time_of(round((started + most) * 1000)))
    # The owner serves as the name of the deed: what comes back is told apart by it.
    return Stop(one.deed.at, _key(one)[1], facts.shares(container, moment), min(until))


def _key(one: Judged) -> tuple[datetime, str]:
    return one.deed.at, str(one.deed.subject)
