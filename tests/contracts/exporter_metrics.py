"""Every metric family that the exporter may serve: a contract with dashboards and rules.

One row per family: name, type, labels in their order. A row is changed only together with
everything that reads it.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """One family as it stands in a scrape."""

    name: str
    kind: str
    labels: tuple[str, ...]


def _gauge(name: str, labels: str = "") -> Row:
    return Row(name, "gauge", tuple(labels.split()))


def _counter(name: str, labels: str = "") -> Row:
    return Row(name, "counter", tuple(labels.split()))


_DCGM = "gpu UUID pci_bus_id device modelName Hostname GPU_I_PROFILE GPU_I_ID"

# What DS01's dashboards and recording rules have always read.
INHERITED = (
    _gauge("ds01_exporter_info", "version type"),
    _gauge("ds01_gpu_allocated", "gpu_slot container user interface profile"),
    _gauge("ds01_gpu_equivalents", "gpu_slot user interface profile"),
    _gauge("ds01_containers_total", "status interface"),
    _gauge("ds01_user_gpus_allocated", "user"),
    _gauge("ds01_user_gpu_equivalents", "user"),
    _gauge("ds01_user_containers_count", "user"),
    _gauge("ds01_user_mig_allocated", "user"),
    _gauge("ds01_events_24h_total", "event_type"),
    _gauge("ds01_lifecycle_events_total", "action"),
    _gauge("ds01_state_disk_bytes", "type"),
    _gauge("ds01_gpu_slot_info", "gpu slot gpu_uuid mig_enabled"),
    _gauge("ds01_mig_slot_info", "gpu gpu_i_id slot mig_uuid"),
    _gauge("ds01_mig_mapping_status"),
    _gauge("ds01_unmanaged_gpu_container", "container user gpu_count access_type running"),
    _gauge("ds01_unmanaged_gpu_count"),
    _gauge("ds01_unmanaged_gpu_running"),
    _gauge("ds01_unmanaged_gpu_all_access"),
    _gauge("ds01_ssh_sessions_active", "user"),
    _gauge("ds01_ssh_sessions_total"),
    _gauge("ds01_user_group_info", "user group"),
    _gauge("ds01_group_members_total", "group"),
    _counter("ds01_user_cpu_usage_seconds_total", "user group"),
    _gauge("ds01_user_memory_current_bytes", "user group"),
)

# What the rules need besides.
NEW = (
    _gauge(
        "ds01_container_info",
        "container_id container user user_source interface container_type group exempt",
    ),
    _gauge("ds01_container_gpu", "container_id gpu_slot gpu UUID GPU_I_ID"),
    _gauge("ds01_container_running", "container_id"),
    _gauge("ds01_container_created_time_seconds", "container_id"),
    _gauge("ds01_container_started_time_seconds", "container_id"),
    _gauge("ds01_container_finished_time_seconds", "container_id"),
    _counter("ds01_container_cpu_usage_seconds_total", "container_id"),
    _counter("ds01_container_network_receive_bytes_total", "container_id"),
    _counter("ds01_container_network_transmit_bytes_total", "container_id"),
    _gauge("ds01_container_memory_usage_bytes", "container_id"),
    _gauge("ds01_container_memory_limit_bytes", "container_id"),
    _gauge("ds01_container_processes", "container_id"),
    _gauge("ds01_container_idle_timeout_seconds", "container_id"),
    _gauge("ds01_container_grace_seconds", "container_id"),
    _gauge("ds01_container_max_runtime_seconds", "container_id"),
    _gauge("ds01_container_hold_seconds", "container_id"),
    _gauge("ds01_container_created_timeout_seconds", "container_id"),
    _gauge("ds01_container_gpu_idle_percent_threshold", "container_id"),
    _gauge("ds01_container_cpu_idle_percent_threshold", "container_id"),
    _gauge("ds01_container_network_idle_bytes_threshold", "container_id"),
    _gauge("ds01_container_keep_alive_until_seconds", "container_id"),
    _gauge(
        "ds01_gpu_process_memory_bytes",
        "UUID GPU_I_ID pid start_ticks container_id user comm",
    ),
    _gauge("ds01_gpu_orphan_process", "UUID GPU_I_ID pid start_ticks user comm"),
    _gauge("ds01_gpu_info", "gpu UUID modelName"),
    _gauge("ds01_gpu_lost", "UUID"),
    _gauge("ds01_gpu_recovery_action", "UUID"),
    _gauge("ds01_gpu_row_remap_pending", "UUID"),
    _gauge("ds01_gpu_row_remap_failed", "UUID"),
    _gauge("ds01_gpu_memory_unaccounted_bytes", "UUID"),
    _gauge("ds01_gpu_demand_ratio"),
    _gauge("ds01_gpu_high_demand_threshold"),
    _gauge("ds01_gpu_high_demand_idle_reduction"),
    _gauge("ds01_mig_devices_mapped"),
    _gauge("ds01_mig_devices_unmapped"),
    _gauge("ds01_inventory_age_seconds"),
    _gauge("ds01_source_age_seconds", "source"),
    _gauge("ds01_limits_last_reload_successful"),
    _gauge("ds01_limits_void_exemptions"),
    _gauge("ds01_collector_success", "collector"),
    _gauge("ds01_collector_duration_seconds", "collector"),
)

# dcgm-exporter's, with ``--gpu-metrics``.
DCGM = (
    _gauge("DCGM_FI_DEV_GPU_UTIL", _DCGM),
    _gauge("DCGM_FI_DEV_GPU_TEMP", _DCGM),
    _gauge("DCGM_FI_DEV_MEMORY_TEMP", _DCGM),
    _gauge("DCGM_FI_DEV_POWER_USAGE", _DCGM),
    _counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", _DCGM),
    _gauge("DCGM_FI_DEV_SM_CLOCK", _DCGM),
    _gauge("DCGM_FI_DEV_MEM_CLOCK", _DCGM),
    _gauge("DCGM_FI_DEV_FB_USED", _DCGM),
    _gauge("DCGM_FI_DEV_FB_FREE", _DCGM),
    _gauge("DCGM_FI_PROF_GR_ENGINE_ACTIVE", _DCGM),
    _gauge("DCGM_FI_DEV_XID_ERRORS", _DCGM),
    _counter("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", _DCGM),
    _counter("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", _DCGM),
    _gauge("DCGM_FI_DEV_ROW_REMAP_FAILURE", _DCGM),
    _gauge("DCGM_FI_DEV_ROW_REMAP_PENDING", _DCGM),
    _counter("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", _DCGM),
    _counter("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", _DCGM),
)

EXPORTER_METRICS = (*INHERITED, *NEW, *DCGM)
