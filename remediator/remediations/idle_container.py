"""See whether a container is idle: what Prometheus, Docker, NVML and the kernel say of it now."""

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime, timedelta

from remediator.core.alerts import Alert
from remediator.core.containers import ContainerFacts
from remediator.core.durations import humanize
from remediator.core.gpu_claims import resolve, unresolved
from remediator.core.gpus import GpuSlot, LostReading, Reading
from remediator.core.idleness import NETWORK_WINDOW, Activity, SlotUse, judge_idle
from remediator.core.lifecycle import keep_alive_until, may_idle_because
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.errors import SourceError
from remediator.remediations.named_container import (
    Found,
    NamedContainers,
    judge_running,
    observation_of,
    run_of,
    without_target,
)
from remediator.remediations.senses import LimitsInForce, Senses
from remediator.sources.prometheus import Confirmation, Sample, selector

# The labels of one counter, and its samples.
Series = tuple[Mapping[str, str], list[Sample]]

# CPU and network are averaged over at least this long: a shorter stretch says nothing.
_SHORTEST_MEASURE = timedelta(seconds=3)
_SAMPLES_WITHIN = timedelta(minutes=2)
# What the driver said is asked for again if the others took longer than this.
_READING_KEEPS = timedelta(seconds=1)
# To know what a GPU draws matters for the report alone: nobody waits longer for it.
_WATTS_WITHIN = timedelta(seconds=1)
# Three for each thread that looks at an incident, of which there are eight.
_ASKERS = 24
_MPS = "nvidia-cuda-mps"
_COUNTERS = (
    "ds01_container_cpu_usage_seconds_total",
    "ds01_container_network_receive_bytes_total",
    "ds01_container_network_transmit_bytes_total",
)


