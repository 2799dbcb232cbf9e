"""restart-dcgm: restart DCGM's exporter where it is down or frozen, until its values are fresh.

The exporter has one owner, a unit of systemd or Docker, and is restarted through that one alone.
It is asked to end and has 45 s for it at least: killed by force it can leave the profiling of the
GPUs taken, which only a reset gives back.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.dcgm import Figures, same_xids
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.policy import Options
from remediator.core.targets import Service
from remediator.remediations.dcgm_watch import DcgmWatch
from remediator.remediations.interface import Steps
from remediator.remediations.maintenance import (
    Maintenance,
    NoMaintenance,
    refuse_under_way,
    unless_under_way,
)
from remediator.remediations.notify_only import Confirming

# How long the exporter may take to end.
LEAST_STOP = timedelta(seconds=45)
# From its start to the first values it takes one or two of its intervals of 30 s.
PATIENCE = timedelta(seconds=90)


class Owner(Protocol):
    """What runs the exporter, and restarts it."""

    @property
    def source(self) -> Source:
        """Who is asked about it."""
        ...

    def look(
        self, name: str, active_since: datetime | None, now: datetime
    ) -> tuple[Report, Mapping[str, Fact]]:
        """Return what is said of the service *name*, and what an attempt wants to know."""
        ...

    def restart(self, task: Task, steps: Steps) -> str:
        """Restart it, unless it has been started anew since."""
        ...

    def verify(self, task: Task) -> Verification:
        """Return whether a new run stays up."""
        ...


class RestartDcgm:
    """Restarts the exporter called *service* when four agree that it does not measure.

    Prometheus has the alert firing, the owner says that a restart can help, the page is down or
    stands still now, and the driver answers and moves meanwhile.
    """

    name = "restart-dcgm"

    def __init__(
        self,
        prometheus: Confirming,
        owner: Owner,
        watch: DcgmWatch,
        service: Service,
        maintenance: Maintenance = NoMaintenance(),  # noqa: B008 - has no state
    ) -> None:
        self._maintenance = maintenance
        self._prometheus = prometheus
        self._owner = owner
        self._watch = watch
        self._service = service

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what all say of the exporter; it is watched only if the others agree."""
        del options
        confirmation = self._prometheus.confirm(alert, now, exporter_must_answer=False)
        name = self._service.name
        owner, context = self._owner.look(name, confirmation.active_since, now)
        owner = unless_under_way(owner, name, self._maintenance)
        reports: tuple[Report, ...] = (confirmation.report, owner)
        xids: Mapping[str, int] = {}
        if all(report.verdict is Verdict.AGREES for report in reports):
            watched = self._watch.look()
            reports, xids = reports + watched.reports, watched.xids
        told = confirmation.annotations
        return Observation(
            at=now,
            target=self._service,
            reports=reports,
            title=name,
            context={
                **context,
                "summary": told.get("description") or told.get("summary") or "",
                "xids": json.dumps(dict(xids)),
            },
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
        )

    def execute(self, task: Task, steps: Steps) -> str:
        """Restart it through its owner, without force."""
        if not steps.before:
            refuse_under_way(self._service.name, self._maintenance)
        return self._owner.restart(task, steps)

    def verify(self, task: Task) -> Verification:
        """Return whether a new run stays up and its values are fresh; 200 alone is no success."""
        up = self._owner.verify(task)
        if up.proof is not Proof.PROVEN:
            return up
        watched = self._watch.look()
        for report in watched.reports:
            if report.verdict is Verdict.SILENT:
                return Verification(Proof.UNKNOWN, f"{up.says}, but {report.says}")
            if report.source is Source.DCGM and report.verdict is Verdict.AGREES:
                return Verification(Proof.DISPROVEN, f"{up.says}, but {report.says}")
        fresh = "; ".join(r.says for r in watched.reports if r.source is Source.DCGM)
        return Verification(Proof.PROVEN, f"{up.says}; {fresh}{_kept(task, watched.page)}")


def _kept(task: Task, page: Figures) -> str:
    """Return a warning of XIDs that the restart was to clear from the page, if any is left."""
    before = json.loads(str(task.context.get("xids") or "{}"))
    left = same_xids(before, page)
    return f"; it still shows {left}, which is kept by the host engine" if left else ""
