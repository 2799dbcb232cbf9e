"""DCGM's metrics from NVML, for hosts where dcgm-exporter cannot run.

Names, labels and units are dcgm-exporter's. What NVML cannot tell is left out, never sent as a
blank number. That leaves MIG devices without any utilisation: NVML counts none for them, and
``DCGM_FI_PROF_GR_ENGINE_ACTIVE`` is served for whole GPUs only (the share of time in which a
kernel ran, as a ratio 0-1). A MIG container is then never found idle, which is the safe side.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import Metric

from remediator.core.gpus import Gpu, GpuSlot
from remediator.exporter import families
from remediator.exporter.gpu_watch import GpuSample
from remediator.exporter.view import View

_MIB = 1024 * 1024


def dcgm_collector(hostname: str) -> Callable[[View], Iterator[Metric]]:
    """Return the collector for this host, named *hostname* in the labels."""

    def collect_dcgm(view: View) -> Iterator[Metric]:
        """Yield what DCGM would, as far as NVML can tell."""
        sample = view.sample()
        yield from _of_slots(sample, hostname)
        yield families.DCGM_TEMP.of(_of_gpus(sample, sample.temperatures, hostname))
        yield families.DCGM_POWER.of(_of_gpus(sample, sample.powers, hostname))

    return collect_dcgm


def _of_slots(sample: GpuSample, hostname: str) -> Iterator[Metric]:
    gpus = {gpu.uuid: gpu for gpu in sample.gpus}
    rows = [
        (_labels(gpus[reading.slot.parent_uuid], reading.slot, hostname), reading)
        for reading in sample.readings
    ]
    busy = [
        (labels, reading.utilization_percent)
        for labels, reading in rows
        if reading.utilization_percent is not None
    ]
    yield families.DCGM_UTIL.of(busy)
    yield families.DCGM_ENGINE.of((labels, percent / 100) for labels, percent in busy)
    memory = [
        (labels, reading.memory_used_bytes, reading.memory_total_bytes)
        for labels, reading in rows
        if reading.memory_used_bytes is not None and reading.memory_total_bytes is not None
    ]
    yield families.DCGM_USED.of((labels, used // _MIB) for labels, used, _ in memory)
    yield families.DCGM_FREE.of(
        (labels, max(total - used, 0) // _MIB) for labels, used, total in memory
    )


def _of_gpus(sample: GpuSample, values: dict[str, float], hostname: str) -> Iterable[families.Row]:
    """Yield values of physical GPUs; under MIG dcgm-exporter repeats them for each instance."""
    for gpu in sample.gpus:
        if gpu.uuid in values:
            for slot in gpu.slots:
                yield _labels(gpu, slot, hostname), values[gpu.uuid]


def _labels(gpu: Gpu, slot: GpuSlot, hostname: str) -> tuple[str, ...]:
    mig = slot.gpu_instance is not None
    return (
        str(gpu.index),
        gpu.uuid,
        gpu.pci_bus_id,
        f"nvidia{gpu.index}",
        gpu.model,
        hostname,
        slot.profile if mig else "",
        slot.gpu_i_id,
    )
