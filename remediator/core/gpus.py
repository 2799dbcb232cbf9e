"""GPUs and their slots as the driver reports them, as values.

A slot is what can be given to a container: a whole GPU, or one MIG device of a GPU whose MIG
mode is on. DCGM names both by the UUID of the *physical* GPU plus ``GPU_I_ID``, which is empty for
a whole GPU; that pair is how everything here joins with DCGM.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuSlot:
    """One whole GPU or one MIG device.

    ``slot`` is DS01's name for it: ``0`` for whole GPU 0, ``1.0`` for MIG device 0 of GPU 1.
    ``uuid`` is the MIG device's own for a MIG device, ``parent_uuid`` always the physical GPU's.
    ``fraction`` is the share of the GPU's compute slices, 0-1; ``profile`` is ``full`` or MIG's,
    such as ``2g.20gb``. ``minor`` is the N of ``/dev/nvidiaN``, which need not be the index.
    """

    gpu: int
    slot: str
    uuid: str
    parent_uuid: str
    profile: str = "full"
    fraction: float = 1.0
    gpu_instance: int | None = None
    compute_instance: int | None = None
    mig_enabled: bool = False
    minor: int | None = None

    @property
    def gpu_i_id(self) -> str:
        """DCGM's ``GPU_I_ID`` label: the GPU instance, or nothing for a whole GPU."""
        return "" if self.gpu_instance is None else str(self.gpu_instance)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU and its slots; no slots when MIG is on and nothing is partitioned yet.

    ``lost`` is why the driver cannot talk to it any more; what is known of it then is what was
    last seen.
    """

    index: int
    uuid: str
    model: str
    pci_bus_id: str
    mig_enabled: bool
    slots: tuple[GpuSlot, ...]
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that NVML lists on a slot; ``kind`` is compute, graphics or mps."""

    pid: int
    memory_bytes: int | None
    kind: str


@dataclass(frozen=True, slots=True)
class SlotReading:
    """What NVML says about one slot now; None where it cannot tell.

    ``utilization_percent`` (0-100) is None for MIG: NVML counts none per MIG device.
    """

    slot: GpuSlot
    utilization_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    processes: tuple[GpuProcess, ...]


@dataclass(frozen=True, slots=True)
class LostReading:
    """The slot's GPU does not answer; ``reason`` is the driver's word for it."""

    slot: GpuSlot
    reason: str


Reading = SlotReading | LostReading


@dataclass(frozen=True, slots=True)
class RowRemapping:
    """State of the GPU's spare memory rows: *pending* takes effect at the next reset."""

    pending: bool
    failed: bool
