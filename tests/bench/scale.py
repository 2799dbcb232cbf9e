"""The cost of a host and of a fleet, from the measured constants: ``python -m tests.bench.scale``.

The model is explained in SCALE.md beside this, which holds the table that this prints.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.report import facts, number

GPUS_PER_HOST = 8
FLEETS = (8, 64, 512, 2_000, 10_000)
# What a busy host is like: all of it is too much rather than too little.
FIRINGS_PER_GPU_PER_DAY = 6
# The first, an hourly reminder of one that lasts two hours, and its end.
DELIVERIES_PER_FIRING = 4
# The heartbeat comes every five minutes.
HEARTBEATS_PER_DAY = 288
DELIVERIES_KEPT_DAYS = 14
INCIDENTS_KEPT_DAYS = 400
EVALUATION_SECONDS = 30
PAGE = Path(__file__).with_name("SCALE.md")
_BEGIN, _END = "<!-- tables -->\n", "<!-- /tables -->"
_DAY_SECONDS = 86_400
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Host:
    """One host of `GPUS_PER_HOST` GPUs with its own three programs."""

    deliveries_per_day: float
    incidents_per_day: float
    inbox_mib: float
    journal_mib: float
    memory_mib: float
    busy_percent: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many GPUs, watched by one Prometheus, or by as many as it takes."""

    gpus: int
    hosts: int
    deliveries_per_second: float
    rows_kept: float
    memory_gib: float
    series: float
    rules_ms: float
    rules_percent: float
    storm_host_seconds: float
    storm_one_seconds: float


def host(measured: Mapping[str, float]) -> Host:
    """Return what a host costs."""
    firings = GPUS_PER_HOST * FIRINGS_PER_GPU_PER_DAY
    deliveries = firings * DELIVERIES_PER_FIRING + HEARTBEATS_PER_DAY
    busy = deliveries * measured["intake_1_cpu_ms"] / 1000 + deliveries / measured["decided_per_s"]
    return Host(
        deliveries_per_day=deliveries,
        incidents_per_day=firings,
        inbox_mib=deliveries * DELIVERIES_KEPT_DAYS * measured["delivery_row_bytes"] / _MIB,
        journal_mib=firings * INCIDENTS_KEPT_DAYS * measured["incident_rows_bytes"] / _MIB,
        memory_mib=sum(measured[f"memory_{one}_mib"] for one in ("receiver", "worker", "exporter")),
        busy_percent=100 * busy / _DAY_SECONDS,
    )


def fleet(measured: Mapping[str, float], gpus: int) -> Fleet:
    """Return what a fleet of *gpus* costs."""
    one, hosts = host(measured), -(-gpus // GPUS_PER_HOST)
    rules_ms = interpolated(measured, "rules_{}_ms", gpus)
    kept = (
        one.deliveries_per_day * DELIVERIES_KEPT_DAYS + one.incidents_per_day * INCIDENTS_KEPT_DAYS
    )
    return Fleet(
        gpus=gpus,
        hosts=hosts,
        deliveries_per_second=hosts * one.deliveries_per_day / _DAY_SECONDS,
        rows_kept=hosts * kept,
        memory_gib=hosts * one.memory_mib / 1024,
        series=interpolated(measured, "series_{}", gpus),
        rules_ms=rules_ms,
        rules_percent=rules_ms / EVALUATION_SECONDS / 10,
        storm_host_seconds=storm_seconds(measured, min(gpus, GPUS_PER_HOST)),
        storm_one_seconds=storm_seconds(measured, gpus),
    )


def storm_seconds(measured: Mapping[str, float], alerts: float) -> float:
    """Return how long it takes until each of *alerts*, all at once, is decided about."""
    return alerts / measured["intake_1_per_s"] + alerts / measured["decided_per_s"]


def interpolated(measured: Mapping[str, float], name: str, gpus: int) -> float:
    """Return a measured number at *gpus*: on the line between, or through, the nearest two."""
    sizes = sorted(size for size in FLEETS if name.format(size) in measured)
    upper = next((size for size in sizes[1:] if size >= gpus), sizes[-1])
    lower = sizes[sizes.index(upper) - 1]
    low, high = measured[name.format(lower)], measured[name.format(upper)]
    return low + (high - low) * (gpus - lower) / (upper - lower)


def tables(measured: Mapping[str, float]) -> str:
    """Return both tables as they stand in SCALE.md."""
    return f"{_host_table(host(measured))}\n{_fleet_table(measured)}"


def page(text: str) -> str:
    """Return SCALE.md's *text* with the tables of what was measured last."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{tables(facts())}{_END}{after}"


def _host_table(one: Host) -> str:
    rows = [
        ("deliveries a day", one.deliveries_per_day),
        ("incidents a day", one.incidents_per_day),
        (f"inbox after {DELIVERIES_KEPT_DAYS} days (MiB)", one.inbox_mib),
        (f"journal after {INCIDENTS_KEPT_DAYS} days (MiB)", one.journal_mib),
        ("memory of receiver, worker and exporter, idle (MiB)", one.memory_mib),
        ("receiver and worker busy with deliveries (% of a core)", one.busy_percent),
    ]
    lines = [f"| one host of {GPUS_PER_HOST} GPUs | |", "| --- | --- |"]
    lines += [f"| {name} | {number(value)} |" for name, value in rows]
    return "\n".join(lines) + "\n"


def _fleet_table(measured: Mapping[str, float]) -> str:
    head = (
        *("GPUs", "hosts", "deliveries/s", "rows kept (millions)", "memory (GiB)", "series"),
        *("rules, one Prometheus (ms)", f"of {EVALUATION_SECONDS} s", "storm, own worker (s)"),
        "storm, one worker for all (s)",
    )
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for gpus in FLEETS:
        one = fleet(measured, gpus)
        cells = (
            f"{one.gpus:,}",
            f"{one.hosts:,}",
            number(one.deliveries_per_second),
            number(one.rows_kept / 1e6),
            number(one.memory_gib),
            f"{one.series:,.0f}",
            number(one.rules_ms),
            f"{one.rules_percent:.1f} %",
            number(one.storm_host_seconds),
            number(one.storm_one_seconds),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(tables(facts()))
