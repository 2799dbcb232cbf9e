"""DCGM's families from NVML: names, labels and units are dcgm-exporter's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prometheus_client.metrics_core import Metric

from remediator.core.gpus import GpuGauges, GpuHealth, GpuSlot, RowRemapping
from remediator.exporter.dcgm import dcgm_collector
from tests.unit.gpu_views import FIRST, GIB, GPUS, SECOND_SLICE, WHOLE, a_reading, a_sample, a_view

ALL = GpuGauges(
    temperature_celsius=41,
    memory_temperature_celsius=52,
    power_watts=300.5,
    energy_millijoules=123456,
    sm_clock_mhz=1410,
    memory_clock_mhz=1593,
    double_bit_errors=2,
    double_bit_errors_ever=5,
)
ROWS = RowRemapping(pending=True, failed=False, correctable=3, uncorrectable=1)


def served(xids: Mapping[str, int] | None = None, **sample: Any) -> list[Metric]:
    view = a_view(gpus=a_sample(**sample))
    return list(dcgm_collector("host", lambda: xids or {})(view))


def values(metrics: list[Metric], name: str) -> dict[tuple[str, str], float]:
    """Return one family's values by GPU and instance, each of them once."""
    samples = [s for metric in metrics for s in metric.samples if s.name == name]
    found = {(s.labels["UUID"], s.labels["GPU_I_ID"]): s.value for s in samples}
    assert len(found) == len(samples)
    return found


def test_slots_are_told_in_dcgms_units() -> None:
    metrics = served(
        readings=(
            a_reading(WHOLE, utilization_percent=80.0, memory_used_bytes=3 * GIB),
            a_reading(FIRST, memory_used_bytes=GIB, memory_total_bytes=10 * GIB),
        )
    )

    assert values(metrics, "DCGM_FI_DEV_GPU_UTIL") == {("GPU-a", ""): 80}
    assert values(metrics, "DCGM_FI_PROF_GR_ENGINE_ACTIVE") == {("GPU-a", ""): 0.8}
    assert values(metrics, "DCGM_FI_DEV_FB_USED") == {("GPU-a", ""): 3072, ("GPU-b", "3"): 1024}
    free = {("GPU-a", ""): (80 - 3) * 1024 - 512, ("GPU-b", "3"): 9 * 1024 - 512}
    assert values(metrics, "DCGM_FI_DEV_FB_FREE") == free


def test_instruments_are_told_in_dcgms_units_and_types() -> None:
    metrics = served(
        gauges={"GPU-a": ALL}, health={"GPU-a": GpuHealth(rows=ROWS)}, xids={"GPU-a": 79}
    )

    told = {
        metric.samples[0].name: (metric.type, metric.samples[0].value)
        for metric in metrics
        if metric.samples
    }
    assert told == {
        "DCGM_FI_DEV_GPU_TEMP": ("gauge", 41),
        "DCGM_FI_DEV_MEMORY_TEMP": ("gauge", 52),
        "DCGM_FI_DEV_POWER_USAGE": ("gauge", 300.5),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("counter", 123456),
        "DCGM_FI_DEV_SM_CLOCK": ("gauge", 1410),
        "DCGM_FI_DEV_MEM_CLOCK": ("gauge", 1593),
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("counter", 2),
        "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": ("counter", 5),
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": ("gauge", 0),
        "DCGM_FI_DEV_ROW_REMAP_PENDING": ("gauge", 1),
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": ("counter", 1),
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": ("counter", 3),
        "DCGM_FI_DEV_XID_ERRORS": ("gauge", 79),
    }


def test_what_nvml_cannot_tell_is_left_out() -> None:
    metrics = served(
        gauges={"GPU-a": GpuGauges(power_watts=1)}, health={"GPU-a": GpuHealth()}, xids={}
    )

    assert [metric.name for metric in metrics if metric.samples] == ["DCGM_FI_DEV_POWER_USAGE"]


def test_a_mig_gpus_values_are_repeated_for_each_instance() -> None:
    metrics = served(gauges={"GPU-b": ALL}, xids={"GPU-b": 13, "GPU-gone": 79})

    assert values(metrics, "DCGM_FI_DEV_GPU_TEMP") == {("GPU-b", "3"): 41, ("GPU-b", "5"): 41}
    assert values(metrics, "DCGM_FI_DEV_XID_ERRORS") == {("GPU-b", "3"): 13, ("GPU-b", "5"): 13}


def test_a_mig_device_is_as_busy_as_gpm_says_and_has_no_value_without() -> None:
    metrics = served(readings=(a_reading(FIRST), a_reading(SECOND_SLICE)), engines={"MIG-x": 0.9})

    assert values(metrics, "DCGM_FI_PROF_GR_ENGINE_ACTIVE") == {("GPU-b", "3"): 0.9}
    assert values(metrics, "DCGM_FI_DEV_GPU_UTIL") == {}


def test_the_parts_of_one_instance_are_one_series() -> None:
    parts: tuple[GpuSlot, ...] = tuple(
        replace(FIRST, slot=f"1.{part}", uuid=f"MIG-{part}", compute_instance=part)
        for part in (0, 1)
    )
    gpu = replace(GPUS[1], slots=parts)

    metrics = served(
        gpus=(gpu,),
        readings=[a_reading(part, memory_used_bytes=GIB) for part in parts],
        gauges={"GPU-b": ALL},
        engines={"MIG-0": 0.5, "MIG-1": 0.5},
    )

    assert values(metrics, "DCGM_FI_DEV_FB_USED") == {("GPU-b", "3"): 1024}
    assert values(metrics, "DCGM_FI_DEV_GPU_TEMP") == {("GPU-b", "3"): 41}
    assert values(metrics, "DCGM_FI_PROF_GR_ENGINE_ACTIVE") == {("GPU-b", "3"): 0.5}


def test_a_lost_gpu_still_tells_the_xid_it_was_lost_with() -> None:
    lost = replace(GPUS[0], lost="GPU is lost")

    metrics = served(gpus=(lost,), xids={"GPU-a": 79})

    assert values(metrics, "DCGM_FI_DEV_XID_ERRORS") == {("GPU-a", ""): 79}


def test_labels_are_dcgm_exporters() -> None:
    metrics = served(gauges={"GPU-b": ALL})

    labels = [s.labels for m in metrics for s in m.samples if s.name == "DCGM_FI_DEV_GPU_TEMP"]

    assert labels[0] == {
        "gpu": "1",
        "UUID": "GPU-b",
        "pci_bus_id": "00000000:02:00.0",
        "device": "nvidia1",
        "modelName": "NVIDIA A100",
        "Hostname": "host",
        "GPU_I_PROFILE": "1g.10gb",
        "GPU_I_ID": "3",
    }
