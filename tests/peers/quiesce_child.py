"""A process that quiesces units and is killed at a chosen moment, for `kill -9` tests.

``python -m tests.peers.quiesce_child BUS STATE_DIR MOMENT UNIT...``: before its MOMENT-th change of
the machine or the record, and after its last one, it ends itself by SIGKILL, as a crash would.
"""

import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from remediator.actuators.services import Services
from remediator.clock import SystemClock
from remediator.quiesce.interface import Hands
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.quiesce import Quiesce, Quiesced
from remediator.quiesce.record import Record
from remediator.quiesce.restoring import RestoreTimes
from remediator.system_bus import SystemBus
from tests.fakes_services import FakeContainers

TIMES = RestoreTimes(
    start=timedelta(seconds=20), settle=timedelta(seconds=0.3), rest=timedelta(seconds=0.1)
)
_CHANGES = {"stop", "start", "begin", "stopping", "stopped", "restored", "reopen", "troubled"}


def a_quiesce(bus: str, folder: Path, units: tuple[str, ...]) -> Quiesce:
    """Return a quiesce of *units* on a real systemd, with its record in *folder*."""
    services = Services(SystemBus(bus, timedelta(seconds=10)))
    return _quiesce(services, Record.for_writing(folder), folder, units)


def _quiesce(services: Any, record: Any, folder: Path, units: tuple[str, ...]) -> Quiesce:
    hands = Hands(services, FakeContainers())
    return Quiesce(Quiesced(units), hands, record, QuiesceLock(folder), SystemClock(), TIMES)


class Mortal:
    """Passes every call on, and says so before each that changes something."""

    def __init__(self, wrapped: Any, before: Callable[[], None]) -> None:
        self._wrapped = wrapped
        self._before = before

    def __getattr__(self, name: str) -> Any:
        if name in _CHANGES:
            self._before()
        return getattr(self._wrapped, name)


def main(bus: str, folder: Path, moment: int, units: tuple[str, ...]) -> None:
    """Quiesce, and die at that moment."""
    left = [moment]

    def before() -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    services = Mortal(Services(SystemBus(bus, timedelta(seconds=10))), before)
    record = Mortal(Record.for_writing(folder), before)
    with _quiesce(services, record, folder, units).quiesced("a crash", timedelta(seconds=30)):
        before()
    print("finished")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), tuple(sys.argv[4:]))
