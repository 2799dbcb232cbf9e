"""restart-service: restart the unit that the policy names, once, and see it stay up."""

from datetime import datetime, timedelta

from remediator.core.alerts import Alert
from remediator.core.attempts import Task, Verification
from remediator.core.observation import Observation
from remediator.core.policy import Options
from remediator.core.targets import Service
from remediator.remediations.interface import Steps
from remediator.remediations.maintenance import (
    Maintenance,
    NoMaintenance,
    refuse_under_way,
    unless_under_way,
)
from remediator.remediations.notify_only import Confirming
from remediator.remediations.unit_restart import SETTLES_FOR, UnitRestart, Units, service_of

# An alert over the samples of the last minutes ends that much later than the fault.
_PATIENCE = timedelta(minutes=5)


class RestartService:
    """Restarts a unit of *host* for as long as Prometheus has the alert firing about it.

    What its alert says about it nobody here can measure, so that two sources have to do: the
    rule of Prometheus, and systemd, which says whether a restart can help and who wants it down.
    """

    name = "restart-service"

    def __init__(
        self,
        prometheus: Confirming,
        units: Units,
        host: str,
        patience: timedelta = _PATIENCE,
        settles_for: timedelta = SETTLES_FOR,
        maintenance: Maintenance = NoMaintenance(),  # noqa: B008 - has no state
    ) -> None:
        self._prometheus = prometheus
        self._maintenance = maintenance
        self._unit = UnitRestart(units, patience, settles_for)
        self._host = host

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what Prometheus says of the alert, and systemd of the unit in *options*."""
        name = str(options["unit"])
        # That its exporter does not answer is what such an alert says.
        confirmation = self._prometheus.confirm(alert, now, exporter_must_answer=False)
        report, context = self._unit.look(name, confirmation.active_since, now)
        report = unless_under_way(report, name, self._maintenance)
        told = confirmation.annotations
        return Observation(
            at=now,
            target=Service(name, self._host),
            reports=(confirmation.report, report),
            title=name,
            context={**context, "summary": told.get("description") or told.get("summary") or ""},
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
        )

    def execute(self, task: Task, steps: Steps) -> str:
        """Restart the unit; what requires it stays up."""
        if not steps.before:
            refuse_under_way(service_of(task).name, self._maintenance)
        return self._unit.restart(task, steps)

    def verify(self, task: Task) -> Verification:
        """Return whether a new run of the unit stays up."""
        return self._unit.verify(task)
