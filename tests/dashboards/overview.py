"""DS01 Overview: the whole machine, for everybody."""

from typing import Any

from tests.dashboards.model import (
    Query,
    Row,
    bars,
    board,
    series,
    stat,
    table,
    variable,
)

H = 'instance=~"$host"'
WARM = ((None, "green"), (80, "orange"), (90, "red"))


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return board(
        "ds01-overview",
        "DS01 Overview",
        "Who has the GPUs of the host, what they do with them, and whether it is well.",
        [*_now(), *_gpus(), *_people(), *_containers(), *_host()],
        [variable("host", "Host", "label_values(ds01_exporter_info, instance)")],
    )


def _now() -> list[Any]:
    return [
        stat(
            "Slots taken",
            "GPU and MIG slots that running containers have; one that several share counts once.",
            f"sum(ds01:system_gpu_slots_allocated{{{H}}})",
            "short",
        ),
        stat(
            "GPUs free",
            "What can still be given to somebody, in GPUs' worth of compute.",
            f"sum(ds01:system_gpu_equivalents_free{{{H}}})",
            "short",
            decimals=1,
        ),
        stat(
            "Utilisation",
            "Average over all slots, taken or not.",
            f"avg(ds01:system_gpu_utilization_avg{{{H}}})",
            "percent",
            most=100,
            decimals=0,
        ),
        stat(
            "Slots wasted",
            "Slots that somebody has and that are below 5 %.",
            f"sum(ds01:gpu_waste_count{{{H}}})",
            "short",
            thresholds=((None, "green"), (1, "orange")),
        ),
        stat(
            "People with a GPU",
            "Users with a running container on a GPU.",
            f"sum(ds01:system_active_users{{{H}}})",
            "short",
        ),
        stat(
            "Alerts",
            "Alerts that fire now, but for the one that always does.",
            'count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)',
            "short",
            thresholds=((None, "green"), (1, "orange")),
        ),
    ]


def _gpus() -> list[Any]:
    return [
        Row("GPUs"),
        series(
            "Utilisation by slot",
            "Of each whole GPU and MIG instance.",
            [Query(f"ds01:gpu_utilization_by_slot{{{H}}}", "{{device}}")],
            "percent",
            most=100,
        ),
        series(
            "Memory in use",
            "Of each slot's own memory.",
            [Query(f"ds01:device_memory_percent{{{H}}}", "{{device}}")],
            "percent",
            most=100,
        ),
        series(
            "Slots taken and free",
            "A slot is a whole GPU or a MIG instance.",
            [
                Query(f"sum(ds01:system_gpu_slots_allocated{{{H}}})", "taken"),
                Query(f"sum(ds01:system_gpu_slots_free{{{H}}})", "free"),
            ],
            "short",
            width=8,
            stacked=True,
        ),
        series(
            "Temperature",
            "Of each physical GPU.",
            [Query(f"ds01:device_temperature{{{H}}}", "{{device}}")],
            "celsius",
            width=8,
        ),
        series(
            "Power",
            "Of each physical GPU.",
            [Query(f"ds01:device_power_watts{{{H}}}", "{{device}}")],
            "watt",
            width=8,
            stacked=True,
        ),
    ]


def _people() -> list[Any]:
    return [
        Row("People"),
        table(
            "Who has what",
            "Slots, their share of whole GPUs, and what is made of them, by user.",
            [
                Query(f"sum by (user) (ds01:user_gpu_slots_allocated{{{H}}})"),
                Query(f"sum by (user) (ds01:user_gpu_equivalents{{{H}}})"),
                Query(f"avg by (user) (ds01:user_gpu_utilization_avg{{{H}}})"),
                Query(f"avg by (user) (ds01:user_gpu_memory_percent{{{H}}})"),
            ],
            "short",
            columns={
                "user": "User",
                "Value #A": "Slots",
                "Value #B": "GPUs",
                "Value #C": "Utilisation",
                "Value #D": "GPU memory",
            },
            overrides={"Utilisation": "percent", "GPU memory": "percent"},
        ),
        bars(
            "GPU-hours",
            "Slots that a user had, in the time that is shown, times the hours.",
            Query(
                f"sum by (user) (sum_over_time(ds01:user_gpu_seconds{{{H}}}[$__range:1m])) / 3600",
                "{{user}}",
            ),
            "h",
            decimals=1,
        ),
    ]


