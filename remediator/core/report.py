"""What a month brought, reckoned from what the journal kept of it.

Nothing here is estimated: what was not measured is unknown (None), and how much of a figure is
measured stands beside it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from remediator.core.attempts import AttemptState
from remediator.core.delays import Delays, delays_of
from remediator.core.months import Month
from remediator.core.returned import (
    Stop,
    Stretch,
    by_day,
    by_owner,
    energy_between,
    hours_between,
    stretches,
)

_RESTARTS = "restart-"
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that ended; ``alert_at`` is when the alert began that it answered.

    ``acts`` is whether it does something rather than tell people.
    """

    remediation: str
    state: AttemptState
    alert_at: datetime | None
    started_at: datetime | None
    ended_at: datetime
    acts: bool = True


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning about a container or other subject of *owner*."""

    owner: str
    subject: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Extended:
    """An extension of a container (its full id), however it was asked for."""

    container: str
    via: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Material:
    """What the journal kept of a month. ``stops`` reach back as far as they still give back."""

    stops: Sequence[Stop] = ()
    attempts: Sequence[Ended] = ()
    holds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    warnings: Sequence[Warned] = ()
    extensions: Sequence[Extended] = ()
    incidents: int = 0
    put_back: int = 0


@dataclass(frozen=True, slots=True)
class DayHours:
    """The GPU-hours returned on one day (UTC)."""

    day: date
    gpu_hours: float


@dataclass(frozen=True, slots=True)
class OwnerReturns:
    """What stops of one user's containers gave back; the energy is None where none was measured."""

    owner: str
    gpu_hours: float
    energy_kilowatt_hours: float | None
    stops: int


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How the attempts of one remediation ended."""

    remediation: str
    succeeded: int
    failed: int
    refused: int


@dataclass(frozen=True, slots=True)
class Held:
    """How often, and in how many incidents, nothing was done for this reason."""

    reason: str
    holds: int
    incidents: int


@dataclass(frozen=True, slots=True)
class OwnerWarnings:
    """How often one user was warned, and after how many of these the container was extended."""

    owner: str
    warnings: int
    then_extended: int


@dataclass(frozen=True, slots=True)
class Ways:
    """How many extensions came this way."""

    via: str
    extensions: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A month in a few numbers, to be compared with another; None is unknown.

    The energy is known of ``energy_measured_gpu_hours`` of the hours returned. The delays are from
    the start of an alert, by Prometheus's clock, to the first step of what was done about it, and
    to its proven end; warnings and approvals that come before are part of them.
    """

    month: str
    incidents: int
    gpu_hours: float
    energy_kilowatt_hours: float | None
    energy_measured_gpu_hours: float
    alert_to_begun: Delays | None
    alert_to_proven: Delays | None
    succeeded: int
    failed: int
    holds: int
    warnings: int
    extensions: int
    restarts: int
    put_back: int


@dataclass(frozen=True, slots=True)
class Report:
    """One month of one host. Times are UTC.

    ``until`` is the month's end, or now while it is not ``finished``. The journal reaches back to
    ``journal_since``; what is before that is missing. ``previous`` is the month before, None where
    the journal does not have all of it.
    """

    host: str
    since: datetime
    until: datetime
    finished: bool
    journal_since: datetime
    figures: Figures
    previous: Figures | None
    days: tuple[DayHours, ...]
    owners: tuple[OwnerReturns, ...]
    actions: tuple[Outcomes, ...]
    held: tuple[Held, ...]
    warned: tuple[OwnerWarnings, ...]
    extended: tuple[Ways, ...]

    @property
    def is_partial(self) -> bool:
        """Whether the journal does not reach back to the month's beginning."""
        return self.journal_since > self.since


