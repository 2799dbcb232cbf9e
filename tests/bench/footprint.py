"""What a process holds: memory, open files, threads."""

import re
from dataclasses import dataclass
from pathlib import Path

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_OWN = re.compile(r"^Pss_Anon:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory is the proportional set size in KiB: shared pages count by their share.

    ``own_kib`` is without files that are mapped, whose share grows when others end.
    """

    memory_kib: int
    own_kib: int
    files: int
    threads: int


def footprint_of(pid: int) -> Footprint:
    """Return what process *pid* holds now."""
    process = Path(f"/proc/{pid}")
    told = (process / "smaps_rollup").read_text()
    found, own = _PSS.search(told), _OWN.search(told)
    return Footprint(
        memory_kib=int(found[1]) if found else 0,
        own_kib=int(own[1]) if own else 0,
        files=len(list((process / "fd").iterdir())),
        threads=len(list((process / "task").iterdir())),
    )
