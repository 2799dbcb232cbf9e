"""What DS01's slices used: a cgroup for each user, below one for the user's group.

systemd nests a slice by the dashes in its name: ``ds01-lab-alice.slice`` is in ``ds01-lab.slice``,
which is in ``ds01.slice``. What of the name is the group and what the user only the limits know.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import SourceError
from remediator.sources import cgroups
from remediator.sources.cgroups import CPU, MEMORY, Counter, Kind

_ROOT = "ds01.slice"
_PREFIX, _SUFFIX = "ds01-", ".slice"
# Names of groups have few dashes; a deeper tree is not DS01's.
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class SliceUse:
    """A slice that holds no other: ``name`` is what stands between ``ds01-`` and ``.slice``.

    None where that account is not kept.
    """

    name: str
    cpu_seconds: float | None
    memory_bytes: int | None


class UserSlices:
    """The slices under *cgroup_root*."""

    def __init__(self, cgroup_root: Path = Path("/sys/fs/cgroup")) -> None:
        self._root = cgroup_root

    def use(self) -> tuple[SliceUse, ...]:
        """Return what each slice used; none on a host without them.

        SourceError if they are there and cannot be listed.
        """
        cpu, memory = self._counters(CPU), self._counters(MEMORY)
        return tuple(
            SliceUse(
                name,
                cpu[name].seconds if name in cpu else None,
                memory[name].value if name in memory else None,
            )
            for name in sorted(cpu.keys() | memory.keys())
        )

    def _counters(self, kind: Kind) -> dict[str, Counter]:
        """Return *kind* by slice, from the first tree that has it: hybrids have several."""
        for tree, is_v2 in cgroups.trees(str(self._root), kind):
            counters = {
                name: cgroups.count(folder, is_v2, kind)
                for name, folder in _innermost(f"{tree}/{_ROOT}")
            }
            found = {name: counter for name, counter in counters.items() if counter is not None}
            if found:
                return found
        return {}


def _innermost(folder: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield name and folder of each slice below *folder* that holds no other."""
    below = _slices_in(folder) if depth < _DEEPEST else []
    for name in below:
        yield from _innermost(f"{folder}/{name}", depth + 1)
    if not below and depth > 0:
        name = os.path.basename(folder)
        yield name.removeprefix(_PREFIX).removesuffix(_SUFFIX), folder


def _slices_in(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(f"cannot read {folder}: {error.strerror}") from error
    return [name for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
