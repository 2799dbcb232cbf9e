"""What the samples say of containers and exporters, independent of any rule: who was busy when.

The sources are not there any more, so what Docker and NVML would have said is read from what their
exporters have reported. Busy is what the limits of the DS01 exporter call so: a GPU, CPU or network
signal at or above the threshold that it serves for the container.
"""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from remediator.backtest.compiling import compiled
from remediator.backtest.evaluation import Evaluation, moments
from remediator.backtest.matrix import Ints, Pairs
from remediator.backtest.rule_plan import Timing, looks_back
from remediator.backtest.run import Node
from remediator.rules.promql import parse

_UTILIZATION = """(
  max by (UUID, GPU_I_ID) (
      (DCGM_FI_DEV_GPU_UTIL{GPU_I_ID=""} >= 0 <= 100)
    or
      100 * (DCGM_FI_PROF_GR_ENGINE_ACTIVE{GPU_I_ID!=""} >= 0 <= 1)
  )
)"""
_SLOTS = "max by (container_id, UUID, GPU_I_ID) (ds01_container_gpu)"
_USED = f"max by (container_id) ({_SLOTS} * on (UUID, GPU_I_ID) group_left () {_UTILIZATION})"
_NETWORK = " + ".join(
    f"max by (container_id) (rate(ds01_container_network_{way}_bytes_total[5m]))"
    for way in ("receive", "transmit")
)


def _over(signal: str, threshold: str) -> str:
    limit = f"max by (container_id) (ds01_container_{threshold}_threshold)"
    return f"{signal} >= on (container_id) {limit}"


_EXPRESSIONS = {
    "running": "max by (container_id) (ds01_container_running)",
    "started": "max by (container_id) (ds01_container_started_time_seconds)",
    "created": "max by (container_id) (ds01_container_created_time_seconds)",
    "max_runtime": "min by (container_id) (ds01_container_max_runtime_seconds)",
    "keep_alive": "max by (container_id) (ds01_container_keep_alive_until_seconds)",
    "info": "max by (container_id, container, user, exempt) (ds01_container_info)",
    "measured": f"0 * {_USED} + 1",
    "busy": "group by (container_id) ("
    + " or ".join(
        (
            _over(_USED, "gpu_idle_percent"),
            _over(
                "100 * max by (container_id) (rate(ds01_container_cpu_usage_seconds_total[1m]))",
                "cpu_idle_percent",
            ),
            _over(f"300 * ({_NETWORK})", "network_idle_bytes"),
        )
    )
    + ")",
    "slots": """
        max by (instance, container_id, gpu_slot) (
          ds01_container_gpu
          * on (instance, gpu_slot) group_left ()
          max by (instance, gpu_slot) (ds01_gpu_equivalents)
        )
        or
        max by (instance, container_id, gpu_slot) (ds01_container_gpu{GPU_I_ID=""})
    """,
    "up": "max by (instance) (up)",
}


@dataclass(slots=True)
class Course:
    """How one value went on: *values* hold from *times* on, None where there was none."""

    times: list[int] = field(default_factory=list)
    values: list[float | None] = field(default_factory=list)

    def at(self, moment: int) -> float | None:
        """Return the value at *moment*, in milliseconds."""
        place = bisect.bisect_right(self.times, moment) - 1
        return self.values[place] if place >= 0 else None

    def first(self, wanted: Iterable[float | None], begin: int) -> int | None:
        """Return the first moment from *begin* on at which the value is one of *wanted*."""
        values = tuple(wanted)
        if self.at(begin) in values:
            return begin
        place = bisect.bisect_right(self.times, begin)
        found = (
            at
            for at, value in zip(self.times[place:], self.values[place:], strict=True)
            if value in values
        )
        return next(found, None)

    def add(self, at: int, value: float | None) -> None:
        """Go on with *value* from the moment *at* on."""
        if not self.times or self.values[-1] != value:
            self.times.append(at)
            self.values.append(value)


class Facts:
    """The courses of all facts, found by the container or the instance they are about."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._nodes: dict[str, Node] = {
            name: compiled(parse(text)) for name, text in _EXPRESSIONS.items()
        }
        self._rows: dict[str, dict[Pairs, Course]] = {name: {} for name in _EXPRESSIONS}
        self._infos: dict[str, list[tuple[Mapping[str, str], Course]]] = {}

    def keep(self, lookback: int) -> dict[str, int]:
        """Return how many milliseconds of each metric the facts are read from."""
        found: dict[str, int] = {}
        for node in self._nodes.values():
            for metric, length in looks_back(node, lookback).items():
                found[metric] = max(found.get(metric, 0), length)
        return found

    def go_on(self, evaluation: Evaluation, begin: int, end: int) -> None:
        """Take what the samples say from *begin* up to but without *end*."""
        times = moments(self._timing, begin, end)
        for name, node in self._nodes.items():
            found = evaluation.evaluate(node, times)
            rows = self._rows[name]
            for number, row in enumerate(found.labels):
                if row not in rows:
                    self._begin(name, row)
                _follow(rows[row], times, found.values[number], found.present[number])
            for row in rows.keys() - set(found.labels):
                rows[row].add(begin, None)

    def _begin(self, name: str, row: Pairs) -> None:
        course = self._rows[name][row] = Course()
        if name == "info":
            labels = dict(row)
            self._infos.setdefault(labels.get("container_id", ""), []).append((labels, course))

    def value(self, fact: str, key: str, moment: int) -> float | None:
        """Return the value of *fact* for a container or instance at *moment*."""
        return self.course(fact, key).at(moment)

    def course(self, fact: str, key: str) -> Course:
        """Return how *fact* went on for a container or instance."""
        label = "instance" if fact == "up" else "container_id"
        return self._rows[fact].get(((label, key),), Course())

    def info(self, container: str, moment: int) -> Mapping[str, str]:
        """Return the labels of a container at *moment*: name, user, and whether it is exempt."""
        for labels, course in self._infos.get(container, ()):
            if course.at(moment) is not None:
                return labels
        return {}

    def shares(self, container: str, moment: int) -> dict[str, float]:
        """Return how much of a GPU each slot is that a container has to itself at *moment*."""
        held: dict[str, dict[str, float]] = {}
        for labels, share in self._slots(moment):
            slot = f"{labels.get('instance', '')}/{labels.get('gpu_slot', '')}"
            held.setdefault(slot, {})[labels.get("container_id", "")] = share
        return {slot: of[container] for slot, of in held.items() if [*of] == [container]}

    def _slots(self, moment: int) -> Iterator[tuple[dict[str, str], float]]:
        for row, course in self._rows["slots"].items():
            labels = dict(row)
            share = course.at(moment)
            running = self.value("running", labels.get("container_id", ""), moment)
            if share is not None and running == 1:
                yield labels, share


def _follow(course: Course, times: Ints, values: np.ndarray, present: np.ndarray) -> None:
    if not len(times):
        return
    same = (present[1:] == present[:-1]) & (~present[1:] | (values[1:] == values[:-1]))
    for place in (0, *(np.flatnonzero(~same) + 1).tolist()):
        course.add(int(times[place]), float(values[place]) if present[place] else None)
