"""A stand-in for kill-orphan over a host in memory: it asks who confirms, and looks at the pid."""

from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Options
from remediator.core.targets import Process
from remediator.remediations.interface import Steps
from remediator.remediations.own_alerts import OwnAlerts
from tests.fakes import FakeHost


class OrphanEnder:
    """Ends the process that an alert names, if the kernel has it."""

    name = "kill-orphan"

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._prometheus = OwnAlerts(host.prometheus)
        self.ended: list[int] = []

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return whether Prometheus, or the journal, and the kernel know of it."""
        confirmation = self._prometheus.confirm(alert, now)
        pid = int(alert.labels["pid"])
        there = pid in self._host.kernel.processes
        kernel = Report(Source.NVML, Verdict.AGREES if there else Verdict.GONE, f"pid {pid}")
        return Observation(
            at=now,
            target=Process(pid, int(alert.labels["start_ticks"]), "boot-1"),
            reports=(confirmation.report, kernel),
            title=f"pid {pid}",
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
        )

    def execute(self, task: Task, steps: Steps) -> str:
        """End it."""
        assert isinstance(task.target, Process)
        pid = task.target.pid
        if steps.before:
            return "it was asked to"
        with steps.step("sigterm", f"SIGTERM to {pid}") as say:
            self.ended.append(pid)
            self._host.kernel.forget(pid)
            self._host.driver.forget(pid)
            say("sent")
        return "it ended"

    def verify(self, task: Task) -> Verification:
        """Return whether it is gone."""
        assert isinstance(task.target, Process)
        there = task.target.pid in self._host.kernel.processes
        return Verification(Proof.DISPROVEN if there else Proof.PROVEN, "so it is")
