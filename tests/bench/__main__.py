"""Measure, print, and write RESULTS.md: ``python -m tests.bench [PART ...]``."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import report, scale
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.parts import PARTS
from tests.peers.stage import Stage


def main(arguments: Sequence[str], pace: Pace = IN_EARNEST) -> None:
    """Run the parts that are asked for; what the others measured before stays in RESULTS.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)}")
    asked = parser.parse_args(arguments).parts or list(PARTS)
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    verdicts = [verdict for name in asked for verdict in _run(name, pace).verdicts]
    report.write(list(PARTS))
    scale.PAGE.write_text(scale.page(scale.PAGE.read_text()))
    _say(report.verdict_table(verdicts).markdown())
    _say(f"written to {report.RESULTS.name} and {scale.PAGE.name}")


def _run(name: str, pace: Pace) -> report.Result:
    loaded, began = report.load(), time.monotonic()
    _say(f"{name}: {loaded} ...")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Stage(Path(folder)) as stage:
        result = PARTS[name](stage, pace)
    report.keep(name, result, loaded)
    for table in (*result.tables, report.verdict_table(result.verdicts)):
        _say(table.markdown())
    _say(f"{name} took {time.monotonic() - began:.0f} s\n")
    return result


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Whoever ends it early has all that it started ended as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(sys.argv[1:])
