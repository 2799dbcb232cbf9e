"""GPUs and their slots as the driver reports them, as values.

A slot is what can be given to a container: a whole GPU, or one MIG device of a GPU whose MIG
mode is on. DCGM names both by the UUID of the *physical* GPU plus ``GPU_I_ID``, which is empty for
a whole GPU; that pair is how everything here joins with DCGM.
"""

from dataclasses import dataclass

# Limits are set in whole watts, and drivers may round what they are given.
_MILLIWATTS = 1000


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

    ``utilization_percent`` (0-100) is None for MIG: NVML counts none per MIG device. Used memory
    is without ``memory_reserved_bytes``, which the driver keeps for itself; where that is None,
    the reserve counts as used.
    """

    slot: GpuSlot
    utilization_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    processes: tuple[GpuProcess, ...]
    memory_reserved_bytes: int | None = None

    @property
    def memory_free_bytes(self) -> int | None:
        """The memory that a new process could have."""
        if self.memory_used_bytes is None or self.memory_total_bytes is None:
            return None
        reserved = self.memory_reserved_bytes or 0
        return max(self.memory_total_bytes - self.memory_used_bytes - reserved, 0)


@dataclass(frozen=True, slots=True)
class LostReading:
    """The slot's GPU does not answer; ``reason`` is the driver's word for it."""

    slot: GpuSlot
    reason: str


Reading = SlotReading | LostReading


@dataclass(frozen=True, slots=True)
class RowRemapping:
    """State of the GPU's spare memory rows: *pending* takes effect at the next reset.

    The numbers are of rows that were replaced, by the kind of error that made it necessary.
    """

    pending: bool
    failed: bool
    correctable: int = 0
    uncorrectable: int = 0


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """What the driver thinks of a physical GPU; None where it cannot tell.

    ``recovery_action`` is its advice (field 230): 0 none, 1 reset the GPU, 2 reboot the node,
    3 drain P2P, 4 drain and reset. ``rows`` is None under MIG. ``memory_is_the_hosts`` says that
    the kernel manages the GPU's memory, as on Grace Hopper, where pages of ended processes stay.
    ``reset_required`` says that it refuses to work until it is reset.
    """

    recovery_action: int | None = None
    rows: RowRemapping | None = None
    memory_is_the_hosts: bool = False
    reset_required: bool = False


@dataclass(frozen=True, slots=True)
class GpuGauges:
    """What the instruments of a physical GPU show; None where it has none.

    Errors are double-bit ones that ECC found: since the driver was loaded, and ever.
    """

    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    energy_millijoules: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    double_bit_errors: int | None = None
    double_bit_errors_ever: int | None = None


@dataclass(frozen=True, slots=True)
class PowerLimits:
    """The power limits of a physical GPU, in milliwatts.

    ``current`` is the one that was set, ``enforced`` the one that it keeps to, which something
    else may hold lower still. ``default`` is what it has when the driver was loaded, and what can
    be set is from ``minimum`` to ``maximum``.
    """

    current: int
    enforced: int
    default: int
    minimum: int
    maximum: int

    def share(self, percent: int) -> int:
        """Return *percent* of the default in whole watts, or the nearest that can be set."""
        return self.settable(self.default * percent // 100 // _MILLIWATTS * _MILLIWATTS)

    def settable(self, milliwatts: int) -> int:
        """Return *milliwatts*, or the nearest that can be set."""
        return min(max(milliwatts, self.minimum), self.maximum)

    def is_at(self, milliwatts: int) -> bool:
        """Whether that is the limit that was set."""
        return is_same_limit(self.current, milliwatts)

    @property
    def is_kept(self) -> bool:
        """Whether the GPU keeps to the limit that was set."""
        return self.enforced <= self.current or self.is_at(self.enforced)


def is_same_limit(milliwatts: int, other: int) -> bool:
    """Whether two limits are one, give or take a watt."""
    return abs(milliwatts - other) < _MILLIWATTS
