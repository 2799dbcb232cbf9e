"""What processes cost: CPU time and memory of a program and of all that it started."""

import contextlib
import os
from pathlib import Path

from tests.bench.footprint import footprint_of

_TICKS = os.sysconf("SC_CLK_TCK")


def family_of(pid: int) -> list[int]:
    """Return *pid* and the processes below it that live now; such as end meanwhile have no more."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(one for child in children for one in family_of(child))]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that *pid* and all below it have used, those that ended included."""
    return sum(_cpu_of(one) for one in family_of(pid))


def memory_mib(*pids: int) -> float:
    """Return the proportional set size of the programs *pids* and all below them."""
    return sum(footprint_of(one).memory_kib for pid in pids for one in family_of(pid)) / 1024


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        # Its parent has waited for it, and been charged with it.
        return 0.0
    # utime, stime, and both of the children that were waited for.
    return sum(int(field) for field in fields[11:15]) / _TICKS
