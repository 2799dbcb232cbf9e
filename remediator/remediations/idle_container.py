"""See whether a container is idle: what Prometheus, Docker, NVML and the kernel say of it now."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from remediator.core.alerts import Alert
from remediator.core.containers import ContainerFacts
from remediator.core.durations import humanize
from remediator.core.gpu_claims import resolve, unresolved
from remediator.core.gpus import GpuSlot, LostReading, Reading
from remediator.core.idleness import NETWORK_WINDOW, Activity, SlotUse, judge_idle
from remediator.core.lifecycle import is_infrastructure, keep_alive_until, may_idle_because
from remediator.core.limits import Limits
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.ownership import (
    Owner,
    container_type_of,
    interface_of,
    owner_of,
)
from remediator.core.targets import Container
from remediator.errors import SourceError, TargetGoneError
from remediator.remediations.senses import LimitsInForce, Senses
from remediator.sources.prometheus import Confirmation, Sample, selector

# CPU and network are averaged over at least this long: a shorter stretch says nothing.
_SHORTEST_MEASURE = timedelta(seconds=3)
_SAMPLES_WITHIN = timedelta(minutes=2)
_MPS = "nvidia-cuda-mps"
_FULL_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COUNTERS = (
    "ds01_container_cpu_usage_seconds_total",
    "ds01_container_network_receive_bytes_total",
    "ds01_container_network_transmit_bytes_total",
)


class IdleContainer:
    """Observes the container that an alert names, for whoever may stop it for being idle."""

    def __init__(self, senses: Senses, limits: LimitsInForce) -> None:
        self._senses = senses
        self._limits_file = limits

    def observe(self, alert: Alert, now: datetime) -> Observation:
        """Return what Prometheus, Docker and NVML say of the container the alert names."""
        confirmation = self._senses.prometheus.confirm(alert, now)
        container_id = alert.labels.get("container_id", "")
        try:
            facts = self._inspect(container_id)
        except TargetGoneError as error:
            gone = Report(Source.DOCKER, Verdict.GONE, str(error))
            return _without_target(now, confirmation, gone)
        except SourceError as error:
            silent = Report(Source.DOCKER, Verdict.SILENT, str(error))
            return _without_target(now, confirmation, silent)
        return self._observe(facts, confirmation, now)

    def _inspect(self, container_id: str) -> ContainerFacts:
        # Docker would take a name or the beginning of an id as well: that is not an identity.
        if not _FULL_ID.fullmatch(container_id):
            raise TargetGoneError("the alert's container_id is not a full container id")
        return self._senses.engine.inspect(container_id)

    def _observe(
        self, facts: ContainerFacts, confirmation: Confirmation, now: datetime
    ) -> Observation:
        self._limits_file.refresh()
        # Asked before the limits are taken: those of a good file are then at least as new.
        limits_good = self._limits_file.is_good
        owner = self._owner(facts)
        limits = self._limits(owner, facts, now)
        docker = _judge_container(facts, confirmation.active_since)
        exempt = None
        if docker.verdict is Verdict.AGREES and not limits_good:
            says = "the limits file cannot be used, so nobody is stopped: see the worker's log"
            docker = Report(Source.DOCKER, Verdict.SILENT, says)
        elif docker.verdict is Verdict.AGREES:
            try:
                exempt = self._exemption(facts, limits, now)
            except SourceError as error:
                docker = Report(Source.DOCKER, Verdict.SILENT, str(error))
        nvml, context = self._judge_activity(facts, limits, now)
        target = Container(facts.id, facts.started_at) if facts.started_at else None
        return Observation(
            at=now,
            target=target,
            reports=(confirmation.report, docker, nvml),
            labels=facts.labels,
            exempt=exempt,
            owner=owner.user if owner.is_known else None,
            title=facts.name,
            context={
                **context,
                "container": facts.name,
                "grace_seconds": limits.sigterm_grace.total_seconds(),
                "summary": _summary(confirmation),
            },
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
        )

    def _exemption(self, facts: ContainerFacts, limits: Limits, now: datetime) -> str | None:
        if is_infrastructure(facts.labels):
            return "it is infrastructure (ds01.monitoring or ds01.protected)"
        because = may_idle_because(limits)
        if because is not None:
            return because
        times = self._senses.engine.keep_alive_at(facts)
        until = keep_alive_until(*times, limits) if times else now
        if until > now:
            return f"/workspace/.keep-alive keeps it for another {humanize(until - now)}"
        return None

    def _judge_activity(
        self, facts: ContainerFacts, limits: Limits, now: datetime
    ) -> tuple[Report, dict[str, Fact]]:
        try:
            uses = self._slot_uses(facts)
            judgement = judge_idle(self._activity(facts, uses, now), limits)
        except SourceError as error:
            return Report(Source.NVML, Verdict.SILENT, str(error)), {}
        report = Report(Source.NVML, judgement.verdict, judgement.says, judgement.facts)
        return report, {"gpus": ", ".join(use.name for use in uses)}

    def _slot_uses(self, facts: ContainerFacts) -> tuple[SlotUse, ...]:
        """Return the container's use of every slot that it claims or has a process on.

        Where nobody knows which GPU Docker chose, it may be one that does not answer.
        """
        readings = self._senses.driver.readings()
        slots = [reading.slot for reading in readings]
        missing = unresolved(facts.claims, slots)
        if missing or not slots:
            what = ", ".join(missing) or "any GPU"
            raise SourceError(f"the driver does not show {what}, which the container was given")
        claimed = {slot.uuid for slot in resolve(facts.claims, slots)}
        # Of a mere number of GPUs nobody knows which Docker chose: it may be any.
        anywhere = not facts.claims.is_known
        uses = [self._use(facts.id, reading) for reading in readings]
        return tuple(
            use
            for use, reading in zip(uses, readings, strict=True)
            if use.own_processes or anywhere or reading.slot.uuid in claimed
        )

    def _use(self, container_id: str, reading: Reading) -> SlotUse:
        if isinstance(reading, LostReading):
            return SlotUse(reading.slot.slot, 0, 0, lost=reading.reason)
        pids = {process.pid for process in reading.processes}
        kernel = self._senses.kernel
        own = {p for p in pids if kernel.container_of(p, {container_id})}
        unseen = sum(_is_unseen(kernel.comm(pid)) for pid in pids - own)
        others = len(pids - own)
        use = SlotUse(
            reading.slot.slot, len(own), others, reading.utilization_percent, unseen=unseen
        )
        if not own:
            return use
        utilization, own_utilization = reading.utilization_percent, None
        if utilization is None:
            utilization = self._dcgm_utilization(reading.slot)
        if pids - own:
            shares = self._senses.driver.process_utilization(reading.slot)
            own_utilization = _own_share(shares, own, utilization)
        return SlotUse(use.name, len(own), others, utilization, own_utilization, unseen=unseen)

    def _dcgm_utilization(self, slot: GpuSlot) -> float | None:
        """Return what DCGM measured on a MIG device lately: NVML counts nothing there."""
        series = selector({"UUID": slot.parent_uuid, "GPU_I_ID": slot.gpu_i_id})
        ratio = self._senses.prometheus.value(
            f"max_over_time(DCGM_FI_PROF_GR_ENGINE_ACTIVE{series}[1m]) <= 1"
        )
        return None if ratio is None else 100 * ratio

    def _activity(
        self, facts: ContainerFacts, uses: tuple[SlotUse, ...], now: datetime
    ) -> Activity:
        """Return what it does now: counters read here, compared with those scraped before."""
        kernel = self._senses.kernel
        cpu = kernel.cpu_seconds(facts.pid, facts.id)
        network = kernel.network_bytes(facts.pid)
        series = selector({"container_id": facts.id})[1:-1]
        names = "|".join(_COUNTERS)
        scraped = self._senses.prometheus.samples(
            f'{{__name__=~"{names}",{series}}}', _SAMPLES_WITHIN
        )
        before = {
            labels.get("__name__", ""): _baseline(samples, now) for labels, samples in scraped
        }
        measured, cpu_rate = _rate(cpu, before.get(_COUNTERS[0]), now)
        rates = [
            _rate(float(count), before.get(counter), now)[1]
            for count, counter in zip(network or (), _COUNTERS[1:], strict=False)
        ]
        return Activity(
            slots=uses,
            measured_for=measured,
            cpu_percent=None if cpu_rate is None else 100 * cpu_rate,
            network_bytes=_sum(rates),
            host_network=facts.network_mode == "host",
        )

    def _owner(self, facts: ContainerFacts) -> Owner:
        try:
            uid = self._senses.kernel.owner_uid(facts.pid) if facts.pid else None
        except SourceError:
            uid = None
        return owner_of(facts, users=self._senses.users, pid_owner=uid)

    def _limits(self, owner: Owner, facts: ContainerFacts, now: datetime) -> Limits:
        kind, interface = container_type_of(facts.labels), interface_of(facts.labels)
        return self._limits_file.book.limits_for(owner.user, kind, interface, now)


def _judge_container(facts: ContainerFacts, active_since: datetime | None) -> Report:
    """Return Docker's opinion: the very run that the alert is about, and with GPU access."""
    known: dict[str, Fact] = {
        "name": facts.name,
        "state": facts.state,
        "started_at": facts.started_at.isoformat() if facts.started_at else None,
    }
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


