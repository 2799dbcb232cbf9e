"""Put a quiesce together: for the worker, and for a command in the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from remediator.actuators.containers import ContainerActuator
from remediator.actuators.services import Services
from remediator.clock import Clock, SystemClock
from remediator.config.settings import Settings
from remediator.quiesce.interface import Hands
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.quiesce import Quiesce, Quiesced
from remediator.quiesce.record import Record
from remediator.quiesce.recovery import Recovery
from remediator.system_bus import SystemBus

_BUS_TIMEOUT = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class MadeQuiesce:
    """A quiesce with its record, and what goes on with it after a crash."""

    quiesce: Quiesce
    record: Record
    lock: QuiesceLock
    recovery: Recovery


def make_services(settings: Settings) -> Services:
    """Return the hands on the machine's units; nothing is connected to yet."""
    return Services(SystemBus(settings.dbus_address, _BUS_TIMEOUT))


def make_quiesce(
    settings: Settings, clock: Clock | None = None, units: Sequence[str] | None = None
) -> MadeQuiesce:
    """Return a quiesce of *units*, or of those in the settings and DCGM's container.

    RecordError if its record cannot be written.
    """
    record = Record.for_writing(settings.state_dir)
    lock = QuiesceLock(settings.state_dir)
    containers = (settings.dcgm_container,) if settings.dcgm_container and units is None else ()
    asked = Quiesced(tuple(settings.gpu_services if units is None else units), containers)
    hands = Hands(
        make_services(settings), ContainerActuator(settings.docker_host, settings.docker_timeout)
    )
    quiesce = Quiesce(asked, hands, record, lock, clock or SystemClock())
    return MadeQuiesce(quiesce, record, lock, Recovery(quiesce, record))
