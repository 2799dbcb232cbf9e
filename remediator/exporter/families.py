"""Every metric family of the exporter: name, labels, type and meaning, in one place.

Names and labels are a contract with dashboards and rules. Two labels follow DCGM so that series
join: ``UUID`` is the physical GPU's, ``GPU_I_ID`` the MIG instance's or empty for a whole GPU.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from remediator.exporter.rendering import FilledFamily

Row = tuple[Sequence[str], float]

_ID = ("container_id",)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family; a counter if its name says ``_total`` and ``counter`` is set."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    counter: bool = False

    def of(self, rows: Iterable[Row]) -> FilledFamily:
        """Return the family with *rows* of label values and a number."""
        kind = "counter" if self.counter else "gauge"
        return FilledFamily(self.name, self.help, kind, self.labels, tuple(rows))


EXPORTER_INFO = Family("ds01_exporter_info", "The exporter itself; always 1.", ("version", "type"))
COLLECTOR_SUCCESS = Family(
    "ds01_collector_success",
    "Whether a collector could tell everything it is about.",
    ("collector",),
)
COLLECTOR_DURATION = Family(
    "ds01_collector_duration_seconds", "How long a collector took.", ("collector",)
)
INVENTORY_AGE = Family(
    "ds01_inventory_age_seconds", "Time since Docker last confirmed the list of containers."
)
LIMITS_RELOAD = Family(
    "ds01_limits_last_reload_successful",
    "Whether the limits file as it is now is the one in force.",
)
LIMITS_VOID_EXEMPTIONS = Family(
    "ds01_limits_void_exemptions",
    "Number of entries of the exemptions file that make no sense and so exempt nobody.",
)
HIGH_DEMAND_THRESHOLD = Family(
    "ds01_gpu_high_demand_threshold",
    "Allocated share of the GPUs (0-1) from which on idle timeouts are shorter.",
)
HIGH_DEMAND_REDUCTION = Family(
    "ds01_gpu_high_demand_idle_reduction",
    "Share (0-1) by which idle timeouts are shorter in high demand.",
)

SOURCE_AGE = Family(
    "ds01_source_age_seconds",
    "Age of what is shown of a source that may hang.",
    ("source",),
)

GPU_ALLOCATED = Family(
    "ds01_gpu_allocated",
    "A running container that was given a GPU or MIG slot; always 1.",
    ("gpu_slot", "container", "user", "interface", "profile"),
)
GPU_EQUIVALENTS = Family(
    "ds01_gpu_equivalents",
    "Share of a GPU's compute that a user's running containers were given in a slot.",
    ("gpu_slot", "user", "interface", "profile"),
)
CONTAINERS_TOTAL = Family(
    "ds01_containers_total",
    "Number of containers, but for infrastructure.",
    ("status", "interface"),
)
CONTAINER_INFO = Family(
    "ds01_container_info",
    "Every container with GPU access; always 1.",
    (
        "container_id",
        "container",
        "user",
        "user_source",
        "interface",
        "container_type",
        "group",
        "exempt",
    ),
)
CONTAINER_GPU = Family(
    "ds01_container_gpu",
    "A slot that a container may use, or that a process of it is using; always 1.",
    ("container_id", "gpu_slot", "gpu", "UUID", "GPU_I_ID"),
)
CONTAINER_RUNNING = Family(
    "ds01_container_running", "Whether a container has processes, paused ones included.", _ID
)
CONTAINER_CREATED = Family(
    "ds01_container_created_time_seconds", "When a container was created, since the epoch.", _ID
)
CONTAINER_STARTED = Family(
    "ds01_container_started_time_seconds", "When a container last started, since the epoch.", _ID
)
CONTAINER_FINISHED = Family(
    "ds01_container_finished_time_seconds", "When a container last ended, since the epoch.", _ID
)

CONTAINER_CPU = Family(
    "ds01_container_cpu_usage_seconds_total", "CPU time a container has used.", _ID, counter=True
)
CONTAINER_MEMORY = Family(
    "ds01_container_memory_usage_bytes",
    "Memory of a container without file pages that can be dropped at once.",
    _ID,
)
CONTAINER_RECEIVED = Family(
    "ds01_container_network_receive_bytes_total",
    "Bytes a container received; absent in the host's own network.",
    _ID,
    counter=True,
)
CONTAINER_SENT = Family(
    "ds01_container_network_transmit_bytes_total",
    "Bytes a container sent; absent in the host's own network.",
    _ID,
    counter=True,
)
CONTAINER_MEMORY_LIMIT = Family(
    "ds01_container_memory_limit_bytes",
    "Memory a container may have; absent if it has no limit of its own.",
    _ID,
)
CONTAINER_PROCESSES = Family(
    "ds01_container_processes", "Number of processes in a container, threads not counted.", _ID
)

CONTAINER_IDLE_TIMEOUT = Family(
    "ds01_container_idle_timeout_seconds",
    "How long a container may be idle; absent if it is exempt.",
    _ID,
)
CONTAINER_GRACE = Family(
    "ds01_container_grace_seconds",
    "How long after its start a container is never idle; absent if it is exempt.",
    _ID,
)
CONTAINER_MAX_RUNTIME = Family(
    "ds01_container_max_runtime_seconds", "How long a container may run; absent if exempt.", _ID
)
CONTAINER_HOLD = Family(
    "ds01_container_hold_seconds",
    "How long a stopped container is kept; absent if it is kept for ever.",
    _ID,
)
CONTAINER_CREATED_TIMEOUT = Family(
    "ds01_container_created_timeout_seconds",
    "How long a container that was never started is kept; absent if for ever.",
    _ID,
)
CONTAINER_GPU_THRESHOLD = Family(
    "ds01_container_gpu_idle_percent_threshold",
    "GPU utilisation (0-100) below which a slot counts as idle.",
    _ID,
)
CONTAINER_CPU_THRESHOLD = Family(
    "ds01_container_cpu_idle_percent_threshold",
    "CPU use in percent of one core below which a container counts as idle.",
    _ID,
)
CONTAINER_NETWORK_THRESHOLD = Family(
    "ds01_container_network_idle_bytes_threshold",
    "Bytes both ways in five minutes below which a container counts as idle.",
    _ID,
)
CONTAINER_KEEP_ALIVE = Family(
    "ds01_container_keep_alive_until_seconds",
    "Until when a keep-alive or an extension protects, since the epoch; absent without one.",
    _ID,
)

_USER = ("user",)
USER_GPUS = Family(
    "ds01_user_gpus_allocated",
    "Number of GPU and MIG slots that a user's running containers hold, shared ones once.",
    _USER,
)
USER_EQUIVALENTS = Family(
    "ds01_user_gpu_equivalents",
    "Share of whole GPUs' compute that a user's running containers hold.",
    _USER,
)
USER_MIG = Family("ds01_user_mig_allocated", "The older name of ds01_user_gpu_equivalents.", _USER)
USER_CONTAINERS = Family(
    "ds01_user_containers_count", "Number of a user's running GPU containers.", _USER
)
USER_GROUP = Family(
    "ds01_user_group_info", "The group the limits put a user in; always 1.", ("user", "group")
)
GROUP_MEMBERS = Family(
    "ds01_group_members_total", "Number of users the limits put in a group.", ("group",)
)
USER_CPU = Family(
    "ds01_user_cpu_usage_seconds_total",
    "CPU time used in a user's slice, containers included.",
    ("user", "group"),
    counter=True,
)
USER_MEMORY = Family(
    "ds01_user_memory_current_bytes",
    "Memory in use in a user's slice, file pages included.",
    ("user", "group"),
)
SSH_ACTIVE = Family(
    "ds01_ssh_sessions_active", "Number of a user's sessions over the network.", _USER
)
SSH_TOTAL = Family("ds01_ssh_sessions_total", "Number of sessions over the network.")

UNMANAGED = Family(
    "ds01_unmanaged_gpu_container",
    "A container with GPU access that DS01 did not make; always 1.",
    ("container", "user", "gpu_count", "access_type", "running"),
)
UNMANAGED_COUNT = Family(
    "ds01_unmanaged_gpu_count", "Number of GPU containers that DS01 did not make."
)
UNMANAGED_RUNNING = Family("ds01_unmanaged_gpu_running", "Number of those that run.")
UNMANAGED_ALL = Family(
    "ds01_unmanaged_gpu_all_access", "Number of those that were given every GPU."
)

EVENTS_DAY = Family(
    "ds01_events_24h_total", "Number of DS01's events in the last 24 hours.", ("event_type",)
)
LIFECYCLE_DAY = Family(
    "ds01_lifecycle_events_total",
    "Number of events of containers' lives in the last 24 hours.",
    ("action",),
)
STATE_DISK = Family(
    "ds01_state_disk_bytes",
    "Disk that DS01 keeps its state on; free is what is left for all but root.",
    ("type",),
)

GPU_SLOT_INFO = Family(
    "ds01_gpu_slot_info",
    "A physical GPU; always 1.",
    ("gpu", "slot", "gpu_uuid", "mig_enabled"),
)
MIG_SLOT_INFO = Family(
    "ds01_mig_slot_info",
    "A MIG instance; always 1.",
    ("gpu", "gpu_i_id", "slot", "mig_uuid"),
)
MIG_MAPPING_STATUS = Family(
    "ds01_mig_mapping_status",
    "Whether every MIG device that a running container names exists.",
)
MIG_MAPPED = Family("ds01_mig_devices_mapped", "Number of MIG devices that exist.")
MIG_UNMAPPED = Family(
    "ds01_mig_devices_unmapped", "Number of MIG devices that running containers name in vain."
)
GPU_DEMAND = Family(
    "ds01_gpu_demand_ratio", "Share of the host's GPU compute that is allocated, 0-1."
)
GPU_PROCESS_MEMORY = Family(
    "ds01_gpu_process_memory_bytes",
    "GPU memory of a process that the driver lists; NaN where it cannot tell.",
    ("UUID", "GPU_I_ID", "pid", "start_ticks", "container_id", "user", "comm"),
)
GPU_ORPHAN = Family(
    "ds01_gpu_orphan_process",
    "A process on a GPU of no living container and no permitted host user; always 1.",
    ("UUID", "GPU_I_ID", "pid", "start_ticks", "user", "comm"),
)

_UUID = ("UUID",)
GPU_INFO = Family(
    "ds01_gpu_info", "A physical GPU, lost ones too; always 1.", ("gpu", "UUID", "modelName")
)
GPU_LOST = Family("ds01_gpu_lost", "Whether the driver cannot talk to a GPU any more.", _UUID)
GPU_RECOVERY_ACTION = Family(
    "ds01_gpu_recovery_action",
    "The driver's advice: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.",
    _UUID,
)
GPU_REMAP_PENDING = Family(
    "ds01_gpu_row_remap_pending",
    "Whether rows of memory wait for a reset to be replaced; absent under MIG.",
    _UUID,
)
GPU_REMAP_FAILED = Family(
    "ds01_gpu_row_remap_failed",
    "Whether rows of memory could not be replaced; absent under MIG.",
    _UUID,
)
GPU_UNACCOUNTED = Family(
    "ds01_gpu_memory_unaccounted_bytes",
    "Memory in use that no process and no container explains; absent where it cannot be told.",
    _UUID,
)

# dcgm-exporter's labels; its units too: percent, degrees Celsius, MiB, watts.
_DCGM = (
    "gpu",
    "UUID",
    "pci_bus_id",
    "device",
    "modelName",
    "Hostname",
    "GPU_I_PROFILE",
    "GPU_I_ID",
)
DCGM_UTIL = Family("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", _DCGM)
DCGM_TEMP = Family("DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", _DCGM)
DCGM_POWER = Family("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", _DCGM)
DCGM_USED = Family("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", _DCGM)
DCGM_FREE = Family("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", _DCGM)
DCGM_ENGINE = Family(
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Ratio of time the graphics engine is active.", _DCGM
)
DCGM_MEMORY_TEMP = Family("DCGM_FI_DEV_MEMORY_TEMP", "Memory temperature (in C).", _DCGM)
DCGM_SM_CLOCK = Family("DCGM_FI_DEV_SM_CLOCK", "SM clock frequency (in MHz).", _DCGM)
DCGM_MEM_CLOCK = Family("DCGM_FI_DEV_MEM_CLOCK", "Memory clock frequency (in MHz).", _DCGM)
DCGM_XID = Family("DCGM_FI_DEV_XID_ERRORS", "Code of the last XID, 0 for none.", _DCGM)
DCGM_REMAP_FAILURE = Family(
    "DCGM_FI_DEV_ROW_REMAP_FAILURE", "Whether remapping of rows has failed.", _DCGM
)
DCGM_REMAP_PENDING = Family(
    "DCGM_FI_DEV_ROW_REMAP_PENDING", "Whether remapping of rows waits for a reset.", _DCGM
)
# dcgm-exporter's counters, whose names do not end in ``_total``.
DCGM_ENERGY = Family(
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "Energy used since the driver loaded (in mJ).",
    _DCGM,
    counter=True,
)
DCGM_DBE = Family(
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
    "Double-bit ECC errors since the driver loaded.",
    _DCGM,
    counter=True,
)
DCGM_DBE_EVER = Family(
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "Double-bit ECC errors ever.", _DCGM, counter=True
)
DCGM_REMAPPED_UNCORRECTABLE = Family(
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "Rows remapped for uncorrectable errors.",
    _DCGM,
    counter=True,
)
DCGM_REMAPPED_CORRECTABLE = Family(
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "Rows remapped for correctable errors.",
    _DCGM,
    counter=True,
)
