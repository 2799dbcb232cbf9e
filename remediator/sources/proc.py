"""What the kernel knows of processes: ``/proc`` and the cgroup file systems.

A process is matched to a container by its cgroup, never by its parent: what ``docker exec``
starts is a child of the shim. Both roots can be given, for tests and for an exporter that runs in
a container with the host's file systems mounted elsewhere.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from remediator.errors import SourceError
from remediator.sources import cgroups
from remediator.sources.cgroups import CPU, MEMORY, Counter, Kind

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
# The column of /proc/PID/net/dev with the bytes sent; received ones are in the first.
_SENT = 8
# systemd.special(7): where services run, and where users' own do.
_SYSTEM_SLICE, _USER_SLICE = "system.slice", "user.slice"
_GONE = (FileNotFoundError, ProcessLookupError)
# Places in /proc/PID/stat, counted from the state behind the name.
_STATE, _FLAGS, _THREADS, _START = 0, 6, 17, 19
_NUMBERS = (_FLAGS, _THREADS, _START)
_ENDED = frozenset("ZX")
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
# More than twice the folders there are, and this many, are never remembered.
_FEW_FOLDERS = 500


class ProcSource:
    """The processes of this machine.

    Answers are None where the process is gone; SourceError where it is there and cannot be read.
    """

    def __init__(
        self, proc_root: Path = Path("/proc"), cgroup_root: Path = Path("/sys/fs/cgroup")
    ) -> None:
        self._proc = proc_root
        self._cgroup = cgroup_root
        self._folders: dict[tuple[str, Kind], tuple[str, bool]] = {}
        self._most_folders = _FEW_FOLDERS

    def container_of(self, pid: int, known_ids: Collection[str]) -> str | None:
        """Return which of the containers *known_ids* (full ids) the process is in, if in one.

        The shapes of a cgroup's path are many (v1, v2, systemd's scopes, Kubernetes, podman,
        a daemon in a cgroup namespace of its own), but each has the full id in it.
        """
        text = self._read(pid, "cgroup") or ""
        return next((found for found in _ID.findall(text) if found in known_ids), None)

    def container_id_in_cgroup(self, pid: int) -> str | None:
        """Return the container id in the process's cgroup, whether anybody knows it or not."""
        return next(iter(self.container_ids_in_cgroup(pid)), None)

    def container_ids_in_cgroup(self, pid: int) -> tuple[str, ...]:
        """Return every container id there, the outermost first: containers may be nested."""
        return tuple(dict.fromkeys(_ID.findall(self._read(pid, "cgroup") or "")))

    def unit_of(self, pid: int) -> str | None:
        """Return the unit of the system's own systemd that a process runs in; None if in none.

        Users have a systemd of their own, whose units may have any name: those are not told. A
        container may have one as well, and that looks like the system's.
        """
        for line in (self._read(pid, "cgroup") or "").splitlines():
            parts = line.rpartition(":")[2].split("/")
            if _SYSTEM_SLICE in parts and _USER_SLICE not in parts:
                below = parts[parts.index(_SYSTEM_SLICE) + 1 :]
                unit = next((part for part in below if not part.endswith(".slice")), None)
                if unit is not None:
                    return unit
        return None

    def start_ticks(self, pid: int) -> int | None:
        """Return when the process started, in clock ticks after boot: with it a pid is unique."""
        fields = self._stat(pid)
        return None if fields is None else int(fields[_START])

    def has_ended(self, pid: int) -> bool:
        """Tell whether it is gone, or only waits for its parent to take note of its end.

        A process whose first thread has ended goes on as long as others of its threads do.
        """
        fields = self._stat(pid)
        return fields is None or (fields[_STATE] in _ENDED and int(fields[_THREADS]) <= 1)

    def is_kernel_thread(self, pid: int) -> bool:
        """Tell whether it is a part of the kernel itself."""
        fields = self._stat(pid)
        return fields is not None and bool(int(fields[_FLAGS]) & _PF_KTHREAD)

    def standing(self, pid: int) -> str | None:
        """Return in which state the process is, and in which function of the kernel it waits.

        In state D it hears no signal, not even SIGKILL, until the kernel is done with it.
        """
        fields = self._stat(pid)
        if fields is None:
            return None
        state = "D (uninterruptible)" if fields[_STATE] == "D" else fields[_STATE]
        where = (self._read(pid, "wchan") or "").strip("0\n")
        return f"state {state}, waits in {where}" if where else f"state {state}"

    def command(self, pid: int) -> str | None:
        """Return the command line, which holds anything; empty for a kernel thread or a zombie."""
        text = self._read(pid, "cmdline")
        return None if text is None else text.replace("\0", " ").strip()

    def boot_id(self) -> str:
        """Return the id of the running boot, which makes start ticks comparable."""
        path = self._proc / "sys/kernel/random/boot_id"
        try:
            return path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror}") from error

    def owner_uid(self, pid: int) -> int | None:
        """Return the real user id of the process, as the host numbers it."""
        for line in (self._read(pid, "status") or "").splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[1])
        return None

    def comm(self, pid: int) -> str | None:
        """Return the name of the process, at most 15 characters of anything."""
        text = self._read(pid, "comm")
        return None if text is None else text.rstrip("\n")

    def is_in_hosts_namespaces(self, pid: int) -> bool | None:
        """Tell whether the process is among the host's own, with the host's users; None if gone.

        Containers of any kind have other processes, or other users where they have the host's.
        """
        try:
            kinds = {kind: os.readlink(f"{self._proc}/{pid}/ns/{kind}") for kind in ("pid", "user")}
        except _GONE:
            return None
        except OSError as error:
            raise SourceError(f"cannot tell the namespaces of {pid}: {error.strerror}") from error
        return all(found == self._namespace_of_host(kind) for kind, found in kinds.items())

    def cpu_seconds(self, pid: int, container_id: str | None = None) -> float | None:
        """Return the CPU time used by the cgroup of the process, or of the container around it."""
        found = self._counter(pid, container_id, CPU)
        return None if found is None else found.seconds

    def memory_bytes(self, pid: int, container_id: str | None = None) -> float | None:
        """Return the memory of the cgroup, without file pages the kernel can drop at once.

        That is what ``docker stats`` shows: usage less inactive file pages.
        """
        found = self._counter(pid, container_id, MEMORY)
        if found is None:
            return None
        return float(max(found.value - cgroups.droppable_bytes(found), 0))

    def memory_limit_bytes(self, pid: int, container_id: str | None = None) -> float | None:
        """Return the most memory that the cgroup may have; None if it is gone or has no limit."""
        found = self._folder(pid, container_id, MEMORY)
        limit = None if found is None else cgroups.memory_limit(*found)
        return None if limit is None else float(limit)

    def process_count(self, pid: int, container_id: str | None = None) -> int | None:
        """Return how many processes are in the cgroup and in those below it."""
        found = self._folder(pid, container_id, CPU)
        return None if found is None else cgroups.processes_in(found[0])

    def network_bytes(self, pid: int) -> tuple[int, int] | None:
        """Return bytes received and sent in the process's network, without its loopback.

        None too for a process in the host's own network: those counters are the host's, and say
        nothing about one container.
        """
        try:
            network = os.readlink(f"{self._proc}/{pid}/ns/net")
            if network == self._namespace_of_host("net"):
                return None
        except _GONE:
            return None
        except OSError as error:
            raise SourceError(f"cannot tell the network of {pid}: {error.strerror}") from error
        text = self._read(pid, "net/dev")
        return None if text is None else _sum_of_interfaces(text)

    def _namespace_of_host(self, kind: str) -> str:
        try:
            return os.readlink(f"{self._proc}/1/ns/{kind}")
        except (PermissionError, *_GONE):
            # Hardened kernels hide pid 1 even from root; we run in the host's network then.
            return os.readlink(f"{self._proc}/self/ns/{kind}")

    def _folder(self, pid: int, container_id: str | None, kind: Kind) -> tuple[str, bool] | None:
        """Return the cgroup's folder, and whether it is of version 2; None if that is gone."""
        known = self._folders.get((container_id, kind)) if container_id else None
        if known is not None:
            return known
        found = self._counter(pid, container_id, kind)
        return None if found is None else (found.folder, found.is_v2)

    def _counter(self, pid: int, container_id: str | None, kind: Kind) -> Counter | None:
        """Return a counter of the cgroup; None if that is gone.

        A container's folder has its id in its name, so it can be remembered: it can only be that
        container's, whoever has the pid by now.
        """
        known = self._folders.get((container_id, kind)) if container_id else None
        counter = known and cgroups.count(*known, kind)
        if counter:
            return counter
        for folder, is_v2 in self._candidates(pid, container_id, kind):
            counter = cgroups.count(folder, is_v2, kind)
            if counter is not None:
                if container_id:
                    self._remember(container_id, kind, (folder, is_v2))
                return counter
        text = self._read(pid, "cgroup")
        if text is not None and (container_id or "") in text:
            raise SourceError(
                f"the cgroup of process {pid} has no {kind.v1_file} under {self._cgroup}"
            )
        return None

    def _remember(self, container_id: str, kind: Kind, folder: tuple[str, bool]) -> None:
        if len(self._folders) >= self._most_folders:
            kept = {
                key: known for key, known in list(self._folders.items()) if os.path.exists(known[0])
            }
            self._folders, self._most_folders = kept, max(_FEW_FOLDERS, 2 * len(kept))
        self._folders[container_id, kind] = folder

    def _candidates(
        self, pid: int, container_id: str | None, kind: Kind
    ) -> Iterator[tuple[str, bool]]:
        """Yield the folders that may hold a counter, and whether each is of version 2."""
        for line in (self._read(pid, "cgroup") or "").splitlines():
            controllers, _, path = line.partition(":")[2].partition(":")
            inside = _within(path, container_id)
            if inside is None:
                continue
            if not controllers:
                for mount in cgroups.V2_MOUNTS:
                    yield f"{self._cgroup}/{mount}/{inside}", True
            elif kind.controller in controllers.split(","):
                for mount in dict.fromkeys((controllers, *kind.v1_mounts)):
                    yield f"{self._cgroup}/{mount}/{inside}", False

    def _stat(self, pid: int) -> list[str] | None:
        """Return the fields of ``stat`` behind the name (proc(5)), the state first."""
        text = self._read(pid, "stat")
        if text is None:
            return None
        # The name in parentheses may hold anything, so count from the last one.
        fields = text.rpartition(")")[2].split()
        if len(fields) <= _START or not all(fields[n].isdecimal() for n in _NUMBERS):
            raise SourceError(f"/proc/{pid}/stat makes no sense: {text[:200]!r}")
        return fields

    def _read(self, pid: int, name: str) -> str | None:
        path = f"{self._proc}/{pid}/{name}"
        try:
            return cgroups.content(path)
        except _GONE:
            return None
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _within(path: str, container_id: str | None) -> str | None:
    """Return a cgroup's path relative to its mount, cut off behind the container's part.

    None if it is not the container's: the pid belongs to somebody else by now. A daemon in a
    cgroup namespace sees ``/../..`` in front; a container with systemd has groups below its own.
    """
    parts = [part for part in path.split("/") if part and part != ".."]
    if container_id is None:
        return "/".join(parts)
    for position, part in enumerate(parts):
        if container_id in part:
            return "/".join(parts[: position + 1])
    return None


def _sum_of_interfaces(text: str) -> tuple[int, int]:
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        fields = counters.split()
        if name.strip() != "lo" and len(fields) > _SENT:
            received += int(fields[0])
            sent += int(fields[_SENT])
    return received, sent
