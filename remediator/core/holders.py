"""Who holds a GPU: every process that uses it, or merely has its device open.

The driver lists those that compute or draw. Others stand in a reset's way as well: daemons, shells
and monitors that have the device open. Both are holders.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from remediator.core.notices import clean

_SHORT_ID = 12
_LONGEST_COMMAND = 80


class Via(enum.Enum):
    """How it is known that a process holds the GPU."""

    COMPUTE = "compute"
    GRAPHICS = "graphics"
    MPS = "mps"
    OPEN = "device open"
    MAPPED = "device mapped"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a GPU, exactly: a pid alone may be somebody else a moment later.

    ``command`` is its command line, or its name where it has none; ``user`` the name of the
    account, or its number where there is none. ``container_id`` is that in its cgroup, whether
    Docker knows it or not. What the process chose itself (``comm``, ``command``) is as it chose.
    """

    pid: int
    start_ticks: int
    comm: str
    command: str
    uid: int
    user: str
    container_id: str | None
    via: frozenset[Via]

    @property
    def is_on_gpu(self) -> bool:
        """Whether the driver lists it; otherwise it only has the device open."""
        return not self.via <= {Via.OPEN, Via.MAPPED}


def describe(holder: Holder, names: Mapping[str, str] | None = None) -> str:
    """Return who *holder* is, for a person; *names* are those of containers by full id."""
    parts = [f"pid {holder.pid} {clean(holder.command, _LONGEST_COMMAND)}"]
    if holder.container_id is not None:
        name = (names or {}).get(holder.container_id)
        told = f" ({clean(name)})" if name else ""
        parts.append(f"container {holder.container_id[:_SHORT_ID]}{told}")
    parts.append(clean(holder.user))
    if not holder.is_on_gpu:
        parts.append("only has the device open")
    return ", ".join(parts)
