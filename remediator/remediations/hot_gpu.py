"""See whether a GPU is too hot: what Prometheus and NVML say of it now, and how it is limited."""

from datetime import datetime
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.gpus import Gpu, GpuGauges, PowerLimits
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.policy import Options
from remediator.core.targets import PhysicalGpu, subject_of
from remediator.errors import SourceError, TargetGoneError
from remediator.sources.prometheus import Confirmation

# The alert's value is a scrape old. A GPU that is cooler than that by more is cooling down.
_MAY_DIFFER_CELSIUS = 2
# Data centre GPUs slow themselves down from about 85 °C on; below this nothing has to be done.
_NEVER_HOT_CELSIUS = 60


class Confirming(Protocol):
    """Prometheus, as far as it is needed here."""

    def confirm(self, alert: Alert, now: datetime) -> Confirmation:
        """Return whether the alert is firing."""
        ...


class Driver(Protocol):
    """The questions asked of NVML."""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU."""
        ...

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        """Return what a GPU's instruments show."""
        ...

    def power_limits(self, gpu_uuid: str) -> PowerLimits | None:
        """Return a GPU's power limits, None if it has none."""
        ...


class HotGpu:
    """Observes the GPU that an alert names, for whoever may limit its power."""

    def __init__(self, prometheus: Confirming, driver: Driver) -> None:
        self._prometheus = prometheus
        self._driver = driver

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what Prometheus and NVML say of the GPU the alert names."""
        confirmation = self._prometheus.confirm(alert, now)
        subject = subject_of(alert.labels)
        uuid = subject.name if subject.kind == "gpu" else ""
        gpu, limits = None, None
        try:
            gpu = self._find(uuid)
            limits = self._driver.power_limits(uuid)
            gauges = self._driver.gauges(uuid)
            nvml = _judge(gpu, gauges, limits, confirmation)
        except TargetGoneError as error:
            nvml = Report(Source.NVML, Verdict.GONE, str(error))
        except SourceError as error:
            nvml = Report(Source.NVML, Verdict.SILENT, str(error))
        wanted = _wanted(limits, options)
        in_vain = _in_vain(limits, wanted)
        summary = confirmation.annotations.get("description") or ""
        return Observation(
            at=now,
            target=PhysicalGpu(uuid) if gpu else None,
            reports=(confirmation.report, nvml),
            title=f"GPU {gpu.index}" if gpu else "",
            context={
                **_plan(gpu, limits, wanted),
                "summary": f"{summary} {nvml.says}{f'; {in_vain}' if in_vain else ''}.".strip(),
            },
            confirmed_labels=confirmation.labels,
            active_since=confirmation.active_since,
            in_vain=in_vain,
        )

    def _find(self, uuid: str) -> Gpu:
        for gpu in self._driver.gpus():
            if uuid and gpu.uuid == uuid:
                if gpu.lost is not None:
                    raise TargetGoneError(f"GPU {gpu.index} ({uuid}) is lost: {gpu.lost}")
                return gpu
        raise TargetGoneError(f"the driver knows no GPU {uuid or 'that the alert names'}")


def watts(milliwatts: int) -> str:
    """Return a power limit as people write it."""
    return f"{milliwatts / 1000:g} W"


def _judge(
    gpu: Gpu, gauges: GpuGauges, limits: PowerLimits | None, confirmation: Confirmation
) -> Report:
    """Return whether the GPU is as hot now as the alert says."""
    name, now = f"GPU {gpu.index} ({gpu.uuid})", gauges.temperature_celsius
    said = confirmation.report.facts.get("value")
    if now is None:
        return Report(Source.NVML, Verdict.SILENT, f"{name} does not tell its temperature")
    draws = "" if gauges.power_watts is None else f", draws {gauges.power_watts:.0f} W"
    limit = "" if limits is None else f", is limited to {watts(limits.current)}"
    says = f"{name} is at {now:g} °C{draws}{limit}"
    facts: dict[str, Fact] = {"temperature_celsius": now, "power_watts": gauges.power_watts}
    if confirmation.report.verdict is Verdict.AGREES and not isinstance(said, int | float):
        says += "; how hot Prometheus thinks it is, it does not tell"
        return Report(Source.NVML, Verdict.SILENT, says, facts)
    if now < _NEVER_HOT_CELSIUS:
        return Report(Source.NVML, Verdict.DISAGREES, f"{says}: that is not hot", facts)
    if isinstance(said, int | float) and not now >= said - _MAY_DIFFER_CELSIUS:
        says += f": it has cooled down from {said:g} °C"
        return Report(Source.NVML, Verdict.DISAGREES, says, facts)
    return Report(Source.NVML, Verdict.AGREES, says, facts)


def _wanted(limits: PowerLimits | None, options: Options) -> int | None:
    percent = options.get("limit")
    return limits.share(percent) if limits and isinstance(percent, int) else None


def _plan(gpu: Gpu | None, limits: PowerLimits | None, wanted: int | None) -> dict[str, Fact]:
    """Return what `execute` and `undo` have to know."""
    if gpu is None or limits is None or wanted is None:
        return {}
    devices = len(gpu.slots) if gpu.mig_enabled else 0
    return {
        "limit_before_mw": limits.current,
        "limit_mw": wanted,
        "mig_devices": devices,
    }


def _in_vain(limits: PowerLimits | None, wanted: int | None) -> str | None:
    if limits is None or wanted is None:
        return "its power limit cannot be changed"
    if wanted < limits.current and not limits.is_at(wanted):
        return None
    return f"it is limited to {watts(limits.current)} already"
