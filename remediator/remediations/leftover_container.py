"""See whether a container that does not run has stayed for longer than its limits allow.

A keep-alive protects from the idle stop and not from this: who starts the container, keeps it.
"""

from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.containers import ContainerFacts
from remediator.core.durations import humanize
from remediator.core.gpus import LostReading
from remediator.core.lifecycle import Overstay, may_stay_because, stay_of
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.targets import Container, Target, UnstartedContainer
from remediator.errors import SourceError
from remediator.remediations.named_container import (
    Found,
    NamedContainers,
    known_of,
    observation_of,
    slots_of,
    without_target,
)
from remediator.remediations.senses import LimitsInForce, Senses

# Docker's words for a container that has ended; a dead one is what an earlier removal left.
ENDED = frozenset({"exited", "dead"})


class LeftoverContainer:
    """Observes the container that an alert names, for whoever may remove it.

    *overstay* is what the alert says of it: never started, or stopped for too long.
    """

    def __init__(self, senses: Senses, limits: LimitsInForce, overstay: Overstay) -> None:
        self._senses = senses
        self._containers = NamedContainers(senses, limits)
        self._overstay = overstay

    def observe(self, alert: Alert, now: datetime) -> Observation:
        """Return what Prometheus, Docker and NVML say of the container the alert names."""
        confirmation = self._senses.prometheus.confirm(alert, now)
        found = self._containers.find(alert, now)
        if isinstance(found, Report):
            return without_target(now, confirmation, found)
        docker = self._judge_standing(found.facts, confirmation.active_since)
        docker = found.with_good_limits(docker)
        exempt = None
        if docker.verdict is Verdict.AGREES:
            exempt = found.infrastructure or may_stay_because(self._overstay, found.limits)
            docker = self._judge_stay(found, docker, now)
        return observation_of(
            found,
            confirmation,
            target_of(found.facts),
            docker,
            self._judge_processes(found.facts),
            now=now,
            exempt=exempt,
            context={"gpus": slots_of(self._senses, found.facts)},
        )

    def _judge_standing(self, facts: ContainerFacts, active_since: datetime | None) -> Report:
        """Return Docker's opinion: it is as the alert says, and has GPU access."""
        known = known_of(facts)
        says = f"{facts.name} is {facts.state}"
        if facts.is_running:
            return Report(Source.DOCKER, Verdict.DISAGREES, says, known)
        if self._overstay is Overstay.NEVER_STARTED:
            is_it = facts.state == "created" and facts.started_at is None
        else:
            is_it = facts.state in ENDED and None not in {facts.started_at, facts.finished_at}
        if not is_it:
            return Report(Source.DOCKER, Verdict.GONE, says, known)
        if active_since is None:
            says += ", and nobody tells since when the alert is active"
            return Report(Source.DOCKER, Verdict.SILENT, says, known)
        if self._since(facts) > active_since:
            says += ", and that began after the alert: it ran since"
            return Report(Source.DOCKER, Verdict.GONE, says, known)
        if not facts.claims.is_gpu:
            says += " and has no GPU access"
            return Report(Source.DOCKER, Verdict.DISAGREES, says, known)
        return Report(Source.DOCKER, Verdict.AGREES, says, known)

    def _judge_stay(self, found: Found, docker: Report, now: datetime) -> Report:
        """Return *docker*'s agreement, if it has really stayed for as long as that."""
        limit = stay_of(self._overstay, found.limits)
        if limit is None:
            return docker
        since = self._since(found.facts)
        stayed = now - since
        known: dict[str, Fact] = {
            **docker.facts,
            "since": since.isoformat(),
            "stayed_seconds": round(stayed.total_seconds()),
            "limit_seconds": limit.total_seconds(),
        }
        told = f"{docker.says} since {since:%Y-%m-%d %H:%M:%S} UTC, for {humanize(stayed)}"
        verdict = Verdict.DISAGREES if stayed < limit else Verdict.AGREES
        return Report(Source.DOCKER, verdict, f"{told}; it may be for {humanize(limit)}", known)

    def _judge_processes(self, facts: ContainerFacts) -> Report:
        """Return NVML's opinion: no process of it is on a GPU, as there should be none anywhere."""
        try:
            left = sorted(
                process.pid
                for reading in self._senses.driver.readings()
                if not isinstance(reading, LostReading)
                for process in reading.processes
                if self._senses.kernel.container_of(process.pid, {facts.id})
            )
        except SourceError as error:
            return Report(Source.NVML, Verdict.SILENT, str(error))
        if left:
            says = f"processes of it are on a GPU: {', '.join(map(str, left))}"
            return Report(Source.NVML, Verdict.DISAGREES, says)
        return Report(Source.NVML, Verdict.AGREES, "no GPU runs a process of it")

    def _since(self, facts: ContainerFacts) -> datetime:
        never_ran = self._overstay is Overstay.NEVER_STARTED
        return facts.created_at if never_ran else facts.finished_at or facts.created_at


def target_of(facts: ContainerFacts) -> Target:
    """Return what a container is exactly: its last run, or that it has had none."""
    if facts.started_at is None:
        return UnstartedContainer(facts.id, facts.created_at)
    return Container(facts.id, facts.started_at)
