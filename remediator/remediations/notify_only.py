"""notify-only: tell people, and on purpose do nothing."""

from datetime import datetime
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.observation import Observation
from remediator.core.policy import Options
from remediator.core.targets import Named, subject_of
from remediator.remediations.interface import Steps
from remediator.sources.prometheus import Confirmation


class Confirming(Protocol):
    """Prometheus, as far as it is needed here."""

    def confirm(
        self, alert: Alert, now: datetime, *, exporter_must_answer: bool = True
    ) -> Confirmation:
        """Return whether the alert is firing."""
        ...


class NotifyOnly:
    """Confirms with Prometheus alone: nothing is at stake but somebody's attention."""

    name = "notify-only"

    def __init__(self, prometheus: Confirming) -> None:
        self._prometheus = prometheus

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what Prometheus says."""
        del options
        subject = subject_of(alert.labels)
        # That an exporter does not answer is itself worth telling, and often what the alert says.
        confirmation = self._prometheus.confirm(alert, now, exporter_must_answer=False)
        told = confirmation.annotations
        labels = confirmation.labels or {}
        return Observation(
            at=now,
            target=Named(subject),
            reports=(confirmation.report,),
            owner=labels.get("user"),
            # Without Prometheus nothing is known to call it by, and what it was called stays.
            title=labels.get("container") or (subject.name if labels else ""),
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
            context={"summary": told.get("description") or told.get("summary") or ""},
        )

    def execute(self, task: Task, steps: Steps) -> str:
        """Do nothing; the notice is written when the attempt is settled."""
        del steps
        return str(task.context.get("summary") or "people are told")

    def verify(self, task: Task) -> Verification:
        """Return that nothing had to be changed."""
        del task
        return Verification(Proof.PROVEN, "people are told")
