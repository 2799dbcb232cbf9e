"""Who holds a GPU, in memory over `FakeKernel` and `FakeDriver`."""

from collections import defaultdict

from remediator.core.gpus import LostReading
from remediator.core.holders import Holder, Via
from remediator.errors import SourceError
from tests.fakes import FakeDriver, FakeKernel, FakeUsers


class FakeHolders:
    """Who holds a GPU; `open` makes somebody a mere client of its device."""

    def __init__(self, driver: FakeDriver, kernel: FakeKernel, users: FakeUsers) -> None:
        self._driver = driver
        self._kernel = kernel
        self._users = users
        self._clients: dict[int, set[int]] = defaultdict(set)
        self.silent = ""

    def open(self, minor: int, pid: int) -> None:
        """Let a process have a GPU's device open."""
        self._clients[minor].add(pid)

    def holders(self, gpu_uuid: str, minor: int | None = None) -> tuple[Holder, ...]:
        found: dict[int, set[Via]] = defaultdict(set)
        for reading in self._driver.readings():
            if reading.slot.parent_uuid != gpu_uuid:
                continue
            if isinstance(reading, LostReading):
                raise SourceError(f"GPU {gpu_uuid} does not answer: {reading.reason}")
            minor = reading.slot.minor if minor is None else minor
            for process in reading.processes:
                found[process.pid] |= {Via(process.kind), Via.OPEN}
        if minor is None:
            raise SourceError(f"nobody tells which device GPU {gpu_uuid} is")
        for pid in self._clients[minor]:
            found[pid].add(Via.OPEN)
        return self._identified(found)

    def at_device(self, minor: int) -> tuple[Holder, ...]:
        listed = {
            process.pid
            for reading in self._driver.readings()
            if not isinstance(reading, LostReading) and reading.slot.minor == minor
            for process in reading.processes
        }
        return self._identified({pid: {Via.OPEN} for pid in listed | self._clients[minor]})

    def _identified(self, found: dict[int, set[Via]]) -> tuple[Holder, ...]:
        if self.silent:
            raise SourceError(self.silent)
        return tuple(
            self._holder(pid, frozenset(via))
            for pid, via in sorted(found.items())
            if not self._kernel.has_ended(pid)
        )

    def _holder(self, pid: int, via: frozenset[Via]) -> Holder:
        process = self._kernel.processes[pid]
        return Holder(
            pid=pid,
            start_ticks=process.start_ticks,
            comm=process.comm or "",
            command=process.command,
            uid=process.uid,
            user=self._users.name_of_uid(process.uid) or str(process.uid),
            container_id=process.container_id,
            via=via,
        )
