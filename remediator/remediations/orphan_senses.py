"""What is asked about a process on a GPU, and of whom: protocols that the sources keep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from remediator.core.containers import ContainerFacts, ContainerSummary
from remediator.core.gpus import Reading
from remediator.core.ownership import UserLookup
from remediator.remediations.senses import Prometheus


class Engine(Protocol):
    """The questions asked of Docker."""

    def list(self) -> tuple[ContainerSummary, ...]:
        """Return all containers, the stopped ones too."""
        ...

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return what is known of one container, or raise TargetGoneError."""
        ...

    def labels_of_removed(self, container_id: str) -> Mapping[str, str] | None:
        """Return the labels of a container that this very engine remembers removing."""
        ...


class Driver(Protocol):
    """The questions asked of NVML."""

    def readings(self) -> tuple[Reading, ...]:
        """Return what every slot is doing."""
        ...


class Kernel(Protocol):
    """The questions asked of /proc."""

    def boot_id(self) -> str:
        """Return the id of the running boot."""
        ...

    def start_ticks(self, pid: int) -> int | None:
        """Return when a process started, None if it is gone."""
        ...

    def has_ended(self, pid: int) -> bool:
        """Tell whether it is gone or a zombie."""
        ...

    def standing(self, pid: int) -> str | None:
        """Return in which state a process is, and where in the kernel."""
        ...

    def owner_uid(self, pid: int) -> int | None:
        """Return whose process it is."""
        ...

    def comm(self, pid: int) -> str | None:
        """Return its name."""
        ...

    def container_ids_in_cgroup(self, pid: int) -> tuple[str, ...]:
        """Return the ids of all containers around it."""
        ...

    def is_in_hosts_namespaces(self, pid: int) -> bool | None:
        """Tell whether the host's processes and users are around it."""
        ...


class Commands(Protocol):
    """The one question to /proc that may hang: it takes a lock of the process's memory."""

    def command(self, pid: int) -> str | None:
        """Return a process's command line, None where it cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class OrphanSenses:
    """Everything that is asked about a process."""

    prometheus: Prometheus
    engine: Engine
    driver: Driver
    kernel: Kernel
    users: UserLookup
    commands: Commands


@dataclass(frozen=True, slots=True)
class Permitted:
    """Who and what may use GPUs outside containers: users by name or number, programs by name."""

    users: frozenset[str] = frozenset()
    programs: frozenset[str] = frozenset()
