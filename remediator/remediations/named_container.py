"""Find the container an alert names: what Docker knows of it, whose it is, which limits hold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import resolve
from remediator.core.gpus import LostReading, Reading
from remediator.core.lifecycle import is_infrastructure
from remediator.core.limits import Limits
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.ownership import Owner, container_type_of, interface_of, owner_of
from remediator.core.targets import Container, Target
from remediator.errors import SourceError, TargetGoneError
from remediator.remediations.senses import LimitsInForce, Senses
from remediator.sources.prometheus import Confirmation

_FULL_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BROKEN_LIMITS = "the limits file cannot be used, so nobody is stopped: see the worker's log"


@dataclass(frozen=True, slots=True)
class Found:
    """A container, its owner and its limits now; ``limits_good`` says whether these can be used."""

    facts: ContainerFacts
    owner: Owner
    limits: Limits
    limits_good: bool

    @property
    def infrastructure(self) -> str | None:
        """Why it is exempt from everything, None if it is not."""
        if is_infrastructure(self.facts.labels):
            return "it is infrastructure (ds01.monitoring or ds01.protected)"
        return None

    def with_good_limits(self, docker: Report) -> Report:
        """Return *docker*, which agrees with nothing while nobody knows the limits."""
        if docker.verdict is not Verdict.AGREES or self.limits_good:
            return docker
        return Report(Source.DOCKER, Verdict.SILENT, _BROKEN_LIMITS)


class NamedContainers:
    """Finds them in Docker, by their full id and nothing else."""

    def __init__(self, senses: Senses, limits: LimitsInForce) -> None:
        self._senses = senses
        self._limits_file = limits

    def find(self, alert: Alert, now: datetime) -> Found | Report:
        """Return the container that *alert* names, or Docker's report that it cannot be found."""
        try:
            return self.of_id(alert.labels.get("container_id", ""), now)
        except TargetGoneError as error:
            return Report(Source.DOCKER, Verdict.GONE, str(error))
        except SourceError as error:
            return Report(Source.DOCKER, Verdict.SILENT, str(error))

    def of_id(self, container_id: str, now: datetime) -> Found:
        """Return the container of a full id; TargetGoneError or SourceError if there is none."""
        facts = self._inspect(container_id)
        self._limits_file.refresh()
        # Asked before the limits are taken: those of a good file are then at least as new.
        limits_good = self._limits_file.is_good
        owner = self._owner(facts)
        return Found(facts, owner, self._limits(owner, facts, now), limits_good)

    def _inspect(self, container_id: str) -> ContainerFacts:
        # Docker would take a name or the beginning of an id as well: that is not an identity.
        if not _FULL_ID.fullmatch(container_id):
            raise TargetGoneError("the alert's container_id is not a full container id")
        return self._senses.engine.inspect(container_id)

    def _owner(self, facts: ContainerFacts) -> Owner:
        try:
            uid = self._senses.kernel.owner_uid(facts.pid) if facts.pid else None
        except SourceError:
            uid = None
        return owner_of(facts, users=self._senses.users, pid_owner=uid)

    def _limits(self, owner: Owner, facts: ContainerFacts, now: datetime) -> Limits:
        kind, interface = container_type_of(facts.labels), interface_of(facts.labels)
        return self._limits_file.book.limits_for(owner.user, kind, interface, now)


def observation_of(
    found: Found,
    confirmation: Confirmation,
    target: Target | None,
    *reports: Report,
    now: datetime,
    exempt: str | None,
    context: Mapping[str, Fact],
) -> Observation:
    """Return what was seen of *found*, with what an attempt will want to know of it."""
    told = confirmation.annotations
    return Observation(
        at=now,
        target=target,
        reports=(confirmation.report, *reports),
        labels=found.facts.labels,
        exempt=exempt,
        owner=found.owner.user if found.owner.is_known else None,
        title=found.facts.name,
        context={
            **context,
            "container": found.facts.name,
            "summary": told.get("description") or told.get("summary") or "",
        },
        confirmed_labels=confirmation.labels,
        active_since=confirmation.active_since,
    )


def without_target(now: datetime, confirmation: Confirmation, docker: Report) -> Observation:
    """Return what was seen where nothing exact could be found."""
    return Observation(
        at=now,
        target=None,
        reports=(confirmation.report, docker),
        confirmed_labels=confirmation.labels,
        active_since=confirmation.active_since,
    )


def unknown_to(remediation: str, alert: Alert, now: datetime) -> Observation:
    """Return that *remediation* cannot check what *alert* says, so that it does nothing."""
    says = f"{remediation} does not know how to check {alert.name}"
    return Observation(at=now, target=None, reports=(Report(Source.DOCKER, Verdict.SILENT, says),))


def known_of(facts: ContainerFacts) -> dict[str, Fact]:
    """Return the facts of a container that are worth keeping as evidence."""
    return {
        "name": facts.name,
        "state": facts.state,
        "started_at": facts.started_at.isoformat() if facts.started_at else None,
    }


def run_of(facts: ContainerFacts) -> Container | None:
    """Return the very run of a container that may be acted on, None if it never ran."""
    return Container(facts.id, facts.started_at) if facts.started_at else None


def judge_running(facts: ContainerFacts, active_since: datetime | None) -> Report:
    """Return Docker's opinion: the very run that the alert is about, and with GPU access."""
    known = known_of(facts)
    if not facts.is_running or facts.started_at is None:
        return Report(Source.DOCKER, Verdict.GONE, f"{facts.name} is {facts.state}", known)
    since = f"{facts.name} is {facts.state} since {facts.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if active_since is None:
        says = f"{since}, and nobody tells since when the alert is active"
        return Report(Source.DOCKER, Verdict.SILENT, says, known)
    if facts.started_at > active_since:
        says = f"{since}, which is after the alert began: it was started anew"
        return Report(Source.DOCKER, Verdict.GONE, says, known)
    if not facts.claims.is_gpu:
        says = f"{since} and has no GPU access"
        return Report(Source.DOCKER, Verdict.DISAGREES, says, known)
    return Report(Source.DOCKER, Verdict.AGREES, since, known)


def slots_of(senses: Senses, facts: ContainerFacts) -> str:
    """Return the names of the GPUs a container has, by claim or by a process, as one text.

    It is for what comes after a remediation, not for deciding: nothing where nobody can tell.
    """
    try:
        readings = senses.driver.readings()
        own = {slot.uuid for slot in resolve(facts.claims, [r.slot for r in readings])}
        named = [r.slot.slot for r in readings if r.slot.uuid in own or _uses(senses, facts, r)]
    except SourceError:
        return ""
    return ", ".join(named)


def _uses(senses: Senses, facts: ContainerFacts, reading: Reading) -> bool:
    return not isinstance(reading, LostReading) and any(
        senses.kernel.container_of(process.pid, {facts.id}) for process in reading.processes
    )
