"""What a process holds: memory, open files, threads."""

import re
from dataclasses import dataclass
from pathlib import Path

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory is the proportional set size in KiB: shared pages count by their share."""

    memory_kib: int
    files: int
    threads: int


def footprint_of(pid: int) -> Footprint:
    """Return what process *pid* holds now."""
    process = Path(f"/proc/{pid}")
    found = _PSS.search((process / "smaps_rollup").read_text())
    return Footprint(
        memory_kib=int(found[1]) if found else 0,
        files=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
    )
