"""Results as tables: for the terminal while it runs, and for RESULTS.md."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.peers.missing import find_tool

RESULTS = Path(__file__).with_name("RESULTS.md")
# The same as data, part by part: what `tests.bench.scale` reckons with.
DATA = Path(__file__).with_name("results.json")
# What a part's numbers do not say by themselves, written by hand: PART.md.
NOTES = Path(__file__).with_name("notes")
_HEAD = """# Measurements

Written by `make bench`; see `tests/bench/` for what is measured and how.
Each row is measured beside what it is compared with, in turns, in one run of its part.
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing to be reached: what was measured, beside what, and what was wanted."""

    what: str
    measured: str
    against: str
    value: float
    target: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What a part has measured; ``facts`` are numbers by name that others reckon with."""

    tables: Sequence[Table] = ()
    verdicts: Sequence[Verdict] = ()
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with its unit, as it is shown."""

    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{number(self.value)} {self.unit}".strip()


def at_least(what: str, ours: Amount, theirs: Amount, least: float) -> Verdict:
    """Ours must be *least* times theirs, or more."""
    ratio = ours.value / theirs.value
    return Verdict(what, str(ours), str(theirs), ratio, f">= {least:g}x", ratio >= least)


def at_most(what: str, ours: Amount, theirs: Amount, most: float) -> Verdict:
    """Ours must be *most* times theirs, or less."""
    ratio = ours.value / theirs.value
    return Verdict(what, str(ours), str(theirs), ratio, f"<= {most:g}x", ratio <= most)


def below(what: str, ours: Amount, most: float, against: str = "") -> Verdict:
    """Ours must be *most*, in its own unit, or less."""
    target = f"<= {most:g} {ours.unit}".strip()
    return Verdict(what, str(ours), against, ours.value, target, ours.value <= most)


def verdict_table(verdicts: Sequence[Verdict], title: str = "What is to be reached") -> Table:
    """Return *verdicts* as a table."""
    rows = [
        (
            verdict.what,
            verdict.measured,
            verdict.against or "-",
            f"{verdict.value:.2f}x" if verdict.target.endswith("x") else "-",
            verdict.target,
            "yes" if verdict.reached else "**no**",
        )
        for verdict in verdicts
    ]
    return Table(title, ("what", "ours", "against", "ratio", "target", "reached"), rows)


def number(value: float) -> str:
    """Return *value* with about three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def keep(name: str, result: Result, began_at_load: str) -> None:
    """Put what part *name* measured in the place of what it measured before."""
    parts = _parts()
    parts[name] = {"measured": _conditions(began_at_load), **asdict(result)}
    DATA.write_text(json.dumps({"parts": parts}, indent=1, sort_keys=True) + "\n")


def write(order: Sequence[str]) -> None:
    """Write RESULTS.md from what is kept, the parts in this *order*."""
    RESULTS.write_text(rendered(order))


def rendered(order: Sequence[str]) -> str:
    """Return RESULTS.md for what is kept."""
    parts = {name: part for name, part in sorted_parts(order) if name in order}
    verdicts = [Verdict(**one) for part in parts.values() for one in part["verdicts"]]
    texts = [_HEAD, verdict_table(verdicts).markdown(), _reached(verdicts)]
    for name, part in parts.items():
        texts.append(f"# {name}\n\n{part['measured']}\n")
        texts += [Table(**table).markdown() for table in part["tables"]]
        note = NOTES / f"{name}.md"
        texts += [note.read_text()] if note.exists() else []
    return "\n".join(texts)


def facts() -> dict[str, float]:
    """Return every kept number by its name."""
    return {name: value for part in _parts().values() for name, value in part["facts"].items()}


def sorted_parts(order: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the kept parts in this *order*, those it does not name last."""
    places = {name: place for place, name in enumerate(order)}
    return sorted(_parts().items(), key=lambda part: places.get(part[0], len(places)))


def load() -> str:
    """Return how busy the machine was in the last minute, beside how much it can do."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _reached(verdicts: Sequence[Verdict]) -> str:
    reached = sum(verdict.reached for verdict in verdicts)
    return f"{reached} of {len(verdicts)} are reached.\n"


def _parts() -> dict[str, Any]:
    if not DATA.exists():
        return {}
    parts: dict[str, Any] = json.loads(DATA.read_text())["parts"]
    return parts


def _conditions(began_at_load: str) -> str:
    now = datetime.now(UTC)
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    peers = ", ".join(_version(name) for name in ("dockerd", "prometheus"))
    return (
        f"Measured on {now:%Y-%m-%d}, {began_at_load} at the beginning, {load()} at the end;"
        f" {_processor()}, {_memory_gib()} GiB of memory, {kernel},"
        f" Python {platform.python_version()}, {peers}."
    )


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
