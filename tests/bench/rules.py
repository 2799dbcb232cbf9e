"""What all shipped rules together cost a Prometheus, by the number of GPUs it watches."""

import itertools
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
import yaml

from remediator.backtest.group_offset import phase_of
from remediator.core.durations import parse_duration
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, below, load, number
from tests.eventually import eventually
from tests.peers.ports import LOOPBACK
from tests.peers.process import Daemon
from tests.peers.prometheus import Prometheus
from tests.peers.stage import Stage

SIZES = (8, 64, 512)
_ROOT = Path(__file__).parents[2]
_RULE_FILES = sorted((_ROOT / "alert_rules").glob("*.yml"))
# How often the shipped configuration scrapes, and evaluates what has no interval of its own.
_INTERVAL_SECONDS = 15
# A scrape a second for a minute makes the newest chunks of the store half full, as they are on
# average, and then scrapes at the usual pace make windows of five minutes as full as they are.
_FILLING_SECONDS = 60
_SETTLING_SECONDS = 300
_EVALUATIONS = 6
# Folders that are tried as the place of the rule files.
_PLACES = 2000
# The most that all of them together may take of this interval, in which a group that asks for a
# minute is evaluated half a time.
_WANTED_SECONDS = 30
_WANTED_PERCENT = 2.0
_DEAREST = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of one evaluation of each group and each rule."""

    series: int
    groups: dict[str, float]
    rules: dict[tuple[str, str], float]

    def within(self, seconds: int) -> float:
        """All groups, one after the other, in so many seconds; each once, or less often."""
        asked = own_intervals()
        return sum(
            took * min(1, seconds / asked.get(name, seconds)) for name, took in self.groups.items()
        )


def own_intervals() -> dict[str, float]:
    """Return the seconds between two evaluations of the groups that ask for an interval."""
    groups = [group for path in _RULE_FILES for group in yaml.safe_load(path.read_text())["groups"]]
    return {
        group["name"]: parse_duration(group["interval"]).total_seconds()
        for group in groups
        if "interval" in group
    }


def bench_rules(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure at each of `SIZES`: all are filled at the same time, and watched one by one.

    The largest comes first, so that only smaller ones go on beside the one that is watched.
    """
    sizes = {pace.of(size): size for size in SIZES}
    interval = pace.of(_INTERVAL_SECONDS)
    running = {gpus: _started(stage, gpus, interval) for gpus in sizes}
    time.sleep(_FILLING_SECONDS * pace.share)
    for prometheus, _ in running.values():
        prometheus.scrape_every(f"{interval}s")
    time.sleep(_SETTLING_SECONDS * pace.share)
    watched: dict[int, Cost] = {}
    for gpus, (prometheus, exporters) in reversed(running.items()):
        watched[gpus] = _watch(prometheus, interval, pace.of(_EVALUATIONS))
        prometheus.stop()
        exporters.stop()
    costs = dict(sorted(watched.items()))
    largest = costs[max(costs)]
    verdict = below(
        f"all rules together at {max(costs)} GPUs, share of {_WANTED_SECONDS} s",
        Amount(largest.within(_WANTED_SECONDS) / _WANTED_SECONDS / 10, "%"),
        _WANTED_PERCENT,
        f"{_WANTED_SECONDS} s",
    )
    facts = {f"rules_{gpus}_ms": cost.within(_WANTED_SECONDS) for gpus, cost in costs.items()}
    facts |= {f"series_{gpus}": float(cost.series) for gpus, cost in costs.items()}
    return Result([_cost_table(costs), _dearest(largest, max(costs))], [verdict], facts)


def _started(stage: Stage, gpus: int, interval: int) -> tuple[Prometheus, Daemon]:
    ports = stage.folder / f"ports-{gpus}.json"
    exporters = stage.daemon(
        "synthetic",
        [sys.executable, "-m", "tests.bench.synthetic", str(gpus), str(ports)],
        ready=ports.exists,
        environment={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    targets: dict[str, list[int]] = json.loads(ports.read_text())
    prometheus = stage.prometheus(
        apart(stage.folder, f"rules-{gpus}", interval),
        {job: [f"{LOOPBACK}:{port}" for port in listening] for job, listening in targets.items()},
    )
    count = sum(map(len, targets.values()))
    eventually(lambda: len(prometheus.targets_up()) == count, 60, "all are scraped")
    return prometheus, exporters


def apart(folder: Path, name: str, interval: int) -> list[Path]:
    """Copy the rule files to where Prometheus evaluates the groups as far apart as can be.

    When a group's turn comes in the *interval* (seconds) depends on its name and its file's. Groups
    whose turns come together have each other's time added to their own.
    """
    files = {path.name: yaml.safe_load(path.read_text()) for path in _RULE_FILES}
    groups = [(file, group) for file, read in files.items() for group in read["groups"]]

    def least_gap(place: Path) -> int:
        length = interval * 1000
        turns = sorted(phase_of(str(place / f), group["name"], length) for f, group in groups)
        return min(b - a for a, b in itertools.pairwise([*turns, turns[0] + length]))

    place = max((folder / f"{name}-{number}" for number in range(_PLACES)), key=least_gap)
    place.mkdir()
    for _, group in groups:
        group["interval"] = f"{interval}s"
    for file, read in files.items():
        (place / file).write_text(yaml.safe_dump(read, sort_keys=False))
    return [place / file for file in files]


def _watch(prometheus: Prometheus, interval: int, evaluations: int) -> Cost:
    groups: defaultdict[str, list[float]] = defaultdict(list)
    rules: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(evaluations):
        time.sleep(interval)
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
        (*("GPUs", "series", "once", f"in {_WANTED_SECONDS} s", "share", *names),),
        [
            (
                str(gpus),
                str(cost.series),
                number(sum(cost.groups.values())),
                number(cost.within(_WANTED_SECONDS)),
                f"{cost.within(_WANTED_SECONDS) / _WANTED_SECONDS / 10:.2f} %",
                *(number(cost.groups[name]) for name in names),
            )
            for gpus, cost in costs.items()
        ],
        [
            "Hosts of 8 GPUs, every fourth cut into three MIG devices, a container on each slot,"
            f" some idle and some busy; {load()}.",
            "The times are `evaluationTime` of Prometheus' rules API, groups added up: once; and as"
            f" often as it comes in {_WANTED_SECONDS} s, half a time where it is evaluated every"
            f" minute ({', '.join(sorted(own_intervals()))}), else once.",
        ],
    )


def _dearest(cost: Cost, gpus: int) -> Table:
    total = sum(cost.groups.values())
    dearest = sorted(cost.rules.items(), key=lambda item: item[1], reverse=True)[:_DEAREST]
    return Table(
        f"The dearest rules at {gpus} GPUs",
        ("group", "rule", "time", "share of all"),
        [
            (group, rule, number(took), f"{100 * took / total:.0f} %")
            for (group, rule), took in dearest
        ],
    )
