"""What one scrape is about: containers, GPUs and limits joined at one moment."""

from dataclasses import dataclass
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
    def is_gpu(self) -> bool:
        """Whether it has GPU access, by what it was given or by what it does."""
        return self.facts.claims.is_gpu or bool(self.slots)

    @property
    def holds_gpus(self) -> bool:
        """Whether its slots are taken: it runs, and it is nobody's monitoring."""
        return self.facts.is_running and not self.is_exempt


@dataclass(frozen=True, slots=True)
class View:
    """The host at ``now``; ``gpus`` is the reason when the driver gave no answer."""

    now: datetime
    inventory: Snapshot
    residents: tuple[Resident, ...]
    gpus: GpuSample | SourceError
    book: LimitsBook
    limits_good: bool

    @property
    def gpu_residents(self) -> tuple[Resident, ...]:
        """The containers with GPU access."""
        return tuple(resident for resident in self.residents if resident.is_gpu)

    def sample(self) -> GpuSample:
        """Return the GPUs, or raise the SourceError that says why they are unknown."""
        if isinstance(self.gpus, SourceError):
            raise SourceError(str(self.gpus)) from self.gpus
        return self.gpus


def look(
    now: datetime,
    inventory: Snapshot,
    gpus: GpuSample | SourceError,
    *,
    book: LimitsBook,
    limits_good: bool,
) -> View:
    """Return the three joined."""
    sample = GpuSample(()) if isinstance(gpus, SourceError) else gpus
    residents = tuple(_resident(tracked, sample, book) for tracked in inventory.containers)
    return View(now, inventory, residents, gpus, book, limits_good)


def _resident(tracked: Tracked, sample: GpuSample, book: LimitsBook) -> Resident:
    facts = tracked.facts
    interface = interface_of(facts.labels)
    container_type = container_type_of(facts.labels)
    given = resolve(facts.claims, sample.slots)
    seen = (p.slot for p in sample.processes if p.container_id == facts.id)
    return Resident(
        facts=facts,
        owner=tracked.owner,
        interface=interface,
        container_type=container_type,
        limits=book.limits_for(tracked.owner.user, container_type, interface),
        is_exempt=is_infrastructure(facts.labels),
        slots=tuple(dict.fromkeys((*given, *seen))),
        keep_alive=tracked.keep_alive,
    )
