"""Results as tables: for the terminal while it runs, and for RESULTS.md."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.peers.missing import find_tool

RESULTS = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Measurements

Written by `make bench`; see `tests/bench/` for what is measured and how.
Times are medians of several rounds, in milliseconds unless said otherwise.
The ratios carry over to other machines, the times themselves do not.
"""


@dataclass(frozen=True, slots=True)
class Table:
    """One table with a title, and notes below it."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    def markdown(self) -> str:
        """Return the table as it stands in RESULTS.md."""
        lines = [f"## {self.title}", "", _row(self.head), _row(["---"] * len(self.head))]
        lines += [_row(row) for row in self.rows]
        lines += ["", *self.notes] if self.notes else []
        return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Return *value* with about three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(tables: Sequence[Table]) -> None:
    """Write RESULTS.md; a part that was not measured this time is gone from it."""
    parts = [_HEAD, _machine(), *(table.markdown() for table in tables)]
    RESULTS.write_text("\n".join(parts))


def load() -> str:
    """Return how busy the machine was in the last minute, beside how much it can do."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _machine() -> str:
    now = datetime.now(UTC)
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    lines = [
        f"Measured on {now:%Y-%m-%d}, {load()} at the end.",
        f"{os.cpu_count()} cores ({_processor()}), {_memory_gib()} GiB of memory, {kernel},",
        f"Python {platform.python_version()}, {_version('dockerd')}, {_version('prometheus')}.",
    ]
    return "\n".join(lines) + "\n"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return round(pages / 2**30)


def _version(program: str) -> str:
    path = find_tool(program)
    if path is None:
        return f"no {program}"
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    # Docker puts a comma behind the number, Prometheus a branch.
    words = (told.stdout or told.stderr).partition("version ")[2].split()
    return f"{program} {words[0].rstrip(',') if words else 'of unknown version'}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
