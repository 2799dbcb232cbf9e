"""DS01 My Usage: one user's containers and GPUs."""

from typing import Any

from tests.dashboards.model import Query, Row, bars, board, series, stat, table, variable

U = 'user=~"$user"'
OWN = f"max by (instance, container_id, container) (ds01_container_info{{{U}}})"
OF_OWN = "* on (instance, container_id) group_left (container)"


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return board(
        "ds01-my-usage",
        "DS01 My Usage",
        "What one user has on the host, and when which container will be stopped.",
        [*_now(), *_containers(), *_use()],
        [variable("user", "User", "label_values(ds01_container_info, user)", several=False)],
        since="now-24h",
    )


def _now() -> list[Any]:
    return [
        stat(
            "My slots",
            "GPU and MIG slots that my running containers have.",
            f"sum(ds01:user_gpu_slots_allocated{{{U}}})",
            "short",
        ),
        stat(
            "GPUs' worth",
            "The same in whole GPUs: a slice of a GPU counts for its share.",
            f"sum(ds01:user_gpu_equivalents{{{U}}})",
            "short",
            decimals=2,
        ),
        stat(
            "My utilisation",
            "Average over my slots now; below 5 % they count as idle.",
            f"avg(ds01:user_gpu_utilization_avg{{{U}}})",
            "percent",
            most=100,
            thresholds=((None, "orange"), (5, "green")),
        ),
        stat(
            "My GPU memory",
            "Average over my slots now.",
            f"avg(ds01:user_gpu_memory_percent{{{U}}})",
            "percent",
            most=100,
        ),
        stat(
            "GPU-hours",
            "Slots times hours, in the time that is shown.",
            f"sum(sum_over_time(ds01:user_gpu_seconds{{{U}}}[$__range:1m])) / 3600",
            "h",
            decimals=1,
        ),
        stat(
            "GPU-hours at work",
            "The same, each weighted with its utilisation.",
            f"sum(sum_over_time(ds01:user_gpu_seconds_weighted{{{U}}}[$__range:1m])) / 3600",
            "h",
            decimals=1,
        ),
    ]


def _containers() -> list[Any]:
    return [
        Row("My containers"),
        bars(
            "Nearness of the idle stop",
            "At 100 % a container is due to be stopped. Use its GPU, or keep it:"
            " touch /workspace/.keep-alive inside it.",
            Query(
                f"100 * max by (container) (ds01:container_idle_ratio_held{{{U}}})",
                "{{container}}",
            ),
            "percent",
            most=100,
            thresholds=((None, "green"), (80, "orange"), (95, "red")),
        ),
        table(
            "Containers",
            "Idle for so long, may idle for so long, runs for so long, may run for so long.",
            [
                Query(f"ds01:container_idle_seconds {OF_OWN} {OWN}"),
                Query(f"ds01:container_idle_limit_seconds {OF_OWN} {OWN}"),
                Query(
                    "(time() - max by (instance, container_id)"
                    f" (ds01_container_started_time_seconds)) {OF_OWN} {OWN}"
                ),
                Query(
                    "max by (instance, container_id)"
                    f" (ds01_container_max_runtime_seconds) {OF_OWN} {OWN}"
                ),
            ],
            "s",
            columns={
                "container": "Container",
                "Value #A": "Idle for",
                "Value #B": "May idle for",
                "Value #C": "Runs for",
                "Value #D": "May run for",
            },
        ),
    ]


def _use() -> list[Any]:
    return [
        Row("What they use"),
        series(
            "GPU utilisation",
            "Of each of my slots.",
            [Query(f"ds01:user_slot_utilization_percent{{{U}}}", "slot {{gpu_slot}}")],
            "percent",
            most=100,
        ),
        series(
            "Processor",
            "In cores, by container.",
            [
                Query(
                    "max by (instance, container_id)"
                    " (rate(ds01_container_cpu_usage_seconds_total[$__rate_interval]))"
                    f" {OF_OWN} {OWN}",
                    "{{container}}",
                )
            ],
            "short",
        ),
        series(
            "Memory",
            "By container, without what the kernel can drop at once.",
            [
                Query(
                    "max by (instance, container_id) (ds01_container_memory_usage_bytes)"
                    f" {OF_OWN} {OWN}",
                    "{{container}}",
                )
            ],
            "bytes",
        ),
        series(
            "GPU memory by process",
            "Of each process of mine that the driver lists.",
            [
                Query(
                    f"sum by (comm, pid) (ds01_gpu_process_memory_bytes{{{U}}})",
                    "{{comm}} {{pid}}",
                )
            ],
            "bytes",
        ),
    ]