class IdleContainer:
    """Observes the container that an alert names, for whoever may stop it for being idle."""

    def __init__(self, senses: Senses, limits: LimitsInForce) -> None:
        self._senses = senses
        self._containers = NamedContainers(senses, limits)
        self._askers = ThreadPoolExecutor(_ASKERS, thread_name_prefix="ask")

    def observe(self, alert: Alert, now: datetime) -> Observation:
        """Return what Prometheus, Docker and NVML say of the container the alert names.

        They are asked side by side: none depends on another, and each takes its time to answer.
        Who works can begin to at any moment, so the driver and the kernel have the last word.
        """
        began = time.monotonic()
        confirming = self._askers.submit(self._senses.prometheus.confirm, alert, now)
        reading = self._askers.submit(self._senses.driver.readings)
        scraping = self._askers.submit(self._scraped, alert.labels.get("container_id", ""))
        found = self._containers.find(alert, now)
        if isinstance(found, Report):
            return without_target(now, confirming.result(), found)
        facts = found.facts
        if not facts.is_running:
            # What does not run does nothing, whatever they answer.
            return _not_running(found, confirming.result(), now)
        exempt, unseen = self._exemption(found, now)
        confirmation = confirming.result()
        wait([scraping])
        took = timedelta(seconds=time.monotonic() - began)
        judged_at = now
        if took > _READING_KEEPS:
            judged_at = now + took
            reading = self._askers.submit(self._senses.driver.readings)
        nvml, context = self._judge_activity(found, reading, scraping, judged_at)
        docker = found.with_good_limits(judge_running(facts, confirmation.active_since))
        if docker.verdict is not Verdict.AGREES:
            exempt = None
        elif unseen:
            docker = Report(Source.DOCKER, Verdict.SILENT, unseen)
        return observation_of(
            found,
            confirmation,
            run_of(facts),
            docker,
            nvml,
            now=now,
            exempt=exempt,
            context={
                **context,
                "grace_seconds": found.limits.sigterm_grace.total_seconds(),
                "max_runtime_seconds": _seconds(found.limits.max_runtime),
                "keepalive_max_seconds": found.limits.keepalive_max.total_seconds(),
            },
        )

    def _exemption(self, found: Found, now: datetime) -> tuple[str | None, str]:
        """Return why it is exempt, and why that cannot be told."""
        because = found.infrastructure or may_idle_because(found.limits)
        if because is not None:
            return because, ""
        try:
            times = self._senses.engine.keep_alive_at(found.facts)
        except SourceError as error:
            return None, str(error)
        until = keep_alive_until(*times, found.limits) if times else now
        if until > now:
            return f"/workspace/.keep-alive keeps it for another {humanize(until - now)}", ""
        return None, ""

    def _judge_activity(
        self,
        found: Found,
        reading: Future[tuple[Reading, ...]],
        scraping: Future[list[Series]],
        now: datetime,
    ) -> tuple[Report, dict[str, Fact]]:
        facts = found.facts
        try:
            used = self._used_slots(facts, reading.result())
            activity = self._activity(facts, tuple(use for use, _ in used), scraping, now)
            judgement = judge_idle(activity, found.limits)
        except SourceError as error:
            return Report(Source.NVML, Verdict.SILENT, str(error)), {}
        report = Report(Source.NVML, judgement.verdict, judgement.says, judgement.facts)
        return report, {
            "gpus": ", ".join(use.name for use, _ in used),
            "gpu_shares": ", ".join(f"{use.returns:.4g}" for use, _ in used),
            "gpu_watts": self._watts(used) if judgement.verdict is Verdict.AGREES else "",
        }

    def _used_slots(
        self, facts: ContainerFacts, readings: Sequence[Reading]
    ) -> list[tuple[SlotUse, GpuSlot]]:
        """Return the container's use of every slot that it claims or has a process on.

        Where nobody knows which GPU Docker chose, it may be one that does not answer.
        """
        slots = [reading.slot for reading in readings]
        missing = unresolved(facts.claims, slots)
        if missing or not slots:
            what = ", ".join(missing) or "any GPU"
            raise SourceError(f"the driver does not show {what}, which the container was given")
        claimed = {slot.uuid for slot in resolve(facts.claims, slots)}
        # Of a mere number of GPUs nobody knows which Docker chose: it may be any.
        anywhere = not facts.claims.is_known
        uses = [
            _with_returns(self._use(facts.id, reading), reading.slot, reading.slot.uuid in claimed)
            for reading in readings
        ]
        return [
            (use, reading.slot)
            for use, reading in zip(uses, readings, strict=True)
            if use.own_processes or anywhere or reading.slot.uuid in claimed
        ]

    def _watts(self, used: Sequence[tuple[SlotUse, GpuSlot]]) -> str:
        """Return what each GPU draws that the container has to itself, as one text.

        What a part of a GPU draws nobody measures. A driver that cannot tell keeps nothing from
        being decided.
        """
        asked = self._askers.submit(lambda: [self._draw(use, slot) for use, slot in used])
        try:
            return ", ".join(asked.result(_WATTS_WITHIN.total_seconds()))
        except TimeoutError:
            return ", ".join("" for _ in used)

    def _draw(self, use: SlotUse, slot: GpuSlot) -> str:
        if not use.returns or slot.gpu_instance is not None:
            return ""
        try:
            watts = self._senses.driver.gauges(slot.parent_uuid).power_watts
        except SourceError:
            return ""
        return "" if watts is None else f"{watts:.4g}"

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

    def _scraped(self, container_id: str) -> list[Series]:
        """Return what was scraped of its counters lately."""
        series = selector({"container_id": container_id})[1:-1]
        names = "|".join(_COUNTERS)
        return self._senses.prometheus.samples(f'{{__name__=~"{names}",{series}}}', _SAMPLES_WITHIN)

    def _activity(
        self,
        facts: ContainerFacts,
        uses: tuple[SlotUse, ...],
        scraping: Future[list[Series]],
        now: datetime,
    ) -> Activity:
        """Return what it does now: counters read here, compared with those scraped before."""
        kernel = self._senses.kernel
        cpu = kernel.cpu_seconds(facts.pid, facts.id)
        network = kernel.network_bytes(facts.pid)
        before = {
            labels.get("__name__", ""): _baseline(samples, now)
            for labels, samples in scraping.result()
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


def _not_running(found: Found, confirmation: Confirmation, now: datetime) -> Observation:
    docker = judge_running(found.facts, confirmation.active_since)
    target = run_of(found.facts)
    return observation_of(found, confirmation, target, docker, now=now, exempt=None, context={})


def _with_returns(use: SlotUse, slot: GpuSlot, is_claimed: bool) -> SlotUse:
    """Return *use* with what the container's end gives back: nothing of what others use as well."""
    is_alone = (use.own_processes or is_claimed) and not use.other_processes
    return replace(use, returns=slot.fraction if is_alone and use.lost is None else 0.0)


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else time.total_seconds()


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
