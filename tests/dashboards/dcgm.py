"""NVIDIA DCGM GPU Metrics: the GPUs by themselves, from dcgm-exporter or `--gpu-metrics`."""

from typing import Any

from tests.dashboards.model import Panel, Query, Row, board, series, stat, variable

G = 'instance=~"$host", gpu=~"$gpu"'
# The same GPU of a whole and of its slices, and of exporters that disagree about the host's label.
NAME = "GPU {{gpu}} {{GPU_I_ID}}"


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return board(
        "nvidia-dcgm",
        "NVIDIA DCGM GPU Metrics",
        "Temperature, power, clocks, memory and faults of each GPU, as DCGM tells them.",
        [*_now(), *_work(), *_body(), *_faults()],
        [
            variable("host", "Exporter", "label_values(DCGM_FI_DEV_GPU_TEMP, instance)"),
            variable("gpu", "GPU", 'label_values(DCGM_FI_DEV_GPU_TEMP{instance=~"$host"}, gpu)'),
        ],
    )


def _of_each(family: str, limit: str = "") -> Query:
    return Query(f"max by (gpu, GPU_I_ID) ({family}{{{G}}}{limit})", NAME)


def _lines(title: str, about: str, family: str, unit: str, limit: str = "", **more: Any) -> Panel:
    # What DCGM does not know is a number around 2e9 or 9e18.
    return series(title, about, [_of_each(family, limit)], unit, **more)


def _now() -> list[Any]:
    return [
        stat(
            "GPUs",
            "GPUs that are told of.",
            f"count(group by (UUID) (DCGM_FI_DEV_GPU_TEMP{{{G}}}))",
            "short",
            width=6,
        ),
        stat(
            "Hottest",
            "The highest temperature of all GPUs.",
            f"max(DCGM_FI_DEV_GPU_TEMP{{{G}}} < 200)",
            "celsius",
            width=6,
            thresholds=((None, "green"), (80, "orange"), (90, "red")),
        ),
        stat(
            "Power",
            "Of all GPUs together.",
            f"sum(max by (UUID) (DCGM_FI_DEV_POWER_USAGE{{{G}}} < 1e4))",
            "watt",
            width=6,
        ),
        stat(
            "Energy",
            "Used by all GPUs in the time that is shown.",
            "sum(max by (UUID)"
            f" (increase(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{G}}}[$__range]))) / 1000",
            "joule",
            width=6,
        ),
    ]


def _work() -> list[Any]:
    return [
        Row("Work"),
        _lines("Utilisation", "Time in which something ran on it.", "DCGM_FI_DEV_GPU_UTIL",
               "percent", " <= 100", most=100),
        _lines("Graphics engine", "Share of time in which the engine was active; the only measure"
               " of a MIG instance.", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", "percentunit", " <= 1",
               most=1),
        _lines("Memory used", "Framebuffer memory.", "DCGM_FI_DEV_FB_USED", "mbytes", " < 1e7"),
        _lines("Memory free", "Framebuffer memory.", "DCGM_FI_DEV_FB_FREE", "mbytes", " < 1e7"),
    ]  # fmt: skip


def _body() -> list[Any]:
    return [
        Row("Heat, power and clocks"),
        _lines("Temperature", "Of the GPU itself.", "DCGM_FI_DEV_GPU_TEMP", "celsius", " < 200"),
        _lines("Temperature of the memory", "Where the GPU has a sensor there.",
               "DCGM_FI_DEV_MEMORY_TEMP", "celsius", " < 200"),
        _lines("Power", "Drawn now.", "DCGM_FI_DEV_POWER_USAGE", "watt", " < 1e4"),
        series(
            "Power by the energy counter",
            "Averaged over each interval, so that no peak falls between two looks.",
            [
                Query(
                    "max by (gpu) (rate(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
                    f"{{{G}}}[$__rate_interval])) / 1000",
                    "GPU {{gpu}}",
                )
            ],
            "watt",
        ),
        _lines("Clock of the SMs", "Lower under load than usual means that it is throttled.",
               "DCGM_FI_DEV_SM_CLOCK", "rotmhz", " < 1e5"),
        _lines("Clock of the memory", "Of the GPU's own memory.", "DCGM_FI_DEV_MEM_CLOCK",
               "rotmhz", " < 1e5"),
    ]  # fmt: skip


def _faults() -> list[Any]:
    return [
        Row("Faults"),
        _lines("Last XID", "The code of the last error, 0 for none; it stays until the exporter is"
               " started anew.", "DCGM_FI_DEV_XID_ERRORS", "none", " < 1000", width=8),
        _lines("Double-bit ECC errors", "Since the driver was loaded.",
               "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "short", " < 1e9", width=8),
        series(
            "Remapped rows",
            "Rows of memory that were replaced by spare ones.",
            [
                Query(
                    f"max by (gpu) (DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{{{G}}} < 1e9)",
                    "GPU {{gpu}} uncorrectable",
                ),
                Query(
                    f"max by (gpu) (DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS{{{G}}} < 1e9)",
                    "GPU {{gpu}} correctable",
                ),
            ],
            "short",
            width=8,
        ),
    ]  # fmt: skip
