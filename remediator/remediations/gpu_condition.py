"""See whether a GPU wants a reset and is free for one: Prometheus, NVML, /proc and Docker."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.gpus import Gpu, GpuHealth
from remediator.core.holders import Holder, describe
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.policy import Options
from remediator.core.resets import Advice, advice_of, in_words
from remediator.core.targets import PhysicalGpu
from remediator.errors import SourceError
from remediator.remediations.gpu_claimants import GpuClaimants
from remediator.remediations.reset_senses import ResetSenses
from remediator.sources.prometheus import Confirmation, selector

# They keep a GPU open on purpose and nvidia-smi knows: it asks the one to let go by itself, and
# needs the other for resets behind Ampere's NVSwitches (nvidia-smi's manual, 535).
_LET_BE = frozenset({"nvidia-persistenced.service", "nvidia-fabricmanager.service"})
# The DS01 exporter lets go when the lock is taken (`remediator.driver_lock`).
_EXPORTER = re.compile(r"\bremediator export( |$)")
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class GpuSight:
    """What one look at a GPU found. ``group`` is what would be reset, ``gpus`` all of the host.

    ``is_advised`` tells whether the driver gives advice: where not, the XIDs decided.
    """

    reports: tuple[Report, ...]
    gpus: tuple[Gpu, ...] = ()
    group: tuple[Gpu, ...] = ()
    title: str = ""
    is_advised: bool = True
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def objection(self) -> Report | None:
        """Return what speaks against a reset, if anything does."""
        return next((r for r in self.reports if r.verdict is not Verdict.AGREES), None)

    @property
    def uuids(self) -> tuple[str, ...]:
        """The UUIDs of what would be reset."""
        return tuple(gpu.uuid for gpu in self.group)


class GpuCondition:
    """Looks at the GPU that an alert names, for whoever may reset it.

    *services* are the units, *containers* the names of the containers that are stopped for a
    reset: what they hold is no hindrance.
    """

    def __init__(
        self, senses: ResetSenses, services: Collection[str], containers: Collection[str] = ()
    ) -> None:
        self._senses = senses
        self._services = frozenset(services) | _LET_BE
        self.claimants = GpuClaimants(senses.engine, senses.kernel, senses.users, containers)

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what the sources say of the GPU that the alert names."""
        del options
        confirmation = self._senses.prometheus.confirm(alert, now)
        labels = confirmation.labels or alert.labels
        uuid = labels.get("UUID", "")
        seen = self.look(uuid)
        return Observation(
            at=now,
            target=PhysicalGpu(uuid) if uuid else None,
            reports=(confirmation.report, *seen.reports),
            title=seen.title,
            context={**seen.facts, "summary": _summary(confirmation)},
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
        )

    def look(self, uuid: str) -> GpuSight:
        """Return what the driver, /proc and Docker say of a physical GPU now.

        Docker is asked last: a container that has just been started is then in its list.
        """
        try:
            gpus = self._senses.driver.gpus()
        except SourceError as error:
            return GpuSight((_report(Verdict.SILENT, str(error)),))
        gpu = next((gpu for gpu in gpus if gpu.uuid == uuid and uuid), None)
        if gpu is None:
            return GpuSight((_report(Verdict.GONE, f"the driver lists no GPU {uuid}"),), gpus)
        title = f"GPU {gpu.index} ({uuid})"
        if gpu.lost is not None:
            says = f"{title} does not answer ({gpu.lost}): no reset reaches it, reboot the host"
            return GpuSight((_report(Verdict.DISAGREES, says),), gpus, title=title)
        if gpu.mig_enabled:
            return GpuSight((self._refuse_mig(gpu, gpus),), gpus, title=title)
        return self._look(gpu, gpus, title)

    def strangers(self, group: Sequence[Gpu]) -> tuple[Holder, ...]:
        """Return who has a device of *group* open, without asking the driver, but for services.

        We are not left out: after our own driver was closed, we are one of those who should not.
        """
        found = [h for gpu in group for h in self._senses.holders.at_device(_minor(gpu))]
        return tuple(h for h in found if self._senses.kernel.unit_of(h.pid) not in _LET_BE)

    def _look(self, gpu: Gpu, gpus: tuple[Gpu, ...], title: str) -> GpuSight:
        driver = self._senses.driver
        try:
            health = driver.health(gpu.uuid)
            wanted = set(driver.reset_group(gpu.uuid))
            group = tuple(other for other in gpus if other.uuid in wanted)
            nvml = self._judge(gpu, health, group)
            is_advised = advice_of(health) is not Advice.UNTOLD
        except SourceError as error:
            return GpuSight((_report(Verdict.SILENT, str(error)),), gpus, title=title)
        facts: dict[str, Fact] = {
            "gpus": ",".join(other.uuid for other in group),
            "is_advised": is_advised,
        }
        reports = (nvml, self._judge_claims(group, gpus))
        return GpuSight(reports, gpus, group, title, is_advised, facts)

    def _judge(self, gpu: Gpu, health: GpuHealth, group: tuple[Gpu, ...]) -> Report:
        """Return the driver's opinion: it wants a reset, and nobody is in its way."""
        facts: dict[str, Fact] = {"recovery_action": health.recovery_action}
        says = f"for GPU {gpu.index} the driver advises {in_words(health)}"
        if health.rows is not None and health.rows.failed:
            says = f"GPU {gpu.index} could not remap a row of its memory: that is for the vendor"
            return _report(Verdict.DISAGREES, says, facts)
        advice = advice_of(health)
        if advice is Advice.UNTOLD:
            verdict, why = self._judge_xids(gpu.uuid)
            says = f"{says}; {why}"
        else:
            verdict = Verdict.AGREES if advice is Advice.RESET else Verdict.DISAGREES
        if verdict is not Verdict.AGREES:
            return _report(verdict, says, facts)
        return self._judge_holders(group, says, facts)

    def _judge_xids(self, uuid: str) -> tuple[Verdict, str]:
        """Return what the XIDs ask for, by NVIDIA's table, which is in the alerting rules."""
        for advice in ("reboot", "reset"):
            wanted = selector({"UUID": uuid, "advice": advice})
            if self._senses.prometheus.value(f"ds01:gpu_xid_advice{wanted}") is not None:
                verdict = Verdict.AGREES if advice == "reset" else Verdict.DISAGREES
                return verdict, f"a XID of the past day asks for a {advice}"
        return Verdict.DISAGREES, "no XID of the past day asks for a reset"

    def _judge_holders(
        self, group: tuple[Gpu, ...], says: str, facts: Mapping[str, Fact]
    ) -> Report:
        if len(group) > 1:
            says += f"; it is reset together with {len(group) - 1} that it is linked to"
        troubled = [gpu for gpu in group if gpu.mig_enabled or gpu.lost is not None]
        if troubled:
            names = ", ".join(str(gpu.index) for gpu in troubled)
            says += f", of which GPU {names} is in MIG mode or does not answer"
            return _report(Verdict.DISAGREES, says, facts)
        holders = [
            f"GPU {gpu.index}: {describe(holder)}"
            for gpu in group
            for holder in self._senses.holders.holders(gpu.uuid, _minor(gpu))
            if not self._lets_go(holder)
        ]
        if holders:
            return _report(Verdict.DISAGREES, f"{says}; it is in use: {_listed(holders)}", facts)
        return _report(Verdict.AGREES, f"{says}; nobody uses it", facts)

    def _judge_claims(self, group: tuple[Gpu, ...], gpus: tuple[Gpu, ...]) -> Report:
        try:
            claimants = self.claimants.of({gpu.uuid for gpu in group}, gpus)
        except SourceError as error:
            return Report(Source.DOCKER, Verdict.SILENT, str(error))
        if claimants:
            says = f"given to {_listed([str(claimant) for claimant in claimants])}"
            return Report(Source.DOCKER, Verdict.DISAGREES, says)
        return Report(Source.DOCKER, Verdict.AGREES, "no running container was given it")

    def _refuse_mig(self, gpu: Gpu, gpus: tuple[Gpu, ...]) -> Report:
        """Return why a GPU in MIG mode is left alone: a reset is for all its tenants at once."""
        try:
            tenants = [str(claimant) for claimant in self.claimants.of({gpu.uuid}, gpus)]
            minor = gpu.slots[0].minor if gpu.slots else None
            holders = self._senses.holders.holders(gpu.uuid, minor)
            tenants += [describe(h) for h in holders if not self._lets_go(h)]
            who = _listed(tenants) or "nobody at the moment"
        except SourceError as error:
            who = f"cannot be told: {error}"
        says = f"GPU {gpu.index} ({gpu.uuid}) is in MIG mode and never reset; its tenants: {who}"
        return _report(Verdict.DISAGREES, says)

    def _lets_go(self, holder: Holder) -> bool:
        """Tell whether a holder is one of ours, or of a service that is stopped for a reset.

        Who merely looks like it is found out before the reset, when it has not let go.
        """
        if holder.pid == os.getpid():
            return True
        if holder.uid == os.geteuid() and _EXPORTER.search(holder.command):
            return True
        if self._senses.kernel.unit_of(holder.pid) in self._services:
            return True
        return self.claimants.is_kept(holder.container_id)


def _minor(gpu: Gpu) -> int:
    """Return the N of the GPU's ``/dev/nvidiaN``; SourceError where nobody tells it."""
    minor = gpu.slots[0].minor if gpu.slots else None
    if minor is None:
        raise SourceError(f"the driver does not tell which device GPU {gpu.index} is")
    return minor


def _report(verdict: Verdict, says: str, facts: Mapping[str, Fact] | None = None) -> Report:
    return Report(Source.NVML, verdict, says, facts or {})


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    told = "; ".join(names[:_MOST_NAMED])
    return f"{told}; and {more} more" if more > 0 else told


def _summary(confirmation: Confirmation) -> str:
    told = confirmation.annotations
    return told.get("description") or told.get("summary") or ""
