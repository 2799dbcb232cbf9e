"""What is asked about a GPU that may be reset, and of whom: protocols that the sources keep."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from remediator.core.containers import ContainerFacts, ContainerSummary
from remediator.core.gpus import Gpu, GpuHealth
from remediator.core.holders import Holder
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


class Driver(Protocol):
    """The questions asked of NVML."""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU with its slots; a lost one is a value."""
        ...

    def health(self, gpu_uuid: str) -> GpuHealth:
        """Return what the driver thinks of a GPU."""
        ...

    def reset_group(self, gpu_uuid: str) -> tuple[str, ...]:
        """Return the GPUs that can only be reset together, this one among them."""
        ...

    def is_persistent(self, gpu_uuid: str) -> bool | None:
        """Return whether the driver keeps the GPU ready while nobody uses it."""
        ...

    def closed(self, why: str, within: timedelta) -> AbstractContextManager[None]:
        """Close the driver, and keep it closed for the time of the block."""
        ...


class Holders(Protocol):
    """Who holds a GPU."""

    def holders(self, gpu_uuid: str, minor: int | None = None) -> tuple[Holder, ...]:
        """Return who is listed by the driver or has the device open."""
        ...

    def at_device(self, minor: int) -> tuple[Holder, ...]:
        """Return who has the device open, without asking the driver."""
        ...


class Kernel(Protocol):
    """The questions asked of /proc."""

    def unit_of(self, pid: int) -> str | None:
        """Return the unit of the system's systemd that a process belongs to."""
        ...

    def owner_uid(self, pid: int) -> int | None:
        """Return whose process it is."""
        ...


@dataclass(frozen=True, slots=True)
class ResetSenses:
    """Everything that is asked about a GPU."""

    prometheus: Prometheus
    engine: Engine
    driver: Driver
    holders: Holders
    kernel: Kernel
    users: UserLookup


class Services(Protocol):
    """The services around the GPUs, which are stopped for a while: units and containers."""

    def quiesced(self, why: str, within: timedelta) -> AbstractContextManager[Sequence[str]]:
        """Stop those that run for the time of the block; they are restored whatever happens."""
        ...

    def held_by(self) -> int:
        """Return the descriptor that keeps others from restoring them, inside the block.

        A program that is given it keeps them off until it ends, also when this one is killed.
        """
        ...

    def recover(self) -> None:
        """Restore now what an earlier life of this program has left stopped, if nobody is about it.

        What cannot be restored stays for `unrestored` to tell.
        """
        ...

    def unrestored(self) -> tuple[str, ...]:
        """Return those that ran and do not run again so far; SourceError if that is not known."""
        ...
