"""How AMD's device config manager stops and starts services around a partitioning.

Played after its `pkg/partition/utils/utils.go` and `configmanager.go`, without the fixed sleeps (22
s a service to stop, 12-22 s to start): they wait for nothing in particular. Its state before is a
mapping in memory, and the path that ``StopUnit`` returns, by which one could wait for the job, is
ignored.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pydbus
from gi.repository import GLib


class AmdFlow:
    """One run of it on the services of one systemd."""

    def __init__(self, bus_address: str, services: Sequence[str]) -> None:
        self._bus = pydbus.connect(bus_address)
        self._manager = self._bus.get(".systemd1")["org.freedesktop.systemd1.Manager"]
        self._services = [f"{name}.service" for name in services]
        self.pre_state: dict[str, str] = {}
        self.log: list[str] = []

    def run(self, partition: Callable[[], None]) -> None:
        """Stop, partition, and start what was active."""
        for service in self._services:
            self.pre_state.setdefault(service, self._status(service))
            if self.pre_state[service] == "active":
                self._try("StopUnit", service)
        partition()
        for service in self._services:
            if self.pre_state[service] == "active":
                self._try("StartUnit", service)
        self.pre_state.clear()
        self._bus.con.close_sync(None)

    def _status(self, service: str) -> str:
        try:
            unit = self._bus.get(".systemd1", self._manager.GetUnit(service))
            return str(unit["org.freedesktop.systemd1.Unit"].ActiveState)
        except GLib.Error:
            return "not-loaded"

    def _try(self, method: str, service: str) -> None:
        """Call it; a failure is logged, and that is all."""
        try:
            job: Any = getattr(self._manager, method)(service, "replace")
            self.log.append(f"{method} {service}: {job}")
        except GLib.Error as error:
            self.log.append(f"{method} {service} failed: {error.message}")


if __name__ == "__main__":
    # Says that everything was told to stop, and partitions until it is killed.
    AmdFlow(sys.argv[1], sys.argv[2:]).run(lambda: print(input("stopped\n")))
