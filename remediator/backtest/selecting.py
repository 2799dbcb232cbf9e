"""Selectors: what Prometheus sees of a series at a moment, and in a window before it.

Source: promql/engine.go of Prometheus 2.42, `vectorSelectorSingle` and `matrixIterSlice`: at a
moment the last sample counts unless it is older than the lookback or a staleness marker; windows
hold samples only, both ends included. (Prometheus 3 leaves out the beginning of either.)
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from remediator.backtest.matrix import (
    NAME,
    Bools,
    Floats,
    Ints,
    LabelSets,
    Matrix,
    Merger,
    Pairs,
    nothing,
    without_name,
)
from remediator.backtest.run import Node, Run
from remediator.backtest.store import SAMPLE, STALE, Block, Cells, Recorded
from remediator.backtest.windows import Window, WindowFunction


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """One condition on a label; a label that is missing is empty."""

    name: str
    accepts: Callable[[str], bool]
    text: str

    @staticmethod
    def of(name: str, operation: str, value: str) -> "LabelMatcher":
        """Return the matcher for one of ``= != =~ !~``; re.error if the pattern is none."""
        text = f"{name}{operation}{_quoted(value)}"
        if operation == "=":
            return LabelMatcher(name, lambda found: found == value, text)
        if operation == "!=":
            return LabelMatcher(name, lambda found: found != value, text)
        pattern = re.compile(f"(?:{value})", re.DOTALL)
        if operation == "=~":
            return LabelMatcher(name, lambda found: pattern.fullmatch(found) is not None, text)
        return LabelMatcher(name, lambda found: pattern.fullmatch(found) is None, text)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True, eq=False, slots=True)
class Selector:
    """The series of a metric that meet all matchers, seen *offset* milliseconds earlier."""

    metric: str
    matchers: tuple[LabelMatcher, ...]
    offset: int = 0

    def over(self, run: Run) -> Matrix:
        """Return the value of each series at each moment."""
        return self._seen(run, lambda block, rows, cells: block.values[rows, cells])

    def stamps(self, run: Run) -> Matrix:
        """Return when each value was sampled, in seconds, without the name of the metric."""
        found = self._seen(run, lambda block, _, cells: block.times[cells] / 1000)
        merger = run.planned(
            self, (found.labels,), lambda: Merger.of(map(without_name, found.labels))
        )
        return merger.merge(found.values, found.present, run.failed)

    def parts(self) -> tuple[Node, ...]:
        """Return nothing: it is not made of parts."""
        return ()

    def blocks(self, run: Run) -> "Iterator[tuple[_Seen, Cells]]":
        """Yield the blocks of the metric, and which rows of each are selected."""
        scraped = run.store.scraped.get(self.metric)
        for block in scraped.blocks if scraped else ():
            yield _Seen(block, "right"), self._rows(run, block.labels)
        for position, recorded in run.store.recorded.get(self.metric, {}).items():
            side = "right" if position < run.reader else "left"
            live = recorded if recorded.is_live else None
            yield _Seen(recorded.block, side, live), self._rows(run, recorded.block.labels)

    def _seen(self, run: Run, what: Callable[[Block, Cells, Cells], Floats]) -> Matrix:
        at = run.times - self.offset
        parts: list[tuple[Floats, Bools, LabelSets, Cells]] = []
        for seen, rows in self.blocks(run):
            if len(rows):
                cells, present = seen.newest(rows, at, run)
                shape = (len(rows), len(at))
                values = np.broadcast_to(what(seen.block, rows[:, None], cells), shape)
                parts.append((values, np.broadcast_to(present, shape), seen.block.labels, rows))
        return _stacked(self, run, parts)

    def _rows(self, run: Run, labels: LabelSets) -> Cells:
        return run.planned(self, (labels,), lambda: self._matching(labels))

    def _matching(self, labels: LabelSets) -> Cells:
        found = [number for number, row in enumerate(labels) if self._accepts(row)]
        return np.array(found, np.int64)

    def _accepts(self, row: Pairs) -> bool:
        labels = dict(row)
        return all(matcher.accepts(labels.get(matcher.name, "")) for matcher in self.matchers)


@dataclass(slots=True)
class _Seen:
    """A block as one reader sees it: whether with what is written at the very moment."""

    block: Block
    side: str
    live: Recorded | None = None

    def newest(self, rows: Cells, at: Ints, run: Run) -> tuple[Cells, Bools]:
        """Return the cell that counts for each row at each moment, and whether one does."""
        block, store = self.block, run.store
        if not len(block.times):
            return np.zeros((1, 1), np.int64), np.zeros((1, 1), np.bool_)
        if self._is_now(at, run):
            cells = self.live.newest[rows][:, None] if self.live else rows
        elif block.kinds is None and self.live is None:
            cells = (np.searchsorted(block.times, at, self.side) - 1)[None, :]  # type: ignore[call-overload]
        else:
            position = np.searchsorted(block.times, at, self.side) - 1  # type: ignore[call-overload]
            last = self._settled().last_any()
            cells = np.where(position >= 0, last[rows[:, None], np.maximum(position, 0)], -1)
        known = cells >= 0
        cells = np.maximum(cells, 0)
        age = at - block.times[cells]
        present = known & (age < store.lookback if store.left_open else age <= store.lookback)
        if block.kinds is not None:
            present = present & (block.kinds[rows[:, None], cells] != STALE)
        return cells, present

    def window(self, rows: Cells, at: Ints, length: int, run: Run) -> Window:
        """Return which samples of the rows lie in the windows that end *at* the moments."""
        if self._is_now(at, run) and self.live:
            return Window.of_now(self.block, rows, at, length, self.live.newest_sample[rows])
        block = self._settled()
        begin = "right" if run.store.left_open else "left"
        low = np.searchsorted(block.times, at - length, begin)  # type: ignore[call-overload]
        high = np.searchsorted(block.times, at, self.side)  # type: ignore[call-overload]
        return Window(block, rows, at, length, low, np.maximum(high, low))

    def _is_now(self, at: Ints, run: Run) -> bool:
        return self.live is not None and len(at) == 1 and bool(at[0] == run.times[0])

    def _settled(self) -> Block:
        if self.live is None:
            return self.block
        # It is still being written, so nothing of what was worked out of it may be kept.
        return Block(self.block.labels, self.block.times, self.block.values, self.block.kinds)


@dataclass(frozen=True, eq=False, slots=True)
class RangeOfSelector:
    """The samples of a selector in a window of *length* milliseconds before each moment."""

    selector: Selector
    length: int

    def apply(self, function: WindowFunction, node: Node, run: Run) -> Matrix:
        """Return what *function* makes of each window."""
        at = run.times - self.selector.offset if self.selector.offset else run.times
        parts: list[tuple[Floats, Bools, LabelSets, Cells]] = []
        for seen, rows in self.selector.blocks(run):
            if len(rows) and len(seen.block.times):
                values, present = function(seen.window(rows, at, self.length, run))
                parts.append((values, present, seen.block.labels, rows))
        return _stacked(node, run, parts)

    def parts(self) -> tuple[Node, ...]:
        """Return what it is made of."""
        return (self.selector,)


@dataclass(frozen=True, eq=False, slots=True)
class Subquery:
    """An expression in a window of *length* before each moment, at every multiple of *step*."""

    expr: Node
    length: int
    step: int
    offset: int = 0

    def apply(self, function: WindowFunction, node: Node, run: Run) -> Matrix:
        """Return what *function* makes of each window."""
        at = run.times - self.offset
        step = self.step or run.interval
        first = -(-(int(at[0]) - self.length) // step) * step
        times = np.arange(first, int(at[-1]) + 1, step, dtype=np.int64)
        inner = run.at(times, np.zeros(len(times), np.bool_))
        found = inner.matrix(self.expr)
        block = Block(found.labels, times, found.values, (found.present * SAMPLE).astype(np.uint8))
        begin = "right" if run.store.left_open else "left"
        low = np.searchsorted(times, at - self.length, begin)  # type: ignore[call-overload]
        high = np.searchsorted(times, at, "right")
        failures = np.concatenate([[0], np.cumsum(inner.failed)])
        run.fail(failures[high] > failures[low], inner.why)
        if not len(found.labels) or not len(times):
            return nothing(len(at))
        rows = np.arange(len(found.labels), dtype=np.int64)
        window = Window(block, rows, at, self.length, low, np.maximum(high, low))
        values, present = function(window)
        return _stacked(node, run, [(values, present, found.labels, rows)])

    def parts(self) -> tuple[Node, ...]:
        """Return what it is made of."""
        return (self.expr,)


def _stacked(
    node: Node, run: Run, parts: Sequence[tuple[Floats, Bools, LabelSets, Cells]]
) -> Matrix:
    if not parts:
        return nothing(len(run.times))
    labels = tuple(part[2] for part in parts)
    merger = run.plans.plan(
        (id(node), "stacked", *labels),
        lambda: Merger.of(part[2].rows[number] for part in parts for number in part[3]),
    )
    if len(parts) == 1:
        return merger.merge(parts[0][0], parts[0][1], run.failed)
    values = np.concatenate([part[0] for part in parts])
    present = np.concatenate([part[1] for part in parts])
    return merger.merge(values, present, run.failed)


def name_of(row: Pairs) -> str:
    """Return the metric that a row is of, nothing if none."""
    return next((value for name, value in row if name == NAME), "")
