"""Aggregations: one series of many, at each moment.

Source: promql/engine.go of Prometheus 2.42, `aggregation`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from remediator.backtest.joining import flat
from remediator.backtest.matrix import (
    NAME,
    Bools,
    Floats,
    LabelSets,
    Matrix,
    Merger,
    Pairs,
    nothing,
    pairs_of,
)
from remediator.backtest.run import Node, Run
from remediator.backtest.store import Cells

_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which labels make a group: these, or all but them."""

    labels: frozenset[str] = frozenset()
    is_without: bool = False

    def of(self, row: Pairs) -> Pairs:
        """Return the labels of the group of *row*."""
        if self.is_without:
            return tuple(pair for pair in row if pair[0] not in self.labels and pair[0] != NAME)
        return tuple(pair for pair in row if pair[0] in self.labels)


@dataclass(slots=True)
class _Groups:
    order: Cells
    starts: Cells
    labels: LabelSets


def _maximum(values: Floats, present: Bools, starts: Cells) -> Floats:
    return np.fmax.reduceat(np.where(present, values, np.nan), starts, axis=0)


def _minimum(values: Floats, present: Bools, starts: Cells) -> Floats:
    return np.fmin.reduceat(np.where(present, values, np.nan), starts, axis=0)


def _sum(values: Floats, present: Bools, starts: Cells) -> Floats:
    return np.add.reduceat(np.where(present, values, 0.0), starts, axis=0)


def _count(values: Floats, present: Bools, starts: Cells) -> Floats:
    del values
    return np.add.reduceat(present.astype(np.float64), starts, axis=0)


def _average(values: Floats, present: Bools, starts: Cells) -> Floats:
    counts = _count(values, present, starts)
    return _sum(values, present, starts) / np.maximum(counts, 1)


def _one(values: Floats, present: Bools, starts: Cells) -> Floats:
    return np.ones((len(starts), values.shape[1]))


REDUCTIONS: dict[str, Callable[[Floats, Bools, Cells], Floats]] = {
    "avg": _average,
    "count": _count,
    "group": _one,
    "max": _maximum,
    "min": _minimum,
    "sum": _sum,
}


@dataclass(frozen=True, eq=False, slots=True)
class Aggregation:
    """One of `REDUCTIONS` over each group."""

    operation: str
    expr: Node
    grouping: Grouping

    def over(self, run: Run) -> Matrix:
        """Return one series for each group that has any."""
        found = run.matrix(self.expr)
        if not len(found.labels):
            return nothing(len(run.times))
        plan = run.planned(self, (found.labels,), lambda: _groups(self.grouping, found.labels))
        present = found.present[plan.order]
        values = REDUCTIONS[self.operation](found.values[plan.order], present, plan.starts)
        return Matrix(plan.labels, values, np.logical_or.reduceat(present, plan.starts, axis=0))

    def parts(self) -> tuple[Node, ...]:
        """Return what it aggregates."""
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True)
class Ranking:
    """``topk`` or ``bottomk``: the *count* first of each group, with all their labels."""

    is_top: bool
    count: Node
    expr: Node
    grouping: Grouping

    def over(self, run: Run) -> Matrix:
        """Return the same series, where they are among the first."""
        found = run.matrix(self.expr)
        counts = run.scalar(self.count).values
        plan = run.planned(self, (found.labels,), lambda: _groups(self.grouping, found.labels))
        kept = np.broadcast_to(counts >= 1, found.present.shape).copy()
        if not len(plan.starts):
            return found
        there = np.add.reduceat(found.present[plan.order], plan.starts, axis=0, dtype=np.int64)
        crowded = (there > np.maximum(counts, 1)).any(axis=1)
        ends = np.append(plan.starts[1:], len(plan.order))
        for start, end in zip(plan.starts[crowded], ends[crowded], strict=True):
            rows = plan.order[start:end]
            kept[rows] = self._ranks(found.values[rows], found.present[rows]) < counts
        return Matrix(found.labels, found.values, found.present & kept)

    def parts(self) -> tuple[Node, ...]:
        """Return its parameter, and what it ranks."""
        return (self.count, self.expr)

    def _ranks(self, values: Floats, present: Bools) -> Cells:
        # NaN comes last either way; of equals the first in the order of the labels is taken.
        worst = np.where(np.isnan(values), np.inf, -values if self.is_top else values)
        order = np.lexsort((worst, ~present), axis=0)
        return np.argsort(order, axis=0, kind="stable")


@dataclass(frozen=True, eq=False, slots=True)
class CountValues:
    """``count_values``: how many series of each group have each value, which becomes a label."""

    label: str
    expr: Node
    grouping: Grouping

    def over(self, run: Run) -> Matrix:
        """Return one series for each group and value."""
        found = run.matrix(self.expr)
        rows: list[Pairs] = []
        counts: list[Floats] = []
        for number, row in enumerate(found.labels):
            here = found.present[number]
            for value in np.unique(found.values[number, here]):
                group = dict(self.grouping.of(row))
                rows.append(pairs_of({**group, self.label: go_number(float(value))}))
                same = here & _equal(found.values[number], float(value))
                counts.append(same.astype(np.float64))
        if not rows:
            return nothing(len(run.times))
        merger = Merger.of(rows)
        total = np.stack(counts)[merger.first]
        for extra, places in merger.further:
            total[places] += np.stack(counts)[extra]
        return Matrix(merger.labels, total, total > 0)

    def parts(self) -> tuple[Node, ...]:
        """Return what it counts."""
        return (self.expr,)


def _equal(values: Floats, value: float) -> Bools:
    return np.isnan(values) if math.isnan(value) else values == value


def go_number(value: float) -> str:
    """Return *value* as Go writes it with the shortest digits and no exponent."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 10**_DIGITS:
        return str(int(value))
    return np.format_float_positional(value, trim="-")


def _groups(grouping: Grouping, labels: LabelSets) -> _Groups:
    groups: dict[Pairs, list[int]] = {}
    for number, row in enumerate(labels):
        groups.setdefault(grouping.of(row), []).append(number)
    order, starts = flat(list(groups.values()))
    return _Groups(order, starts, LabelSets(groups))