def _without_target(now: datetime, confirmation: Confirmation, docker: Report) -> Observation:
    return Observation(
        at=now,
        target=None,
        reports=(confirmation.report, docker),
        confirmed_labels=confirmation.labels,
        active_since=confirmation.active_since,
    )


def _summary(confirmation: Confirmation) -> str:
    told = confirmation.annotations
    return told.get("description") or told.get("summary") or ""


def _is_unseen(comm: str | None) -> bool:
    """Tell whether a process may work for somebody who cannot be told.

    One in another pid namespace is not in our /proc; MPS works for all its clients.
    """
    return comm is None or comm.startswith(_MPS)


def _own_share(
    shares: Mapping[int, float] | None, own: Collection[int], utilization: float | None
) -> float | None:
    """Return the utilisation by *own* pids; a GPU that does nothing needs no shares."""
    if utilization == 0:
        return 0.0
    if shares is None:
        return None
    return sum(shares.get(pid, 0.0) for pid in own)


def _baseline(samples: Sequence[Sample], now: datetime) -> Sample | None:
    """Return the newest sample that is old enough to measure from."""
    old = [sample for sample in samples if now - sample.at >= _SHORTEST_MEASURE]
    return max(old, key=lambda sample: sample.at, default=None)


def _rate(
    value: float | None, before: Sample | None, now: datetime
) -> tuple[timedelta | None, float | None]:
    """Return over how long, and how much per second; None where either end is missing.

    A counter that went backwards was reset, and what happened before nobody knows.
    """
    if value is None or before is None or value < before.value:
        return None, None
    elapsed = now - before.at
    return elapsed, (value - before.value) / elapsed.total_seconds()


def _sum(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    if len(known) < len(rates) or not rates:
        return None
    return sum(known) * NETWORK_WINDOW.total_seconds()
