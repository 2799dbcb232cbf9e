"""What a slot is doing and how a GPU is, from handles of NVML."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pynvml

from remediator.core.gpus import (
    GpuGauges,
    GpuHealth,
    GpuProcess,
    GpuSlot,
    PowerLimits,
    RowRemapping,
    SlotReading,
)
from remediator.sources.nvml_answers import if_told, is_gpu_gone, or_none

_NO_INSTANCE = 0xFFFFFFFF
_MOST_PERCENT = 100
# No GPU is that hot, that fast or that hungry: what is more is a number that stands for "no value".
_MOST_CELSIUS = 200
_MOST_MHZ = 100_000
_MOST_MILLIWATTS = 100_000_000


def reading_of(slot: GpuSlot, handle: Any) -> SlotReading:
    """Return what *slot* is doing; NVMLError if the GPU will not even say who uses it."""
    rates = _utilization(handle)
    busy = None if rates is None or rates.gpu > _MOST_PERCENT else float(rates.gpu)
    used, total, reserved = _memory(handle)
    return SlotReading(
        slot=slot,
        utilization_percent=busy,
        memory_used_bytes=used,
        memory_total_bytes=total,
        memory_reserved_bytes=reserved,
        processes=tuple(_processes(slot, handle)),
    )


def health_of(handle: Any) -> GpuHealth:
    """Return what the driver thinks of the GPU; NVMLError if it is gone."""
    rows = if_told(lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    # Only GPUs whose memory the kernel manages are nodes of the host's memory.
    node = if_told(lambda: pynvml.nvmlDeviceGetNumaNodeId(handle))
    return GpuHealth(
        recovery_action=_field(handle, pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),
        rows=None
        if rows is None
        else RowRemapping(
            correctable=int(rows[0]),
            uncorrectable=int(rows[1]),
            pending=bool(rows[2]),
            failed=bool(rows[3]),
        ),
        memory_is_the_hosts=node is not None,
        reset_required=_requires_reset(handle),
    )


def gauges_of(handle: Any) -> GpuGauges:
    """Return what the instruments of the GPU show; NVMLError if it is gone."""
    milliwatts = _number(partial(pynvml.nvmlDeviceGetPowerUsage, handle), _MOST_MILLIWATTS)
    memory_temperature = _field(handle, pynvml.NVML_FI_DEV_MEMORY_TEMP)
    return GpuGauges(
        temperature_celsius=_number(
            partial(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
            _MOST_CELSIUS,
        ),
        # GPUs without that sensor say 0 rather than nothing.
        memory_temperature_celsius=float(memory_temperature)
        if memory_temperature and memory_temperature <= _MOST_CELSIUS
        else None,
        power_watts=None if milliwatts is None else milliwatts / 1000,
        energy_millijoules=_number(partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)),
        sm_clock_mhz=_clock(handle, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=_clock(handle, pynvml.NVML_CLOCK_MEM),
        double_bit_errors=_double_bit_errors(handle, pynvml.NVML_VOLATILE_ECC),
        double_bit_errors_ever=_double_bit_errors(handle, pynvml.NVML_AGGREGATE_ECC),
    )


def power_limits_of(handle: Any) -> PowerLimits | None:
    """Return the power limits of the GPU, None if it has none; NVMLError if it is gone."""
    current = or_none(partial(pynvml.nvmlDeviceGetPowerManagementLimit, handle))
    enforced = or_none(partial(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle))
    default = or_none(partial(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle))
    span = or_none(partial(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle))
    if current is None or enforced is None or default is None or span is None:
        return None
    return PowerLimits(int(current), int(enforced), int(default), int(span[0]), int(span[1]))


def utilization_by_process(handle: Any, since: int) -> Mapping[int, float] | None:
    """Return utilisation (percent 0-100) by pid since *since*, microseconds; None if untold."""
    samples = or_none(lambda: pynvml.nvmlDeviceGetProcessUtilization(handle, since))
    if samples is None:
        return None
    latest: dict[int, Any] = {}
    for sample in samples:
        if sample.timeStamp >= getattr(latest.get(sample.pid), "timeStamp", 0):
            latest[sample.pid] = sample
    busiest = {
        pid: max(float(s.smUtil), float(s.encUtil), float(s.decUtil)) for pid, s in latest.items()
    }
    # A sample that cannot be true makes all of them doubtful.
    return None if any(p > _MOST_PERCENT for p in busiest.values()) else busiest


def _utilization(handle: Any) -> Any:
    """Return the rates; None where the GPU cannot tell.

    One that works again only after a reset measures nothing, and still says who uses it.
    """
    try:
        return or_none(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_RESET_REQUIRED:
            raise
        return None


def _memory(handle: Any) -> tuple[int | None, int | None, int | None]:
    """Return bytes used, in all, and kept by the driver for itself.

    Drivers disagree on whether the newer call counts the reserve as used (NVIDIA's reference of
    R525 says yes, later ones no), but not on what is free. The older call always counts it.
    """
    memory = if_told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2))
    if memory is not None:
        used = int(memory.total) - int(memory.free) - int(memory.reserved)
        return max(used, 0), int(memory.total), int(memory.reserved)
    memory = if_told(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    return (None, None, None) if memory is None else (int(memory.used), int(memory.total), None)


def _processes(slot: GpuSlot, handle: Any) -> Iterator[GpuProcess]:
    # Without the list of compute processes nobody can say that a GPU is free: that must not look
    # like an empty list. The other two kinds are missing on some GPUs.
    lists = {
        "compute": _compute_processes(handle),
        "mps": or_none(partial(pynvml.nvmlDeviceGetMPSComputeRunningProcesses_v3, handle)) or (),
        "graphics": or_none(partial(pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, handle)) or (),
    }
    seen: set[int] = set()
    for kind, processes in lists.items():
        for process in processes:
            if process.pid not in seen and _is_in(process, slot):
                seen.add(process.pid)
                yield GpuProcess(process.pid, process.usedGpuMemory, kind)


def _compute_processes(handle: Any) -> Any:
    try:
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except pynvml.NVMLError as error:
        # Drivers before R510.
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return pynvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)


def _is_in(process: Any, slot: GpuSlot) -> bool:
    """Tell whether a process is in a slot: asked about a MIG device, drivers may list its GPU's."""
    instance = getattr(process, "gpuInstanceId", _NO_INSTANCE)
    part = getattr(process, "computeInstanceId", _NO_INSTANCE)
    return slot.gpu_instance is None or (
        instance in {slot.gpu_instance, _NO_INSTANCE}
        and part in {slot.compute_instance, _NO_INSTANCE}
    )


def _requires_reset(handle: Any) -> bool:
    """Tell whether the GPU measures nothing any more until it is reset; NVMLError if it is gone."""
    try:
        pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
    except pynvml.NVMLError as error:
        if is_gpu_gone(error):
            raise
        return bool(error.value == pynvml.NVML_ERROR_RESET_REQUIRED)
    return False


def _field(handle: Any, field: int) -> int | None:
    values = if_told(lambda: pynvml.nvmlDeviceGetFieldValues(handle, [field]))
    if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
        return None
    return int(values[0].value.uiVal)


def _number(ask: Callable[[], Any], most: float | None = None) -> float | None:
    value = if_told(ask)
    return None if value is None or (most is not None and value > most) else float(value)


def _clock(handle: Any, clock: int) -> float | None:
    return _number(partial(pynvml.nvmlDeviceGetClockInfo, handle, clock), _MOST_MHZ)


def _double_bit_errors(handle: Any, counter: int) -> int | None:
    kind = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    return if_told(lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, counter)))