def figures_of(month: Month, material: Material, now: datetime) -> Figures:
    """Return a month in a few numbers, as far as it has passed at *now*."""
    since, until = month.begin, min(month.end, now)
    found = stretches(material.stops)
    acted = [attempt for attempt in material.attempts if attempt.acts]
    done = [one for one in acted if one.state is AttemptState.SUCCEEDED]
    measured = energy_between(found, since, until)
    hours = hours_between(found, since, until)
    return Figures(
        month=str(month),
        incidents=material.incidents,
        gpu_hours=round(hours, 2),
        energy_kilowatt_hours=_energy(found, since, until),
        energy_measured_gpu_hours=round(measured.measured_gpu_hours, 2),
        alert_to_begun=delays_of(
            _seconds(one.alert_at, one.started_at)
            for one in acted
            if one.alert_at and one.started_at and one.state is not AttemptState.REFUSED
        ),
        alert_to_proven=delays_of(
            _seconds(one.alert_at, one.ended_at) for one in done if one.alert_at
        ),
        succeeded=len(done),
        failed=sum(one.state is AttemptState.FAILED for one in acted),
        holds=sum(times for times, _ in material.holds.values()),
        warnings=len(material.warnings),
        extensions=len(material.extensions),
        restarts=sum(one.remediation.startswith(_RESTARTS) for one in done),
        put_back=material.put_back,
    )


def days_of(month: Month, material: Material, now: datetime) -> tuple[DayHours, ...]:
    """Return the GPU-hours of each day of the month that has begun."""
    hours = by_day(stretches(material.stops), month.begin, min(month.end, now))
    return tuple(DayHours(day.date(), round(hour, 2)) for day, hour in hours.items())


def owners_of(month: Month, material: Material, now: datetime) -> tuple[OwnerReturns, ...]:
    """Return what each user's containers gave back, the most first."""
    since, until = month.begin, min(month.end, now)
    found = stretches(material.stops)
    of_owner: dict[str, list[Stretch]] = {}
    for stretch in found:
        of_owner.setdefault(stretch.owner, []).append(stretch)
    stops = Counter(stop.owner for stop in material.stops if since <= stop.at < until)
    return tuple(
        OwnerReturns(
            owner=owner,
            gpu_hours=round(hours, 2),
            energy_kilowatt_hours=_energy(of_owner[owner], since, until),
            stops=stops[owner],
        )
        for owner, hours in by_owner(found, since, until).items()
    )


def actions_of(attempts: Iterable[Ended]) -> tuple[Outcomes, ...]:
    """Return how the attempts of each remediation ended, by name."""
    counts = Counter((attempt.remediation, attempt.state) for attempt in attempts)
    return tuple(
        Outcomes(
            remediation=name,
            succeeded=counts[name, AttemptState.SUCCEEDED],
            failed=counts[name, AttemptState.FAILED],
            refused=counts[name, AttemptState.REFUSED],
        )
        for name in sorted({name for name, _ in counts})
    )


def held_of(holds: Mapping[str, tuple[int, int]]) -> tuple[Held, ...]:
    """Return the reasons for which nothing was done, the commonest first."""
    found = [Held(reason, times, incidents) for reason, (times, incidents) in holds.items()]
    return tuple(sorted(found, key=lambda held: (-held.holds, held.reason)))


def warned_of(
    warnings: Iterable[Warned], extensions: Iterable[Extended]
) -> tuple[OwnerWarnings, ...]:
    """Return who was warned, and how often an extension of that container followed."""
    newest: dict[str, datetime] = {}
    for one in extensions:
        subject = f"container:{one.container}"
        newest[subject] = max(one.at, newest.get(subject, one.at))
    warned: Counter[str] = Counter()
    extended: Counter[str] = Counter()
    for warning in warnings:
        owner, at = warning.owner or _UNKNOWN, newest.get(warning.subject)
        warned[owner] += 1
        extended[owner] += at is not None and at >= warning.at
    return tuple(
        OwnerWarnings(owner, times, extended[owner])
        for owner, times in sorted(warned.items(), key=lambda item: (-item[1], item[0]))
    )


def ways_of(extensions: Iterable[Extended]) -> tuple[Ways, ...]:
    """Return by which ways extensions came, the commonest first."""
    counts = Counter(extension.via for extension in extensions)
    return tuple(
        Ways(via, times)
        for via, times in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _energy(found: Sequence[Stretch], since: datetime, until: datetime) -> float | None:
    """Return the energy not wasted, None where hours were returned and none was measured."""
    measured = energy_between(found, since, until)
    if measured.measured_gpu_hours > 0 or hours_between(found, since, until) == 0:
        return round(measured.kilowatt_hours, 3)
    return None


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
