"""Measure, print, and write RESULTS.md: ``python -m tests.bench [PART ...]``."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import report
from tests.bench.rules import bench_rules
from tests.bench.scrapes import bench_churn, bench_scrapes
from tests.peers.stage import Stage

PARTS: dict[str, Callable[[Stage], list[report.Table]]] = {
    "scrapes": bench_scrapes,
    "churn": bench_churn,
    "rules": bench_rules,
}


def main() -> None:
    """Run the parts that are asked for; RESULTS.md is only written when all were run."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)}")
    asked = parser.parse_args().parts or list(PARTS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    tables = [table for name in asked for table in _run(name)]
    if set(asked) == set(PARTS):
        report.write(tables)
        _say(f"written to {report.RESULTS.name}")


def _run(name: str) -> list[report.Table]:
    _say(f"{name}: {report.load()} ...")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Stage(Path(folder)) as stage:
        tables = PARTS[name](stage)
    for table in tables:
        _say(table.markdown())
    return tables


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
