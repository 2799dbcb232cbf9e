"""See whether a process on a GPU is an orphan: what Prometheus, Docker, NVML and /proc say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.containers import ContainerSummary
from remediator.core.gpus import LostReading
from remediator.core.lifecycle import is_infrastructure
from remediator.core.notices import clean
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.orphans import ANOTHER_KIND, Suspect, why_no_orphan
from remediator.core.policy import Options
from remediator.core.targets import Process
from remediator.errors import SourceError, TargetGoneError
from remediator.remediations.orphan_senses import OrphanSenses, Permitted

# No more digits than a pid, and the ticks of some thousand years, can have.
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_INFRASTRUCTURE = "its container is infrastructure (ds01.monitoring or ds01.protected)"
_SHORT_ID = 12
_FIRST_PERSON, _NOBODY = 1000, 65534
_LONGEST_COMMAND = 80


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process is said to be: a physical GPU, and the GPU instance on it if MIG is on."""

    uuid: str
    gpu_i_id: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one look at a process found; ``exempt`` is why its user may have it there."""

    reports: tuple[Report, ...]
    exempt: str | None = None
    title: str = ""
    owner: str | None = None
    labels: Mapping[str, str] | None = None

    @property
    def objection(self) -> Report | None:
        """Return what speaks against ending it, if anything does."""
        against = (report for report in self.reports if report.verdict is not Verdict.AGREES)
        exempt = self.exempt and Report(Source.NVML, Verdict.DISAGREES, self.exempt)
        return next(against, None) or exempt or None


@dataclass(frozen=True, slots=True)
class _Seen:
    """A process as the kernel shows it."""

    uid: int
    user: str
    account: str | None
    comm: str
    title: str
    container_ids: tuple[str, ...]
    is_hosts: bool | None


class OrphanProcess:
    """Looks at the process that an alert names, for whoever may end it."""

    def __init__(self, senses: OrphanSenses, permitted: Permitted) -> None:
        self._senses = senses
        self._permitted = permitted

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what the sources say of the process that the alert names."""
        del options
        confirmation = self._senses.prometheus.confirm(alert, now)
        labels = confirmation.labels or alert.labels
        place = Place(labels.get("UUID", ""), labels.get("GPU_I_ID", ""))
        target: Process | None = None
        try:
            target = self._target(labels)
            seen = self.look(target, place)
        except TargetGoneError as error:
            seen = Sighting((Report(Source.NVML, Verdict.GONE, str(error)),))
        except SourceError as error:
            seen = Sighting((Report(Source.NVML, Verdict.SILENT, str(error)),))
        told = confirmation.annotations
        context: dict[str, Fact] = {
            "UUID": place.uuid,
            "GPU_I_ID": place.gpu_i_id,
            "process": seen.title,
            "summary": told.get("description") or told.get("summary") or "",
        }
        return Observation(
            at=now,
            target=target,
            reports=(confirmation.report, *seen.reports),
            labels=seen.labels or {},
            exempt=seen.exempt,
            owner=seen.owner,
            title=seen.title,
            context=context,
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
        )

    def look(self, target: Process, place: Place) -> Sighting:
        """Return what the kernel, the driver and Docker say of *target* now.

        TargetGoneError if it is not there any more. Docker is asked last: a container that has
        just been started is then in its list.
        """
        try:
            seen = self._see(target)
            nvml = self._judge_gpu(target, place, seen)
        except SourceError as error:
            return Sighting((Report(Source.NVML, Verdict.SILENT, str(error)),))
        try:
            found = self._judge_containers(seen)
        except SourceError as error:
            found = Sighting((Report(Source.DOCKER, Verdict.SILENT, str(error)),))
        reports = (*found.reports, nvml)
        owner = self._owner(seen, found.labels or {})
        return replace(found, reports=reports, title=seen.title, owner=owner)

    def is_listed(self, pid: int, uuid: str) -> bool:
        """Tell whether the driver still lists *pid* on a physical GPU; SourceError if silent."""
        own = [r for r in self._senses.driver.readings() if r.slot.parent_uuid == uuid]
        if not own or any(isinstance(reading, LostReading) for reading in own):
            raise SourceError(f"GPU {uuid} does not answer")
        return any(
            process.pid == pid
            for reading in own
            if not isinstance(reading, LostReading)
            for process in reading.processes
        )

    def _target(self, labels: Mapping[str, str]) -> Process:
        pid, ticks = (_number(labels.get(name, "")) for name in ("pid", "start_ticks"))
        if pid is None or ticks is None or pid == 1:
            raise TargetGoneError("the alert's pid and start_ticks name no process that may end")
        return Process(pid, ticks, self._senses.kernel.boot_id())

    def _see(self, target: Process) -> _Seen:
        kernel, pid = self._senses.kernel, target.pid
        uid, comm = kernel.owner_uid(pid), kernel.comm(pid)
        command = self._senses.commands.command(pid)
        container_ids = kernel.container_ids_in_cgroup(pid)
        is_hosts = kernel.is_in_hosts_namespaces(pid)
        # Last, so that all the rest is about a process that was there from before to after.
        ticks = kernel.start_ticks(pid)
        if kernel.boot_id() != target.boot_id:
            raise TargetGoneError(f"process {pid} was one of an earlier boot")
        if ticks is None or uid is None or comm is None or kernel.has_ended(pid):
            raise TargetGoneError(f"process {pid} has ended")
        if ticks != target.start_ticks:
            raise TargetGoneError(f"process {pid} has ended, another one has its number")
        account = self._senses.users.name_of_uid(uid)
        shown = clean(command or comm, _LONGEST_COMMAND)
        return _Seen(
            uid, account or str(uid), account, comm, f"pid {pid} ({shown})", container_ids, is_hosts
        )

    def _judge_gpu(self, target: Process, place: Place, seen: _Seen) -> Report:
        """Return NVML's opinion: this very process is on the GPU that the alert names."""
        known: dict[str, Fact] = {
            "pid": target.pid,
            "start_ticks": target.start_ticks,
            "user": clean(seen.user),
            "comm": clean(seen.comm),
            "container_id": " ".join(seen.container_ids),
        }
        slots = [
            reading
            for reading in self._senses.driver.readings()
            if (reading.slot.parent_uuid, reading.slot.gpu_i_id) == (place.uuid, place.gpu_i_id)
        ]
        part = f", MIG instance {clean(place.gpu_i_id)}" if place.gpu_i_id else ""
        where = f"GPU {clean(place.uuid)}{part}"
        if not slots:
            raise SourceError(f"the driver does not show {where}")
        for reading in slots:
            if isinstance(reading, LostReading):
                raise SourceError(f"{where} does not answer: {reading.reason}")
            if any(process.pid == target.pid for process in reading.processes):
                says = f"{seen.title} of {clean(seen.user)} uses {where} (slot {reading.slot.slot})"
                return Report(Source.NVML, Verdict.AGREES, says, known)
        return Report(Source.NVML, Verdict.DISAGREES, f"{seen.title} is not on {where} now", known)

    def _judge_containers(self, seen: _Seen) -> Sighting:
        """Return Docker's opinion, why the process must be left alone, and its container's labels.

        Where containers are nested, what speaks for one of them speaks for the process.
        """
        states = {found.id: found for found in self._senses.engine.list()}
        if not seen.container_ids:
            return self._judge_hosts(seen)
        running = {container_id: found.is_running for container_id, found in states.items()}
        labels: dict[str, str] = {}
        for container_id in seen.container_ids:
            own = self._labels_of(container_id, states)
            suspect = _suspect(seen, container_id, was_dockers=own is not None)
            why = self._why_no_orphan(suspect, running)
            if why is not None:
                says = f"{seen.title} is in container {container_id[:_SHORT_ID]}: {why}"
                return Sighting((Report(Source.DOCKER, Verdict.DISAGREES, says),))
            labels |= own or {}
        exempt = _INFRASTRUCTURE if is_infrastructure(labels) else None
        report = Report(Source.DOCKER, Verdict.AGREES, _leftover(seen, states))
        return Sighting((report,), exempt, labels=labels)

    def _judge_hosts(self, seen: _Seen) -> Sighting:
        suspect = _suspect(seen, None, was_dockers=False)
        why = self._why_no_orphan(suspect, {})
        if why == ANOTHER_KIND:
            says = f"{seen.title}: {why}"
            return Sighting((Report(Source.DOCKER, Verdict.SILENT, says),))
        report = Report(Source.DOCKER, Verdict.AGREES, f"{seen.title} is in no container")
        return Sighting((report,), why)

    def _owner(self, seen: _Seen, labels: Mapping[str, str]) -> str | None:
        """Return whom to tell; a container's numbers of users say nothing of the host's people."""
        if not seen.container_ids:
            return seen.account if seen.uid >= _FIRST_PERSON and seen.uid != _NOBODY else None
        name = labels.get("ds01.user", "")
        return name if name and self._senses.users.exists(name) else None

    def _why_no_orphan(self, suspect: Suspect, running: Mapping[str, bool]) -> str | None:
        return why_no_orphan(suspect, running, self._permitted.users, self._permitted.programs)

    def _labels_of(
        self, container_id: str, states: Mapping[str, ContainerSummary]
    ) -> Mapping[str, str] | None:
        """Return a container's labels, also of one that was removed; None if it is not Docker's."""
        engine = self._senses.engine
        if container_id in states:
            try:
                return engine.inspect(container_id).labels
            except TargetGoneError:
                pass  # removed since it was listed
        return engine.labels_of_removed(container_id)


def _suspect(seen: _Seen, container_id: str | None, *, was_dockers: bool) -> Suspect:
    return Suspect(seen.uid, seen.user, seen.comm, container_id, was_dockers, seen.is_hosts)


def _leftover(seen: _Seen, states: Mapping[str, ContainerSummary]) -> str:
    told = [
        f"{container_id[:_SHORT_ID]} is {states[container_id].state}"
        if container_id in states
        else f"{container_id[:_SHORT_ID]} was removed by this Docker"
        for container_id in seen.container_ids
    ]
    return f"{seen.title} is left over: its container {' and '.join(told)}"


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None
