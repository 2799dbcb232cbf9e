"""What the NVIDIA driver says, through NVML.

* The library is opened by the first question and kept open: on a real host that takes long. It
  makes this process a client of every GPU, and clients block resets: call `release` before one.
* Every question looks the devices up anew: a MIG repartition, a reset, a lost GPU show at once.
* What a GPU cannot tell (most things under MIG) is None. A lost GPU is a value that says so, and
  hides nothing of the others. SourceError means that the driver itself gives no answers.

NVML itself has no timeouts and can hang in a broken driver; whoever must not hang asks from a
thread it can leave behind.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import pynvml

from remediator.core.gpus import (
    Gpu,
    GpuProcess,
    GpuSlot,
    LostReading,
    Reading,
    RowRemapping,
    SlotReading,
)
from remediator.errors import SourceError

T = TypeVar("T")

# The answers that mean "this GPU cannot tell" rather than "something is wrong".
_CANNOT_TELL = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
    }
)
# The answers that mean that the driver went away under us: the next question starts over.
_DRIVER_GONE = frozenset(
    {
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    }
)
# NVIDIA's documented slices of a whole GPU: seven, but four on an A30.
_SLICES = 7
_SLICES_A30 = 4
_NO_INSTANCE = 0xFFFFFFFF
_MOST_PERCENT = 100
# How far back samples of processes' utilisation are asked for; the driver keeps a few seconds.
_RECENT_MICROSECONDS = 5_000_000


class NvmlSource:
    """The GPUs of this machine; any thread may ask, one at a time gets through."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open = False
        # What a GPU was when it still answered: once lost it cannot even say its UUID.
        self._seen: dict[int, Gpu] = {}

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU with its slots; a lost one as it was last seen.

        One that was lost before it was ever seen has neither name nor UUID.
        """
        with self._asking("the GPUs"):
            count = pynvml.nvmlDeviceGetCount()
            gpus = tuple(self._gpu(index) for index in range(count))
            self._seen = {gpu.index: gpu for gpu in gpus if gpu.model}
            return gpus

    def inventory(self) -> tuple[GpuSlot, ...]:
        """Return every slot that can be given to a container now."""
        return tuple(slot for gpu in self.gpus() for slot in gpu.slots)

    def readings(self) -> tuple[Reading, ...]:
        """Return what every slot is doing now."""
        with self._lock:
            return tuple(self.reading(slot) for slot in self.inventory())

    def reading(self, slot: GpuSlot) -> Reading:
        """Return what *slot* is doing now."""
        with self._asking(f"GPU {slot.slot}"):
            try:
                return _reading(slot)
            except pynvml.NVMLError as error:
                if error.value in _DRIVER_GONE:
                    raise
                return LostReading(slot, str(error))

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        """Return the recent utilisation (percent 0-100) of the GPU by pid; None if it can't tell.

        Drivers answer this for whole GPUs of the Maxwell generation on, not for MIG devices.
        """
        if slot.gpu_instance is not None:
            return None
        since = int(time.time() * 1e6) - _RECENT_MICROSECONDS
        samples = self._of(slot.uuid, lambda h: pynvml.nvmlDeviceGetProcessUtilization(h, since))
        if samples is None:
            return None
        latest: dict[int, Any] = {}
        for sample in samples:
            if sample.timeStamp >= getattr(latest.get(sample.pid), "timeStamp", 0):
                latest[sample.pid] = sample
        busiest = {
            pid: max(float(s.smUtil), float(s.encUtil), float(s.decUtil))
            for pid, s in latest.items()
        }
        # A sample that cannot be true makes all of them doubtful.
        return None if any(p > _MOST_PERCENT for p in busiest.values()) else busiest

    def temperature(self, gpu_uuid: str) -> float | None:
        """Return the core's temperature in degrees Celsius; None if the GPU can't tell."""
        value = self._of(
            gpu_uuid,
            lambda h: pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU),
        )
        return None if value is None else float(value)

    def power(self, gpu_uuid: str) -> float | None:
        """Return the power drawn in watts; None if the GPU can't tell."""
        milliwatts = self._of(gpu_uuid, pynvml.nvmlDeviceGetPowerUsage)
        return None if milliwatts is None else milliwatts / 1000

    def recovery_action(self, gpu_uuid: str) -> int | None:
        """Return the driver's advice (field 230); None if the driver is too old to say.

        0 none, 1 reset the GPU, 2 reboot the node, 3 drain P2P, 4 drain and reset.
        """
        wanted = pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
        values = self._of(gpu_uuid, lambda h: pynvml.nvmlDeviceGetFieldValues(h, [wanted]))
        if values is None or values[0].nvmlReturn != pynvml.NVML_SUCCESS:
            return None
        return int(values[0].value.uiVal)

    def remapped_rows(self, gpu_uuid: str) -> RowRemapping | None:
        """Return the state of row remapping; None if the GPU can't tell, as under MIG."""
        rows = self._of(gpu_uuid, pynvml.nvmlDeviceGetRemappedRows)
        return None if rows is None else RowRemapping(pending=bool(rows[2]), failed=bool(rows[3]))

    def release(self) -> None:
        """Close the driver, so that this process does not stand in a reset's way."""
        with self._lock:
            if self._open:
                self._open = False
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlShutdown()

    def _of(self, gpu_uuid: str, ask: Callable[[Any], T]) -> T | None:
        with self._asking(f"GPU {gpu_uuid}"):
            return _or_none(lambda: ask(pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)))

    def _gpu(self, index: int) -> Gpu:
        try:
            return _gpu(index, pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError as error:
            if error.value in _DRIVER_GONE:
                raise
            seen = self._seen.get(index, _nameless(index))
            return Gpu(
                index=seen.index,
                uuid=seen.uuid,
                model=seen.model,
                pci_bus_id=seen.pci_bus_id,
                mig_enabled=seen.mig_enabled,
                slots=seen.slots,
                lost=str(error),
            )

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        with self._lock:
            try:
                if not self._open:
                    pynvml.nvmlInit()
                    self._open = True
                yield
            except pynvml.NVMLError as error:
                if error.value in _DRIVER_GONE:
                    self.release()
                message = f"the NVIDIA driver did not answer when asked for {what}: {error}"
                raise SourceError(message) from error


def _nameless(index: int) -> Gpu:
    """Return a GPU that was lost before anybody asked its name: it must not go unnoticed."""
    slot = GpuSlot(gpu=index, slot=str(index), uuid="", parent_uuid="", minor=index)
    return Gpu(index=index, uuid="", model="", pci_bus_id="", mig_enabled=False, slots=(slot,))


def _gpu(index: int, handle: Any) -> Gpu:
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    model = pynvml.nvmlDeviceGetName(handle)
    mode = _or_none(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    minor = _or_none(lambda: pynvml.nvmlDeviceGetMinorNumber(handle))
    mig_enabled = mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    whole = GpuSlot(gpu=index, slot=str(index), uuid=uuid, parent_uuid=uuid, minor=minor)
    return Gpu(
        index=index,
        uuid=uuid,
        model=model,
        pci_bus_id=_or_none(lambda: str(pynvml.nvmlDeviceGetPciInfo(handle).busId)) or "",
        mig_enabled=mig_enabled,
        slots=tuple(_mig_slots(whole, handle, model)) if mig_enabled else (whole,),
    )


def _mig_slots(whole: GpuSlot, handle: Any, model: str) -> Iterator[GpuSlot]:
    slices = _slices_of(handle, model)
    for position in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        device = _or_none(partial(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, position))
        if device is None:
            continue
        profile = _profile_of(device)
        yield GpuSlot(
            gpu=whole.gpu,
            slot=f"{whole.gpu}.{position}",
            uuid=pynvml.nvmlDeviceGetUUID(device),
            parent_uuid=whole.uuid,
            profile=profile,
            fraction=_compute_slices(device, profile) / slices,
            gpu_instance=pynvml.nvmlDeviceGetGpuInstanceId(device),
            compute_instance=pynvml.nvmlDeviceGetComputeInstanceId(device),
            mig_enabled=True,
            minor=whole.minor,
        )


def _profile_of(device: Any) -> str:
    """Return MIG's name such as ``2g.20gb``, or ``1c.3g.40gb`` for a part of an instance.

    The driver ends a MIG device's name with it: ``NVIDIA A100-SXM4-80GB MIG 2g.20gb``.
    """
    name = _or_none(lambda: str(pynvml.nvmlDeviceGetName(device))) or ""
    if " MIG " in f" {name}":
        return name.rpartition("MIG ")[2]
    attributes = _or_none(lambda: pynvml.nvmlDeviceGetAttributes(device))
    if attributes is None:
        return "unknown"
    gib = round(attributes.memorySizeMB / 1024)
    return f"{attributes.gpuInstanceSliceCount}g.{gib}gb"


def _compute_slices(device: Any, profile: str) -> int:
    attributes = _or_none(lambda: pynvml.nvmlDeviceGetAttributes(device))
    if attributes is not None and attributes.computeInstanceSliceCount:
        return int(attributes.computeInstanceSliceCount)
    # "1c.3g.40gb" has one slice, "3g.40gb" three.
    digits = profile[:1]
    return int(digits) if digits.isdecimal() else 1


def _slices_of(handle: Any, model: str) -> int:
    """Return the compute slices of the whole GPU: those of its largest instance profile."""
    largest = 0
    for profile in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _or_none(partial(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, profile))
        largest = max(largest, info.sliceCount if info else 0)
    return largest or (_SLICES_A30 if "A30" in model.split()[-1:] else _SLICES)


def _reading(slot: GpuSlot) -> SlotReading:
    handle = pynvml.nvmlDeviceGetHandleByUUID(slot.uuid)
    memory = _or_none(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    rates = _or_none(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
    busy = None if rates is None or rates.gpu > _MOST_PERCENT else float(rates.gpu)
    return SlotReading(
        slot=slot,
        utilization_percent=busy,
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        processes=tuple(_processes(slot, handle)),
    )


def _processes(slot: GpuSlot, handle: Any) -> Iterator[GpuProcess]:
    # Without the list of compute processes nobody can say that a GPU is free: that must not look
    # like an empty list. The other two kinds are missing on some GPUs.
    lists = {
        "compute": pynvml.nvmlDeviceGetComputeRunningProcesses(handle),
        "mps": _or_none(partial(pynvml.nvmlDeviceGetMPSComputeRunningProcesses, handle)) or (),
        "graphics": _or_none(partial(pynvml.nvmlDeviceGetGraphicsRunningProcesses, handle)) or (),
    }
    seen: set[int] = set()
    for kind, processes in lists.items():
        for process in processes:
            if process.pid not in seen and _is_in(process, slot):
                seen.add(process.pid)
                yield GpuProcess(process.pid, process.usedGpuMemory, kind)


def _is_in(process: Any, slot: GpuSlot) -> bool:
    """Tell whether a process is in a slot: asked about a MIG device, drivers may list its GPU's."""
    instance = getattr(process, "gpuInstanceId", _NO_INSTANCE)
    return slot.gpu_instance is None or instance in {slot.gpu_instance, _NO_INSTANCE}


def _or_none(ask: Callable[[], T]) -> T | None:
    """Return an answer, or None where the GPU cannot tell."""
    try:
        return ask()
    except pynvml.NVMLError as error:
        if error.value in _CANNOT_TELL:
            return None
        raise
