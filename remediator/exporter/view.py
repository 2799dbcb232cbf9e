"""What one scrape is about: containers, GPUs and limits joined at one moment."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import resolve
from remediator.core.gpus import GpuSlot
from remediator.core.lifecycle import is_infrastructure
from remediator.core.limits import Limits, LimitsBook
from remediator.core.ownership import Owner, container_type_of, interface_of
from remediator.errors import SourceError
from remediator.exporter.gpu_watch import GpuSample
from remediator.exporter.inventory import Snapshot, Tracked
from remediator.journal.extensions import Run

# Docker sets names no bounds; those of people are far shorter.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Resident:
    """A container as the metrics show it.

    ``slots`` are those it was given and those its processes are seen on; empty while the driver
    does not answer. ``is_exempt`` is the infrastructure that nothing may ever be done to.
    """

    facts: ContainerFacts
    owner: Owner
    interface: str
    container_type: str
    limits: Limits
    is_exempt: bool
    slots: tuple[GpuSlot, ...]
    keep_alive: tuple[datetime, datetime] | None

    @property
    def name(self) -> str:
        """The container's name for labels; of one without end so much that it is still its own."""
        name = self.facts.name
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{name[:_LONGEST_NAME]}~{self.facts.id[:12]}"

    @property
    def is_gpu(self) -> bool:
        """Whether it has GPU access, by what it was given or by what it does."""
        return self.facts.claims.is_gpu or bool(self.slots)

    @property
    def holds_gpus(self) -> bool:
        """Whether its slots are taken: it runs, and it is nobody's monitoring."""
        return self.facts.is_running and not self.is_exempt


@dataclass(frozen=True, slots=True)
class View:
    """The host at ``now``; ``gpus`` is the reason when the driver gave no answer.

    ``kept`` says until when an extension keeps a container's run.
    """

    now: datetime
    inventory: Snapshot
    residents: tuple[Resident, ...]
    gpus: GpuSample | SourceError
    book: LimitsBook
    limits_good: bool
    kept: Mapping[Run, datetime] = field(default_factory=dict)

    @property
    def gpu_residents(self) -> tuple[Resident, ...]:
        """The containers with GPU access."""
        return tuple(resident for resident in self.residents if resident.is_gpu)

    def sample(self) -> GpuSample:
        """Return the GPUs, or raise the SourceError that says why they are unknown."""
        if isinstance(self.gpus, SourceError):
            raise SourceError(str(self.gpus)) from self.gpus
        return self.gpus


def basis_of(view: View) -> object:
    """Return all that metrics about containers depend on, but for the time; cheap to compare."""
    is_untold = view.inventory.confirmed_at is None
    return view.residents, view.kept, is_untold, isinstance(view.gpus, SourceError)


def book_of(view: View) -> object:
    """Return the limits, for metrics that depend on nothing else that is in a view."""
    return view.book


class Residents:
    """Joins a container anew only if it, its processes' slots, the GPUs or the limits changed.

    Any number of threads may ask; nothing is kept of a container that is gone.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Mapping[str, _Joined]] = (None, {})

    def of(
        self, containers: Iterable[Tracked], sample: GpuSample, book: LimitsBook, now: datetime
    ) -> tuple[Resident, ...]:
        """Return *containers* as residents, those without change as the same objects."""
        # An exemption that is over changes limits without any file having changed.
        basis = (book, book.exemptions_at(now), sample.slots)
        last_basis, last = self._last
        known = last if basis == last_basis else {}
        seen = _slots_in_use(sample)
        joined = {
            tracked.facts.id: _join(
                tracked, seen.get(tracked.facts.id, ()), known, sample.slots, book, now
            )
            for tracked in containers
        }
        self._last = (basis, joined)
        return tuple(found.resident for found in joined.values())


@dataclass(frozen=True, slots=True)
class _Joined:
    tracked: Tracked
    seen: tuple[GpuSlot, ...]
    resident: Resident


def look(
    now: datetime,
    inventory: Snapshot,
    gpus: GpuSample | SourceError,
    *,
    book: LimitsBook,
    limits_good: bool,
    residents: Residents | None = None,
) -> View:
    """Return the three joined; *residents* remembers what it joined for the last look."""
    sample = GpuSample(()) if isinstance(gpus, SourceError) else gpus
    joined = (residents or Residents()).of(inventory.containers, sample, book, now)
    return View(now, inventory, joined, gpus, book, limits_good)


def _slots_in_use(sample: GpuSample) -> Mapping[str, tuple[GpuSlot, ...]]:
    """Return the slots that the processes of each container are on, by the container's id."""
    found: defaultdict[str, dict[GpuSlot, None]] = defaultdict(dict)
    for process in sample.processes:
        if process.container_id is not None:
            found[process.container_id][process.slot] = None
    return {container_id: tuple(slots) for container_id, slots in found.items()}


def _join(
    tracked: Tracked,
    seen: tuple[GpuSlot, ...],
    known: Mapping[str, _Joined],
    slots: tuple[GpuSlot, ...],
    book: LimitsBook,
    now: datetime,
) -> _Joined:
    last = known.get(tracked.facts.id)
    if last is not None and last.tracked is tracked and last.seen == seen:
        return last
    return _Joined(tracked, seen, _resident(tracked, seen, slots, book, now))


def _resident(
    tracked: Tracked,
    seen: tuple[GpuSlot, ...],
    slots: tuple[GpuSlot, ...],
    book: LimitsBook,
    now: datetime,
) -> Resident:
    facts = tracked.facts
    interface = interface_of(facts.labels)
    container_type = container_type_of(facts.labels)
    given = resolve(facts.claims, slots)
    return Resident(
        facts=facts,
        owner=tracked.owner,
        interface=interface,
        container_type=container_type,
        limits=book.limits_for(tracked.owner.user, container_type, interface, now),
        is_exempt=is_infrastructure(facts.labels),
        slots=tuple(dict.fromkeys((*given, *seen))),
        keep_alive=tracked.keep_alive,
    )
