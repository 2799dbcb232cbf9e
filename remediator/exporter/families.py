"""Every metric family of the exporter: name, labels, type and meaning, in one place.

Names and labels are a contract with dashboards and rules. Two labels follow DCGM so that series
join: ``UUID`` is the physical GPU's, ``GPU_I_ID`` the MIG instance's or empty for a whole GPU.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

Row = tuple[Sequence[str], float]

_ID = ("container_id",)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family; a counter if its name says ``_total`` and ``counter`` is set."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    counter: bool = False

    def of(self, rows: Iterable[Row]) -> Metric:
        """Return the family with *rows* of label values and a number."""
        if self.counter:
            counter = CounterMetricFamily(self.name, self.help, labels=self.labels)
            for values, number in rows:
                counter.add_metric(values, number)
            return counter
        gauge = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, number in rows:
            gauge.add_metric(values, number)
        return gauge


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
    "Until when the owner's keep-alive protects, since the epoch; absent without one.",
    _ID,
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
