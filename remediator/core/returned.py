"""GPU-hours returned: for how long a GPU was free that would have been held without us.

A stop returns each slot that its container had to itself, from the stop until the first of:

* the container's own max runtime, which would have ended it anyway,
* 24 hours, beyond which nobody can say what would have been,
* the next stop on the same slot: by then somebody held it again, and what follows is the next's.

What the GPU drew while it lay idle is energy that was not wasted in that time; of a slot whose GPU
nobody measured, such as a MIG device, that is unknown.

So one slot never returns more than an hour an hour, however often it is stopped. A slot that
others used as well returns nothing: it was not free afterwards. What became of the free GPU is not
asked: an hour that nobody wanted is returned all the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

LONGEST = timedelta(hours=24)
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_KILO = 1000


@dataclass(frozen=True, slots=True)
class Stop:
    """One proven stop of a container; ``shares`` says what of a GPU each slot is (0-1).

    ``allowed_until`` is when its max runtime would have ended it, None if it had none. ``watts``
    is what each slot drew right before, idle; slots that nobody measured are missing.
    """

    at: datetime
    owner: str
    shares: Mapping[str, float]
    allowed_until: datetime | None = None
    watts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which a slot was free because a container of *owner* had been stopped.

    ``watts`` is what it drew before that, idle; None where nobody measured it.
    """

    slot: str
    share: float
    owner: str
    begin: datetime
    end: datetime
    watts: float | None = None

    def hours(self, since: datetime, until: datetime) -> float:
        """Return the GPU-hours of it that lie between *since* and *until*."""
        lasted = min(self.end, until) - max(self.begin, since)
        return self.share * max(lasted, timedelta()) / _HOUR


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy not wasted: what idle GPUs would have drawn in the hours that were returned.

    It is known of ``measured_gpu_hours`` of these hours only.
    """

    kilowatt_hours: float
    measured_gpu_hours: float


def stretches(stops: Iterable[Stop]) -> tuple[Stretch, ...]:
    """Return what *stops* gave back, the oldest first; no two of one slot overlap."""
    found: list[Stretch] = []
    next_on: dict[str, datetime] = {}
    for stop in sorted(stops, key=lambda stop: stop.at, reverse=True):
        limit = stop.at + LONGEST
        if stop.allowed_until is not None:
            limit = min(limit, stop.allowed_until)
        for slot, share in stop.shares.items():
            end = min(limit, next_on.get(slot, limit))
            next_on[slot] = stop.at
            if share > 0 and end > stop.at:
                watts = stop.watts.get(slot)
                found.append(Stretch(slot, share, stop.owner, stop.at, end, watts))
    return tuple(reversed(found))


def hours_between(found: Sequence[Stretch], since: datetime, until: datetime) -> float:
    """Return the GPU-hours returned between two moments."""
    return sum(stretch.hours(since, until) for stretch in found)


def energy_between(found: Sequence[Stretch], since: datetime, until: datetime) -> Energy:
    """Return the energy that was not wasted between two moments, and how much is known of it."""
    measured = [(stretch, stretch.watts) for stretch in found if stretch.watts is not None]
    hours = [(stretch.hours(since, until), watts) for stretch, watts in measured]
    return Energy(sum(h * watts for h, watts in hours) / _KILO, sum(h for h, _ in hours))


def by_day(found: Sequence[Stretch], first: datetime, until: datetime) -> dict[datetime, float]:
    """Return the GPU-hours of each day from midnight *first* to *until*, days of none included."""
    days: dict[datetime, float] = {}
    while first + len(days) * _DAY < until:
        days[first + len(days) * _DAY] = 0.0
    for stretch in found:
        day = first + max(0, (stretch.begin - first) // _DAY) * _DAY
        while day < min(stretch.end, until):
            days[day] += stretch.hours(day, min(day + _DAY, until))
            day += _DAY
    return days


def by_owner(found: Sequence[Stretch], since: datetime, until: datetime) -> dict[str, float]:
    """Return the GPU-hours that the containers of each owner gave back, the most first."""
    hours: dict[str, float] = {}
    for stretch in found:
        hours[stretch.owner] = hours.get(stretch.owner, 0.0) + stretch.hours(since, until)
    some = {owner: sum_ for owner, sum_ in hours.items() if sum_ > 0}
    return dict(sorted(some.items(), key=lambda item: (-item[1], item[0])))
