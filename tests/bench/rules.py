"""What all shipped rules together cost a Prometheus, by the number of GPUs it watches."""

import json
import os
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, below, load, number
from tests.eventually import eventually
from tests.peers.ports import LOOPBACK
from tests.peers.process import Daemon
from tests.peers.prometheus import Prometheus
from tests.peers.stage import Stage

SIZES = (8, 64, 512)
_ROOT = Path(__file__).parents[2]
# What the shipped configuration evaluates every 15 s.
_INTERVAL_SECONDS = 15
# A scrape a second for two minutes fills half an hour of windows as full as they are in real life.
_FILLING_SECONDS = 120
_EVALUATING_SECONDS = 5
_EVALUATIONS = 6
# The most that all of them together may take of this interval.
_WANTED_SECONDS = 30
_WANTED_PERCENT = 2.0
_DEAREST = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of an evaluation of everything, of each group and each rule."""

    series: int
    groups: dict[str, float]
    rules: dict[tuple[str, str], float]

    @property
    def total(self) -> float:
        """All groups one after the other; Prometheus evaluates them side by side."""
        return sum(self.groups.values())


def bench_rules(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure at each of `SIZES`: all are filled at the same time, and watched one by one."""
    sizes = {pace.of(size): size for size in SIZES}
    running = {gpus: _started(stage, gpus) for gpus in sizes}
    time.sleep(_FILLING_SECONDS * pace.share)
    costs: dict[int, Cost] = {}
    for prometheus, _ in running.values():
        prometheus.scrape_every("1h")
    for gpus, (prometheus, exporters) in running.items():
        prometheus.scrape_every(f"{_INTERVAL_SECONDS}s")
        costs[gpus] = _watch(prometheus, max(1, round(_EVALUATIONS * pace.share)))
        prometheus.stop()
        exporters.stop()
    largest = costs[max(costs)]
    verdict = below(
        f"all rules together at {max(costs)} GPUs, share of {_WANTED_SECONDS} s",
        Amount(largest.total / _WANTED_SECONDS / 10, "%"),
        _WANTED_PERCENT,
        f"{_WANTED_SECONDS} s",
    )
    facts = {f"rules_{gpus}_ms": cost.total for gpus, cost in costs.items()}
    facts |= {f"series_{gpus}": float(cost.series) for gpus, cost in costs.items()}
    return Result([_cost_table(costs), _dearest(largest, max(costs))], [verdict], facts)


def _started(stage: Stage, gpus: int) -> tuple[Prometheus, Daemon]:
    ports = stage.folder / f"ports-{gpus}.json"
    exporters = stage.daemon(
        "synthetic",
        [sys.executable, "-m", "tests.bench.synthetic", str(gpus), str(ports)],
        ready=ports.exists,
        environment={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    targets: dict[str, list[int]] = json.loads(ports.read_text())
    prometheus = stage.prometheus(
        sorted((_ROOT / "alert_rules").glob("*.yml")),
        {job: [f"{LOOPBACK}:{port}" for port in listening] for job, listening in targets.items()},
        rule_interval=f"{_EVALUATING_SECONDS}s",
    )
    count = sum(map(len, targets.values()))
    eventually(lambda: len(prometheus.targets_up()) == count, 60, "all are scraped")
    return prometheus, exporters


def _watch(prometheus: Prometheus, evaluations: int) -> Cost:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    rules: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(evaluations):
        time.sleep(_EVALUATING_SECONDS)
        for group in _groups(prometheus):
            groups[group["name"]].append(group["evaluationTime"] * 1000)
            for rule in group["rules"]:
                rules[group["name"], rule["name"]].append(rule["evaluationTime"] * 1000)
    return Cost(
        series=_series(prometheus),
        groups={name: statistics.median(times) for name, times in groups.items()},
        rules={name: statistics.median(times) for name, times in rules.items()},
    )


def _groups(prometheus: Prometheus) -> list[dict[str, Any]]:
    answer = requests.get(f"{prometheus.url}/api/v1/rules", timeout=60).json()
    groups: list[dict[str, Any]] = answer["data"]["groups"]
    return groups


def _series(prometheus: Prometheus) -> int:
    answer = requests.get(f"{prometheus.url}/api/v1/status/tsdb", timeout=60).json()
    return int(answer["data"]["headStats"]["numSeries"])


def _cost_table(costs: dict[int, Cost]) -> Table:
    names = list(costs[min(costs)].groups)
    return Table(
        "Rules: all files of alert_rules/ in one Prometheus",
        ("GPUs", "series", "all groups", f"share of {_INTERVAL_SECONDS} s", *names),
        [
            (
                str(gpus),
                str(cost.series),
                number(cost.total),
                f"{cost.total / _INTERVAL_SECONDS / 10:.2f} %",
                *(number(cost.groups[name]) for name in names),
            )
            for gpus, cost in costs.items()
        ],
        [
            "Hosts of 8 GPUs, every fourth cut into three MIG devices, a container on each slot,"
            f" some idle and some busy; {load()}.",
            "The times are `evaluationTime` of Prometheus' rules API, groups added up.",
        ],
    )


def _dearest(cost: Cost, gpus: int) -> Table:
    dearest = sorted(cost.rules.items(), key=lambda item: item[1], reverse=True)[:_DEAREST]
    return Table(
        f"The dearest rules at {gpus} GPUs",
        ("group", "rule", "time", "share of all"),
        [
            (group, rule, number(took), f"{100 * took / cost.total:.0f} %")
            for (group, rule), took in dearest
        ],
    )
