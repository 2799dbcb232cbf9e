"""What remediations of containers ask, and of whom: protocols that the sources keep."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.containers import ContainerFacts, ContainerSummary
from remediator.core.gpus import GpuGauges, GpuHealth, GpuSlot, Reading
from remediator.core.limits import LimitsBook
from remediator.core.ownership import UserLookup
from remediator.sources.prometheus import Confirmation, Sample


class Prometheus(Protocol):
    """Prometheus, as far as it is needed here."""

    def confirm(self, alert: Alert, now: datetime) -> Confirmation:
        """Return whether the alert is firing."""
        ...

    def samples(
        self, selector: str, window: timedelta
    ) -> list[tuple[Mapping[str, str], list[Sample]]]:
        """Return raw samples by series."""
        ...

    def value(self, expression: str) -> float | None:
        """Return the largest value of an expression."""
        ...


class Engine(Protocol):
    """The questions asked of Docker."""

    def list(self) -> tuple[ContainerSummary, ...]:
        """Return all containers, the stopped ones too."""
        ...

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return what is known of one container, or raise TargetGoneError."""
        ...

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        """Return modification and change time of the keep-alive file."""
        ...


class Driver(Protocol):
    """The questions asked of NVML."""

    def inventory(self) -> tuple[GpuSlot, ...]:
        """Return every slot."""
        ...

    def readings(self) -> tuple[Reading, ...]:
        """Return what every slot is doing."""
        ...

    def health(self, gpu_uuid: str) -> GpuHealth:
        """Return what the driver thinks of a physical GPU."""
        ...

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        """Return what the instruments of a physical GPU show."""
        ...

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        """Return recent utilisation by pid."""
        ...


class Kernel(Protocol):
    """The questions asked of /proc and the cgroups."""

    def container_of(self, pid: int, known_ids: Collection[str]) -> str | None:
        """Return which container a process is in."""
        ...

    def container_ids_in_cgroup(self, pid: int) -> tuple[str, ...]:
        """Return the ids of all containers around it, whether Docker knows them or not."""
        ...

    def is_in_hosts_namespaces(self, pid: int) -> bool | None:
        """Tell whether the host's processes and users are around it."""
        ...

    def start_ticks(self, pid: int) -> int | None:
        """Return when it started, in clock ticks after boot."""
        ...

    def comm(self, pid: int) -> str | None:
        """Return the name of a process, None if it is not to be seen."""
        ...

    def owner_uid(self, pid: int) -> int | None:
        """Return whose process it is."""
        ...

    def cpu_seconds(self, pid: int, container_id: str | None = None) -> float | None:
        """Return CPU time used."""
        ...

    def network_bytes(self, pid: int) -> tuple[int, int] | None:
        """Return bytes received and sent."""
        ...


class LimitsInForce(Protocol):
    """The limits file as it stands."""

    @property
    def book(self) -> LimitsBook:
        """The last limits that were good."""
        ...

    @property
    def is_good(self) -> bool:
        """Whether the file could be used when it was last read."""
        ...

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        ...


@dataclass(frozen=True, slots=True)
class Senses:
    """Everything that is asked before and after."""

    prometheus: Prometheus
    engine: Engine
    driver: Driver
    kernel: Kernel
    users: UserLookup
