"""Who has a simulated GPU's device node open, as nvidia-smi must know before a reset.

The rule by which a node is recognised is the library's (processes.c, first comment); this adds the
mere clients: those that have the node open for reading only.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.gpu.state import Gpu, State, start_ticks

NODE_DEVICE = os.makedev(1, 3)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with the node open; `is_user` if for writing too, so that NVML lists it."""

    pid: int
    is_user: bool


def holders(state: State, gpu: Gpu) -> list[Holder]:
    """Return who holds *gpu* now: one entry per process, in the order of their pids."""
    found: dict[int, bool] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        for is_user in _descriptors(state, gpu, pid):
            found[pid] = found.get(pid, False) or is_user
    return [Holder(pid, is_user) for pid, is_user in found.items()]


def listed(gpu: Gpu) -> list[int]:
    """Return the pids that the state lists by hand and that are still those processes."""
    starts = {process.pid: start_ticks(process.pid) for process in gpu.listed}
    return [
        process.pid
        for process in gpu.listed
        if starts[process.pid] is not None and process.start in (0, starts[process.pid])
    ]


def _descriptors(state: State, gpu: Gpu, pid: int) -> Iterator[bool]:
    """Yield, for each of the process's descriptors of the node, whether it is for writing too."""
    folder = Path(f"/proc/{pid}/fd")
    node = Path(state.values["devices"], f"nvidia{gpu.values['minor']}")
    copy = f"/dev/nvidia{gpu.values['minor']}"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            link = os.readlink(folder / name)
            if not Path(link).name.startswith("nvidia"):
                continue
            file, access = (folder / name).stat(), (folder / name).lstat().st_mode
            is_node = node.exists() and os.path.samestat(file, node.stat())
        except OSError:
            continue
        if file.st_rdev != NODE_DEVICE:
            continue
        if is_node or (link == copy and not _is_another_hosts(state, pid)):
            yield access & (stat.S_IRUSR | stat.S_IWUSR) == stat.S_IRUSR | stat.S_IWUSR


def _is_another_hosts(state: State, pid: int) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return False
    for variable in environment.split("\0"):
        name, _, value = variable.partition("=")
        if name == "NVIDIA_VISIBLE_DEVICES" and ("GPU-" in value or "MIG-" in value):
            ours = {gpu.values["uuid"] for gpu in state.gpus}
            ours |= {mig.uuid for gpu in state.gpus for mig in gpu.migs}
            return ours.isdisjoint(value.split(","))
    return False
