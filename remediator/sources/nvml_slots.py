"""Which GPUs there are and how they are cut up, from handles of NVML."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pynvml

from remediator.core.gpus import Gpu, GpuSlot
from remediator.sources.nvml_answers import or_none

# NVIDIA's documented slices of a whole GPU: seven, but four on an A30.
_SLICES = 7
_SLICES_A30 = 4


def gpu_at(index: int, handle: Any) -> Gpu:
    """Return the GPU with its slots; NVMLError if it does not answer."""
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    model = pynvml.nvmlDeviceGetName(handle)
    mode = or_none(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    minor = or_none(lambda: pynvml.nvmlDeviceGetMinorNumber(handle))
    mig_enabled = mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    whole = GpuSlot(gpu=index, slot=str(index), uuid=uuid, parent_uuid=uuid, minor=minor)
    return Gpu(
        index=index,
        uuid=uuid,
        model=model,
        pci_bus_id=or_none(lambda: str(pynvml.nvmlDeviceGetPciInfo(handle).busId)) or "",
        mig_enabled=mig_enabled,
        slots=tuple(_mig_slots(whole, handle, model)) if mig_enabled else (whole,),
    )


def _mig_slots(whole: GpuSlot, handle: Any, model: str) -> Iterator[GpuSlot]:
    slices = _slices_of(handle, model)
    for position in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        # A repartition may take a device away between any two of these questions: then it is
        # left out, and the GPU is not lost for that. Of anything else nobody knows what it hides.
        device = or_none(partial(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, position))
        slot = device and or_none(partial(_mig_slot, whole, position, device, slices))
        if slot:
            yield slot


def _mig_slot(whole: GpuSlot, position: int, device: Any, slices: int) -> GpuSlot:
    profile = _profile_of(device)
    return GpuSlot(
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
    name = or_none(lambda: str(pynvml.nvmlDeviceGetName(device))) or ""
    if " MIG " in f" {name}":
        return name.rpartition("MIG ")[2]
    attributes = or_none(lambda: pynvml.nvmlDeviceGetAttributes(device))
    if attributes is None:
        return "unknown"
    gib = round(attributes.memorySizeMB / 1024)
    return f"{attributes.gpuInstanceSliceCount}g.{gib}gb"


def _compute_slices(device: Any, profile: str) -> int:
    attributes = or_none(lambda: pynvml.nvmlDeviceGetAttributes(device))
    if attributes is not None and attributes.computeInstanceSliceCount:
        return int(attributes.computeInstanceSliceCount)
    # "1c.3g.40gb" has one slice, "3g.40gb" three.
    digits = profile[:1]
    return int(digits) if digits.isdecimal() else 1


def _slices_of(handle: Any, model: str) -> int:
    """Return the compute slices of the whole GPU: those of its largest instance profile."""
    largest = 0
    for profile in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = or_none(partial(pynvml.nvmlDeviceGetGpuInstanceProfileInfo, handle, profile))
        largest = max(largest, info.sliceCount if info else 0)
    return largest or (_SLICES_A30 if "A30" in model.split()[-1:] else _SLICES)