def _containers() -> list[Any]:
    owned = "* on (instance, container_id) group_left (container, user)"
    info = f"max by (instance, container_id, container, user) (ds01_container_info{{{H}}})"
    return [
        Row("Containers with a GPU"),
        table(
            "Containers",
            "How long each has been idle, how long it may be, and how far that is on its way to"
            " the idle stop: at 100 % it is due.",
            [
                Query(f"ds01:container_idle_seconds {owned} {info}"),
                Query(f"ds01:container_idle_limit_seconds {owned} {info}"),
                Query(
                    "100 * max by (instance, container_id, container, user)"
                    f" (ds01:container_idle_ratio_held{{{H}}})"
                ),
                Query(
                    "(time() - max by (instance, container_id)"
                    f" (ds01_container_started_time_seconds)) {owned} {info}"
                ),
            ],
            "s",
            width=24,
            columns={
                "container": "Container",
                "user": "User",
                "Value #A": "Idle for",
                "Value #B": "May idle for",
                "Value #C": "Nearness of the stop",
                "Value #D": "Runs for",
            },
            overrides={"Nearness of the stop": "percent"},
        ),
        bars(
            "What became of containers",
            "DS01's events of containers' lives in the last 24 hours.",
            Query(f"sum by (action) (ds01_lifecycle_events_total{{{H}}})", "{{action}}"),
            "short",
            width=8,
        ),
        stat(
            "Containers running",
            "All but infrastructure, with and without GPUs.",
            f"sum(ds01:system_containers_running{{{H}}})",
            "short",
            width=4,
            height=8,
        ),
        stat(
            "Made outside DS01",
            "Containers with a GPU that DS01 did not make.",
            f"sum(ds01:unmanaged_gpu_containers{{{H}}})",
            "short",
            width=4,
            height=8,
            thresholds=((None, "green"), (1, "orange")),
        ),
        table(
            "Alerts that fire",
            "Each of them; Watchdog always fires and proves that alerting works.",
            [Query('ALERTS{alertstate="firing"}')],
            "none",
            width=8,
            columns={"alertname": "Alert", "severity": "Severity", "instance": "Where"},
        ),
    ]


def _host() -> list[Any]:
    return [
        Row("The host"),
        series(
            "Processor",
            "Share of all cores that is not idle.",
            [
                Query(
                    "100 * (1 - avg by (instance)"
                    ' (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval])))',
                    "{{instance}}",
                )
            ],
            "percent",
            width=8,
            most=100,
        ),
        series(
            "Memory",
            "Share that is not available to programs.",
            [
                Query(
                    "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
                    "{{instance}}",
                )
            ],
            "percent",
            width=8,
            most=100,
        ),
        bars(
            "Disks in use",
            "By mount point; what is reserved for root counts as in use.",
            Query(
                "100 * (1 - max by (instance, mountpoint)"
                ' (node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs"}'
                ' / node_filesystem_size_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs"}))',
                "{{instance}} {{mountpoint}}",
            ),
            "percent",
            width=8,
            most=100,
            thresholds=WARM,
        ),
        bars(
            "What Prometheus asks",
            "1 where the last scrape was answered.",
            Query("min by (job) (up)", "{{job}}"),
            "none",
            width=12,
            most=1,
            thresholds=((None, "red"), (1, "green")),
            words={0: ("down", "red"), 1: ("up", "green")},
        ),
        bars(
            "Collectors of the DS01 exporter",
            "1 where a collector could tell everything it is about.",
            Query(f"min by (collector) (ds01_collector_success{{{H}}})", "{{collector}}"),
            "none",
            width=12,
            most=1,
            thresholds=((None, "red"), (1, "green")),
            words={0: ("failing", "red"), 1: ("well", "green")},
        ),
    ]
