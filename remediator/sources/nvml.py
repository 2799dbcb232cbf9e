"""What the NVIDIA driver says, through NVML.

* The library is opened by the first question and kept open: on a real host that takes long. It
  makes this process a client of every GPU, and clients block resets: it is `closed` during one.
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
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pynvml

from remediator.core.gpus import (
    Gpu,
    GpuGauges,
    GpuHealth,
    GpuSlot,
    LostReading,
    PowerLimits,
    Reading,
)
from remediator.errors import SourceError, TargetGoneError
from remediator.sources.nvml_answers import (
    if_told,
    is_driver_gone,
    is_forbidden,
    is_unknown_gpu,
)
from remediator.sources.nvml_gpm import GpmSamples
from remediator.sources.nvml_links import goes_with_others, reset_group
from remediator.sources.nvml_readings import (
    gauges_of,
    health_of,
    power_limits_of,
    reading_of,
    utilization_by_process,
)
from remediator.sources.nvml_slots import gpu_at

# How far back samples of processes' utilisation are asked for; the driver keeps a few seconds.
_RECENT_MICROSECONDS = 5_000_000
_UNLISTED = "the driver does not list it any more"


class NvmlSource:
    """The GPUs of this machine; any thread may ask, one at a time gets through.

    *is_kept_off* tells whether another program resets a GPU, so that the driver must not be opened.
    """

    def __init__(self, is_kept_off: Callable[[], bool] = lambda: False) -> None:
        self._is_kept_off = is_kept_off
        self._lock = threading.RLock()
        self._open = False
        # Why it must not be opened, one entry for each that wants it so.
        self._closed: list[str] = []
        self._gpm = GpmSamples()
        # What a GPU was when it still answered, by UUID: once lost it cannot even say that.
        self._seen: dict[str, Gpu] = {}

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU with its slots; a lost one as it was last seen.

        One that was lost before it was ever seen has neither name nor UUID. One that was seen and
        is not even listed any more, as after a driver came up without it, is lost and has no slots.
        GPUs that this user may not see are left out.
        """
        with self._asking("the GPUs"):
            found = [self._at(index) for index in range(pynvml.nvmlDeviceGetCount())]
            answering = {gpu.uuid: gpu for gpu in found if isinstance(gpu, Gpu)}
            missing = {u: gpu for u, gpu in self._seen.items() if u not in answering}
            self._seen |= answering
            self._gpm.keep_only([slot.uuid for gpu in answering.values() for slot in gpu.slots])
            lost = [
                gpu if isinstance(gpu, Gpu) else _lost(index, gpu, missing)
                for index, gpu in enumerate(found)
                if gpu is not None
            ]
            return (*lost, *(replace(gpu, slots=(), lost=_UNLISTED) for gpu in missing.values()))

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
                return reading_of(slot, pynvml.nvmlDeviceGetHandleByUUID(slot.uuid))
            except pynvml.NVMLError as error:
                if is_driver_gone(error):
                    raise
                return LostReading(slot, str(error))

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        """Return the recent utilisation (percent 0-100) of the GPU by pid; None if it can't tell.

        Drivers answer this for whole GPUs of the Maxwell generation on, not for MIG devices.
        """
        if slot.gpu_instance is not None:
            return None
        since = int(time.time() * 1e6) - _RECENT_MICROSECONDS
        with self._asking(f"GPU {slot.slot}"):
            return utilization_by_process(pynvml.nvmlDeviceGetHandleByUUID(slot.uuid), since)

    def engine_active(self, slot: GpuSlot) -> float | None:
        """Return the share of time (0-1) in which a MIG device worked since this was last asked.

        None at first, for whole GPUs, which have a utilisation, and before Hopper.
        """
        instance = slot.gpu_instance
        if instance is None:
            return None
        with self._asking(f"GPU {slot.slot}"):
            gpu = pynvml.nvmlDeviceGetHandleByUUID(slot.parent_uuid)
            return self._gpm.ratio(slot.uuid, partial(pynvml.nvmlGpmMigSampleGet, gpu, instance))

    def health(self, gpu_uuid: str) -> GpuHealth:
        """Return what the driver thinks of a GPU; SourceError too if that GPU is gone."""
        with self._asking(f"GPU {gpu_uuid}"):
            return health_of(pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid))

    def reset_group(self, gpu_uuid: str) -> tuple[str, ...]:
        """Return the GPUs that can only be reset together with this one, and it.

        It alone from Ampere on; before that all that hang together by NVLink. SourceError where
        one of them does not answer.
        """
        with self._asking(f"GPU {gpu_uuid}"):
            if not goes_with_others(pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)):
                return (gpu_uuid,)
            indexes = range(pynvml.nvmlDeviceGetCount())
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in indexes]
            return reset_group(gpu_uuid, {pynvml.nvmlDeviceGetUUID(h): h for h in handles})

    def is_persistent(self, gpu_uuid: str) -> bool | None:
        """Return whether the driver keeps the GPU ready while nobody uses it; None if untold."""
        with self._asking(f"GPU {gpu_uuid}"):
            handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
            mode = if_told(partial(pynvml.nvmlDeviceGetPersistenceMode, handle))
            return None if mode is None else bool(mode)

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        """Return what a GPU's instruments show; SourceError too if that GPU is gone."""
        with self._asking(f"GPU {gpu_uuid}"):
            return gauges_of(pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid))

    def power_limits(self, gpu_uuid: str) -> PowerLimits | None:
        """Return a GPU's power limits, None if it has none.

        TargetGoneError if the driver knows no such GPU, SourceError if it is lost.
        """
        with self._asking(f"GPU {gpu_uuid}"):
            try:
                handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
            except pynvml.NVMLError as error:
                if not is_unknown_gpu(error):
                    raise
                raise TargetGoneError(f"the driver knows no GPU {gpu_uuid}") from error
            return power_limits_of(handle)

    def release(self, within: timedelta = timedelta(seconds=2)) -> bool:
        """Close the driver, so that this process does not stand in a reset's way.

        False if somebody's question still hangs in it. The next question opens it again.
        """
        if not self._lock.acquire(timeout=within.total_seconds()):
            return False
        try:
            if self._open:
                self._open = False
                self._gpm.keep_only(())
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlShutdown()
            return True
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def closed(self, why: str, within: timedelta) -> Iterator[None]:
        """Close the driver, and keep it closed for the time of the block: *why* is the answer.

        SourceError if somebody's question still hangs in it.
        """
        # Without the lock, which a question that hangs may hold: the next one sees it.
        self._closed.append(why)
        try:
            if not self.release(within):
                raise SourceError("a question of our own still hangs in the NVIDIA driver")
            yield
        finally:
            self._closed.remove(why)

    def _at(self, index: int) -> Gpu | str | None:
        """Return a GPU, or why it does not answer, or None for one that is not for us."""
        try:
            return gpu_at(index, pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError as error:
            if is_driver_gone(error):
                raise
            return None if is_forbidden(error) else str(error)

    @contextlib.contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        with self._lock:
            try:
                if self._closed:
                    raise SourceError(self._closed[-1])
                if not self._open:
                    if self._is_kept_off():
                        raise SourceError("another program resets a GPU")
                    pynvml.nvmlInit()
                    self._open = True
                yield
            except pynvml.NVMLError as error:
                if is_driver_gone(error):
                    self.release()
                message = f"the NVIDIA driver did not answer when asked for {what}: {error}"
                raise SourceError(message) from error


def _lost(index: int, reason: str, missing: dict[str, Gpu]) -> Gpu:
    """Return what is known of a GPU that does not answer, and take it out of *missing*."""
    for uuid, gpu in missing.items():
        if gpu.index == index:
            del missing[uuid]
            return replace(gpu, lost=reason)
    # It was lost before anybody asked its name: it must not go unnoticed.
    slot = GpuSlot(gpu=index, slot=str(index), uuid="", parent_uuid="", minor=index)
    return Gpu(index, "", "", "", mig_enabled=False, slots=(slot,), lost=reason)
