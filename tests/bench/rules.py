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

from tests.bench.report import Table, load, number
from tests.eventually import eventually
from tests.peers.ports import LOOPBACK
from tests.peers.prometheus import Prometheus
from tests.peers.stage import Stage

SIZES = (8, 64, 512)
_ROOT = Path(__file__).parents[2]
# What the shipped configuration evaluates every 15 s.
_INTERVAL_SECONDS = 15
# A scrape a second for two minutes fills half an hour of windows as full as they are in real life.
_FILLING_SECONDS = 120
_EVALUATING_SECONDS = 5
_EVALUATIONS = 8
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


def bench_rules(stage: Stage) -> list[Table]:
    """Measure at each of `SIZES`."""
    costs = {size: _cost(stage, size) for size in SIZES}
    return [_cost_table(costs), _dearest(costs[SIZES[-1]])]


def _cost(stage: Stage, gpus: int) -> Cost:
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
    time.sleep(_FILLING_SECONDS)
    prometheus.scrape_every(f"{_INTERVAL_SECONDS}s")
    cost = _watch(prometheus)
    prometheus.stop()
    exporters.stop()
    return cost


def _watch(prometheus: Prometheus) -> Cost:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    rules: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(_EVALUATIONS):
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
    answer = requests.get(f"{prometheus.url}/api/v1/rules", timeout=10).json()
    groups: list[dict[str, Any]] = answer["data"]["groups"]
    return groups


def _series(prometheus: Prometheus) -> int:
    answer = requests.get(f"{prometheus.url}/api/v1/status/tsdb", timeout=10).json()
    return int(answer["data"]["headStats"]["numSeries"])


def _cost_table(costs: dict[int, Cost]) -> Table:
    names = list(costs[SIZES[0]].groups)
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


def _dearest(cost: Cost) -> Table:
    dearest = sorted(cost.rules.items(), key=lambda item: item[1], reverse=True)[:_DEAREST]
    return Table(
        f"The dearest rules at {SIZES[-1]} GPUs",
        ("group", "rule", "time", "share of all"),
        [
            (group, rule, number(took), f"{100 * took / cost.total:.0f} %")
            for (group, rule), took in dearest
        ],
    )
