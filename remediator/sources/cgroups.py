"""The kernel's accounts of a group of processes: where they stand, and how they read.

Three layouts occur: version 1 with a tree per controller, version 2 with one tree, and the hybrid
of both, where the controllers stay in their version 1 trees.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

# The name of the v2 tree is empty in /proc/PID/cgroup; hybrid systems mount it beside v1.
V2_MOUNTS = ("", "unified")
# Version 1 says "no limit" with the largest number of whole pages; nobody has an exbibyte.
_NO_LIMIT = 1 << 60
_PART_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """Where a counter stands: the v1 controller, and the file's name in both versions."""

    controller: str
    v1_mounts: tuple[str, ...]
    v1_file: str
    v2_file: str
    v2_key: str = ""


CPU = Kind(
    controller="cpuacct",
    # Where distributions mount it; the tree is often shared with "cpu".
    v1_mounts=("cpuacct", "cpu,cpuacct", "cpuacct,cpu"),
    v1_file="cpuacct.usage",
    v2_file="cpu.stat",
    v2_key="usage_usec",
)
MEMORY = Kind(
    controller="memory",
    v1_mounts=("memory",),
    v1_file="memory.usage_in_bytes",
    v2_file="memory.current",
)


@dataclass(frozen=True, slots=True)
class Counter:
    """A number the kernel keeps for the group at ``folder``."""

    folder: str
    is_v2: bool
    value: int

    @property
    def seconds(self) -> float:
        """The value of `CPU`, which is in microseconds or nanoseconds."""
        return self.value / (1e6 if self.is_v2 else 1e9)


def trees(root: str, kind: Kind) -> Iterator[tuple[str, bool]]:
    """Yield the trees under *root* that may hold *kind*, and whether each is of version 2."""
    for mount in kind.v1_mounts:
        yield f"{root}/{mount}", False
    for mount in V2_MOUNTS:
        yield f"{root}/{mount}", True


def count(folder: str, is_v2: bool, kind: Kind) -> Counter | None:
    """Return a counter of the group at *folder*; None if it has none such."""
    text = read(f"{folder}/{kind.v2_file if is_v2 else kind.v1_file}")
    if text is None:
        return None
    value = _value_of(kind.v2_key, text) if is_v2 and kind.v2_key else _number(text)
    return None if value is None else Counter(folder, is_v2, value)


def droppable_bytes(memory: Counter) -> int:
    """Return how much of *memory* are file pages that the kernel can drop at once."""
    key = "inactive_file" if memory.is_v2 else "total_inactive_file"
    return _value_of(key, read(f"{memory.folder}/memory.stat") or "") or 0


def memory_limit(folder: str, is_v2: bool) -> int | None:
    """Return the most memory in bytes that the group at *folder* may have; None for no limit."""
    text = read(f"{folder}/{'memory.max' if is_v2 else 'memory.limit_in_bytes'}")
    limit = None if text is None else _number(text)
    return None if limit is None or limit >= _NO_LIMIT else limit


def processes_in(folder: str) -> int | None:
    """Return how many processes are in the group at *folder* and those below; None if gone."""
    text = read(f"{folder}/cgroup.procs")
    if text is None:
        return None
    below = sum(processes_in(group) or 0 for group in _groups_below(folder))
    return text.count("\n") + below


def read(path: str) -> str | None:
    """Return what one of the kernel's files says; None if that cannot be read."""
    try:
        return content(path)
    except (OSError, ValueError):  # a NUL in a path, which no cgroup has, is a ValueError
        return None


def content(path: str) -> str:
    """Return what one of the kernel's files says, in as few calls as there can be; OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        # Such files have no size; an empty part is their end.
        while part := os.read(file, _PART_BYTES):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    finally:
        os.close(file)


def _value_of(key: str, text: str) -> int | None:
    """Return the number behind *key* in a file such as ``cpu.stat``, which has one a line."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return _number(value)
    return None


def _groups_below(folder: str) -> list[str]:
    try:
        # A folder's own two links and one for each below: most containers have none.
        if os.stat(folder).st_nlink == 2:  # noqa: PLR2004
            return []
        with os.scandir(folder) as found:
            return [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
