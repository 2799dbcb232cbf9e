"""The real worker, with a world that keeps count: each stop is one line in a ledger.

    python -m tests.peers.ledger_worker LEDGER

Everything is the program's own but the machine: sources agree, and what a remediation changes is
a line appended to a file, which like a stopped container outlives the worker and can be looked at.
"""

import os
import random
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from remediator.config.settings import read_settings
from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.observation import Observation, Report, Verdict
from remediator.core.policy import Options
from remediator.core.targets import Container
from remediator.logs import set_up_logging
from remediator.remediations.interface import Remediation, Steps
from remediator.wiring import worker as wiring
from tests.builders import THREE_SOURCES

_STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
# So that a kill meets every moment around the effect, not only the waits.
_LONGEST_PAUSE = 0.02


class StopInLedger:
    """Stops "containers" that are lines in a file."""

    name = "stop-container"

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return that all sources agree."""
        target = Container(alert.labels["container_id"], _STARTED_AT)
        reports = tuple(Report(source, Verdict.AGREES, "it is so") for source in THREE_SOURCES)
        return Observation(at=now, target=target, reports=reports, confirmed_labels=alert.labels)

    def execute(self, task: Task, steps: Steps) -> str:
        """Write the line, unless an earlier life of the worker did."""
        name = _name(task)
        if steps.before and name in stopped(self._ledger):
            return "it had been stopped before the interruption"
        with steps.step("stop", f"stop {name}"):
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311 - not a secret
            ledger = os.open(self._ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(ledger, f"{name}\n".encode())
            os.close(ledger)
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311
        return "stopped"

    def verify(self, task: Task) -> Verification:
        """Look into the ledger."""
        proven = _name(task) in stopped(self._ledger)
        return Verification(Proof.PROVEN if proven else Proof.DISPROVEN, "the ledger says")


def stopped(ledger: Path) -> list[str]:
    """Return every stop there was, in order."""
    return ledger.read_text().splitlines() if ledger.exists() else []


def _name(task: Task) -> str:
    assert isinstance(task.target, Container)
    return task.target.id


def main() -> None:
    ledger = Path(sys.argv[1])

    def make(*_given: object) -> Mapping[str, Remediation]:
        return {"stop-container": StopInLedger(ledger)}

    wiring.make_remediations = make  # type: ignore[assignment]
    set_up_logging("info", as_json=False)
    wiring.run_worker(read_settings(None, os.environ))


if __name__ == "__main__":
    main()
