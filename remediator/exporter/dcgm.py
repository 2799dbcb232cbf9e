"""DCGM's metrics from NVML, for hosts where dcgm-exporter cannot run.

Names, labels and units are dcgm-exporter's. What NVML cannot tell is left out, never sent as a
blank number. That leaves MIG devices of GPUs before Hopper without any utilisation: NVML counts
none for them. A MIG container is then never found idle, which is the safe side. For whole GPUs
``DCGM_FI_PROF_GR_ENGINE_ACTIVE`` is NVML's utilisation (the share of time in which a kernel ran)
as a ratio 0-1. An XID is that of the last event since the exporter began to listen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from remediator.core.gpus import Gpu, GpuGauges, GpuSlot, RowRemapping, SlotReading
from remediator.exporter import families
from remediator.exporter.families import Family, Row
from remediator.exporter.gpu_watch import GpuSample
from remediator.exporter.view import View

T = TypeVar("T")

_MIB = 1024 * 1024

_GAUGES: tuple[tuple[Family, Callable[[GpuGauges], float | None]], ...] = (
    (families.DCGM_TEMP, lambda gauges: gauges.temperature_celsius),
    (families.DCGM_MEMORY_TEMP, lambda gauges: gauges.memory_temperature_celsius),
    (families.DCGM_POWER, lambda gauges: gauges.power_watts),
    (families.DCGM_SM_CLOCK, lambda gauges: gauges.sm_clock_mhz),
    (families.DCGM_MEM_CLOCK, lambda gauges: gauges.memory_clock_mhz),
    (families.DCGM_ENERGY, lambda gauges: gauges.energy_millijoules),
    (families.DCGM_DBE, lambda gauges: gauges.double_bit_errors),
    (families.DCGM_DBE_EVER, lambda gauges: gauges.double_bit_errors_ever),
)
_ROWS: tuple[tuple[Family, Callable[[RowRemapping], float]], ...] = (
    (families.DCGM_REMAP_FAILURE, lambda rows: rows.failed),
    (families.DCGM_REMAP_PENDING, lambda rows: rows.pending),
    (families.DCGM_REMAPPED_UNCORRECTABLE, lambda rows: rows.uncorrectable),
    (families.DCGM_REMAPPED_CORRECTABLE, lambda rows: rows.correctable),
)


def dcgm_collector(
    hostname: str, xids: Callable[[], Mapping[str, int]] = dict
) -> Callable[[View], Iterator[Metric]]:
    """Return the collector for this host, named *hostname* in the labels.

    *xids* tells the last XID by UUID, 0 for none yet; GPUs that tell none are not in it.
    """

    def collect_dcgm(view: View) -> Iterator[Metric]:
        """Yield what DCGM would, as far as NVML can tell."""
        sample = view.sample()
        labels = {slot: _labels(gpu, slot, hostname) for gpu in sample.gpus for slot in gpu.slots}
        yield from _of_slots(sample, labels)
        rows = {uuid: health.rows for uuid, health in sample.health.items() if health.rows}
        for family, value in _GAUGES:
            yield family.of(_of_gpus(sample, labels, sample.gauges, value))
        for family, state in _ROWS:
            yield family.of(_of_gpus(sample, labels, rows, state))
        yield families.DCGM_XID.of(_of_gpus(sample, labels, xids(), float))

    return collect_dcgm


def _of_slots(sample: GpuSample, labels: Mapping[GpuSlot, tuple[str, ...]]) -> Iterator[Metric]:
    # Two compute instances of one GPU instance have the same labels, and share what is told here.
    readings = {labels[r.slot]: r for r in reversed(sample.readings) if r.slot in labels}
    busy = {
        named: reading.utilization_percent
        for named, reading in readings.items()
        if reading.utilization_percent is not None
    }
    yield families.DCGM_UTIL.of(busy.items())
    engines = {named: percent / 100 for named, percent in busy.items()}
    engines |= _engines(sample, labels)
    yield families.DCGM_ENGINE.of(engines.items())
    yield families.DCGM_USED.of(_mib(readings, lambda reading: reading.memory_used_bytes))
    yield families.DCGM_FREE.of(_mib(readings, lambda reading: reading.memory_free_bytes))


def _engines(
    sample: GpuSample, labels: Mapping[GpuSlot, tuple[str, ...]]
) -> dict[tuple[str, ...], float]:
    return {
        named: sample.engines[slot.uuid]
        for slot, named in labels.items()
        if slot.uuid in sample.engines
    }


def _mib(
    readings: Mapping[tuple[str, ...], SlotReading], value: Callable[[SlotReading], int | None]
) -> Iterator[Row]:
    for named, reading in readings.items():
        number = value(reading)
        if number is not None:
            yield named, number // _MIB


def _of_gpus(
    sample: GpuSample,
    labels: Mapping[GpuSlot, tuple[str, ...]],
    known: Mapping[str, T],
    value: Callable[[T], float | None],
) -> Iterable[Row]:
    """Return values of physical GPUs; under MIG dcgm-exporter repeats them for each instance."""
    rows: dict[tuple[str, ...], float] = {}
    for gpu in sample.gpus:
        number = value(known[gpu.uuid]) if gpu.uuid in known else None
        if number is not None:
            rows |= {labels[slot]: float(number) for slot in gpu.slots}
    return rows.items()


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
