"""Who holds a GPU: what the driver lists, and everybody who has its device open or mapped.

The driver does not list mere clients (daemons, monitors, a shell), and they too stand in a reset's
way. What cannot be looked at speaks for a holder that nobody sees: SourceError, never a short list.
"""

import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from remediator.core.gpus import LostReading, Reading
from remediator.core.holders import Holder, Via
from remediator.core.ownership import UserLookup
from remediator.errors import SourceError
from remediator.sources.proc import ProcSource

_GONE = (FileNotFoundError, ProcessLookupError)
_DELETED = " (deleted)"
# Hardened kernels hide it even from root. It uses no GPU.
_INIT = 1

_Found = dict[int, set[Via]]


class Driver(Protocol):
    """What is asked of NVML."""

    def readings(self) -> tuple[Reading, ...]:
        """Return what every slot is doing."""
        ...


class HolderSource:
    """The holders of this machine's GPUs; ourselves among them, where we are one."""

    def __init__(
        self,
        driver: Driver,
        processes: ProcSource,
        users: UserLookup,
        proc_root: Path = Path("/proc"),
    ) -> None:
        self._driver = driver
        self._processes = processes
        self._users = users
        self._proc = proc_root

    def holders(self, gpu_uuid: str, minor: int | None = None) -> tuple[Holder, ...]:
        """Return who holds a physical GPU, on all its MIG devices, in the order of their pids.

        *minor* is the N of its ``/dev/nvidiaN``, where the caller knows it: under MIG the driver
        tells it only of a GPU that is partitioned. SourceError where it cannot be told.
        """
        listed, known_minor = self._listed(gpu_uuid)
        minor = known_minor if minor is None else minor
        if minor is None:
            raise SourceError(f"nobody tells which device GPU {gpu_uuid} is")
        found = self._at_device(minor)
        for pid, via in listed.items():
            found[pid] |= via
        holders = tuple(self._identified(found))
        self._check_seen(gpu_uuid, set(listed), {holder.pid for holder in holders})
        return holders

    def at_device(self, minor: int) -> tuple[Holder, ...]:
        """Return who has ``/dev/nvidiaN`` open or mapped, without asking the driver.

        To ask the driver is to hold every GPU: right before a reset this is the question.
        """
        return tuple(self._identified(self._at_device(minor)))

    def _listed(self, gpu_uuid: str) -> tuple[_Found, int | None]:
        """Return whom the driver lists on the GPU, and which device it is."""
        own = [r for r in self._driver.readings() if r.slot.parent_uuid == gpu_uuid]
        found: _Found = defaultdict(set)
        minor = None
        for reading in own:
            if isinstance(reading, LostReading):
                raise SourceError(f"GPU {gpu_uuid} does not answer: {reading.reason}")
            minor = reading.slot.minor
            for process in reading.processes:
                found[process.pid].add(Via(process.kind))
        return found, minor

    def _check_seen(self, gpu_uuid: str, listed: set[int], seen: set[int]) -> None:
        """Raise SourceError if the driver lists processes that /proc does not have.

        One that has just ended is not listed again; a program in a pid namespace of its own would
        see nobody's processes.
        """
        missing = {pid for pid in listed - seen if not (self._proc / str(pid)).exists()}
        if missing and missing & set(self._listed(gpu_uuid)[0]):
            pids = ", ".join(str(pid) for pid in sorted(missing))
            raise SourceError(f"the driver lists pid {pids} on GPU {gpu_uuid}, which /proc has not")

    def _at_device(self, minor: int) -> _Found:
        if os.geteuid() != 0:
            raise SourceError(f"only root can tell who has /dev/nvidia{minor} open")
        found: _Found = defaultdict(set)
        try:
            pids = [
                int(name)
                for name in os.listdir(self._proc)
                if name.isdecimal() and int(name) != _INIT
            ]
            for pid in pids:
                for via in self._uses(pid, f"nvidia{minor}"):
                    found[pid].add(via)
        except OSError as error:
            message = f"cannot tell who has /dev/nvidia{minor} open: {error.strerror}"
            raise SourceError(f"{message}: {error.filename}") from error
        return found

    def _uses(self, pid: int, device: str) -> Iterator[Via]:
        """Yield how a process uses a device; OSError if it cannot be looked at."""
        folder = f"{self._proc}/{pid}"
        try:
            if any(_is_device(found) for found in _open_files(f"{folder}/fd", device)):
                yield Via.OPEN
            with open(f"{folder}/maps", encoding="utf-8", errors="replace") as maps:
                if any(_names(line.rstrip("\n"), device) for line in maps):
                    yield Via.MAPPED
        except _GONE:
            return

    def _identified(self, found: _Found) -> Iterator[Holder]:
        """Yield who they are, without those that have ended meanwhile."""
        for pid, via in sorted(found.items()):
            processes = self._processes
            started, uid = processes.start_ticks(pid), processes.owner_uid(pid)
            comm, command = processes.comm(pid), processes.command(pid)
            container_id = processes.container_id_in_cgroup(pid)
            if started is None or uid is None or processes.has_ended(pid):
                continue
            if processes.start_ticks(pid) != started:
                continue  # it ended, and another one has its pid
            yield Holder(
                pid=pid,
                start_ticks=started,
                comm=comm or "",
                command=command or comm or "",
                uid=uid,
                user=self._users.name_of_uid(uid) or str(uid),
                container_id=container_id,
                via=frozenset(via),
            )


def _open_files(folder: str, device: str) -> Iterator[str]:
    """Yield the descriptors in *folder* whose path ends with the device's name."""
    for name in os.listdir(folder):
        descriptor = f"{folder}/{name}"
        try:
            if _names(os.readlink(descriptor), device):
                yield descriptor
        except _GONE:
            continue


def _names(path: str, device: str) -> bool:
    """Tell whether *path* is the device's: containers and chroots have a /dev of their own."""
    return path.removesuffix(_DELETED).rpartition("/")[2] == device


def _is_device(descriptor: str) -> bool:
    """Tell whether an open file is a device, and not merely called like one."""
    try:
        return stat.S_ISCHR(os.stat(descriptor).st_mode)
    except _GONE:
        return False
