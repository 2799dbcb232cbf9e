"""What the engine is given to work with; put together in `remediator.wiring`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from remediator.clock import Clock
from remediator.core.notices import DigestRule
from remediator.core.policy import Policy
from remediator.engine.clock_watch import ClockWatch
from remediator.engine.extending import Containers
from remediator.engine.keeping import Links
from remediator.engine.people import Directory, Wording
from remediator.journal.journal import Journal
from remediator.metrics import WorkerMetrics
from remediator.remediations.interface import Remediation

_DIGEST = DigestRule()


@dataclass(frozen=True, slots=True)
class EngineParts:
    """Everything an incident needs from the first look to the last notice."""

    host: str
    journal: Journal
    policy: Callable[[], Policy]
    remediations: Mapping[str, Remediation]
    containers: Containers
    links: Links
    directory: Directory
    wording: Wording
    metrics: WorkerMetrics
    clock: Clock
    recheck: timedelta
    clock_watch: ClockWatch
    keep: timedelta = timedelta(days=400)
    digest: DigestRule = _DIGEST
