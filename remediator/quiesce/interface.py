"""What is stopped and started again: the protocols that systemd and Docker keep."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from remediator.core.containers import KeptContainer
from remediator.core.services import UnitLinks, UnitState


class Services(Protocol):
    """The units of one systemd."""

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        """Return the state of each; SourceError if systemd is silent."""
        ...

    def links(self, units: Collection[str]) -> Mapping[str, UnitLinks]:
        """Return what each hangs together with; SourceError if systemd is silent."""
        ...

    def stop(self, unit: str, within: timedelta) -> None:
        """Stop it and wait until it is down, or raise a RemediationError."""
        ...

    def start(self, unit: str, within: timedelta, *, alone: bool = False) -> None:
        """Start it and wait until systemd has done so, or raise a RemediationError."""
        ...


class Containers(Protocol):
    """The host's containers, by name."""

    def look(self, name: str) -> KeptContainer | None:
        """Return the container of that name, None if there is none; SourceError if silent."""
        ...

    def stop_softly(self, container_id: str, within: timedelta) -> None:
        """Send its stop signal and wait until it has ended; never by force."""
        ...

    def start(self, container_id: str) -> None:
        """Start it again."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """What stops and starts: units and containers."""

    services: Services
    containers: Containers
