"""Functions over the samples in a window before each moment, such as ``rate``.

Source: promql/functions.go of Prometheus 2.42.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from remediator.backtest.matrix import Bools, Floats, Ints
from remediator.backtest.store import SAMPLE, Block, Cells

Found = tuple[Floats, Bools]


@dataclass(slots=True)
class Window:
    """For each moment the cells from *low* up to but without *high* of the *rows* of a block."""

    block: Block
    rows: Cells
    at: Ints
    length: int
    low: Cells
    high: Cells
    newest: Cells | None = None

    @staticmethod
    def of_now(block: Block, rows: Cells, at: Ints, length: int, newest: Cells) -> "Window":
        """Return the window before the moment that is being written."""
        low = np.searchsorted(block.times, at - length)
        high = np.searchsorted(block.times, at, "right")
        return Window(block, rows, at, length, low, np.maximum(high, low), newest)

    def last(self) -> tuple[Cells, Bools]:
        """Return the last cell with a sample for each row and moment, and whether there is one."""
        if self.newest is not None:
            cells = self.newest[:, None]
            return np.maximum(cells, 0), cells >= self.low
        column = np.maximum(self.high - 1, 0)
        if self.block.kinds is None:
            cells = np.broadcast_to(column, (len(self.rows), len(self.at)))
            return cells, np.broadcast_to(self.high > self.low, cells.shape)
        cells = self.block.last_sample()[self.rows[:, None], column]
        return np.maximum(cells, 0), (cells >= self.low) & (self.high > self.low)

    def first(self) -> Cells:
        """Return the first cell with a sample from *low* on; only right where there is one."""
        most = len(self.block.times) - 1
        column = np.minimum(self.low, most)
        if self.block.kinds is None:
            return np.broadcast_to(column, (len(self.rows), len(self.at)))
        return np.minimum(self.block.next_sample()[self.rows[:, None], column], most)

    def count(self) -> Floats:
        """Return how many samples there are."""
        if self.block.kinds is None:
            counts = np.broadcast_to(self.high - self.low, (len(self.rows), len(self.at)))
            return counts.astype(np.float64)
        held = self.block.kinds[self.rows] == SAMPLE
        sums = np.zeros((held.shape[0], held.shape[1] + 1))
        np.cumsum(held, axis=1, out=sums[:, 1:])
        return sums[:, self.high] - sums[:, self.low]

    def values(self, cells: Cells) -> Floats:
        """Return the values of *cells*."""
        return self.block.values[self.rows[:, None], cells]

    def between(self, happens: Callable[[Floats, Floats], Floats]) -> Floats:
        """Return the sum of what *happens* from each sample to the next."""
        block = self.block
        values = block.values[self.rows]
        if block.kinds is None:
            amounts = happens(values[:, :-1], values[:, 1:])
        else:
            before = block.last_sample()[self.rows][:, :-1]
            here = (block.kinds[self.rows][:, 1:] == SAMPLE) & (before >= 0)
            old = np.take_along_axis(values, np.maximum(before, 0), axis=1)
            amounts = np.where(here, happens(old, values[:, 1:]), 0.0)
        sums = np.zeros((len(values), len(block.times) + 1))
        np.cumsum(amounts, axis=1, out=sums[:, 2:])
        after = np.minimum(self.first() + 1, len(block.times))
        rows = np.arange(len(values))[:, None]
        return sums[rows, np.broadcast_to(self.high, after.shape)] - sums[rows, after]


WindowFunction = Callable[[Window], Found]


def last(window: Window) -> Found:
    """Return the last sample."""
    cells, present = window.last()
    return window.values(cells), present


def count(window: Window) -> Found:
    """Return how many samples there are."""
    counts = window.count()
    return counts, counts > 0


def present(window: Window) -> Found:
    """Return 1 where there is any sample."""
    _, found = window.last()
    return np.ones(found.shape), found


def changes(window: Window) -> Found:
    """Return how often the value changed."""
    _, found = window.last()
    return window.between(_changed), found


def resets(window: Window) -> Found:
    """Return how often the value became less."""
    _, found = window.last()
    return window.between(lambda old, new: (new < old).astype(np.float64)), found


def _changed(old: Floats, new: Floats) -> Floats:
    changed: Bools = (old != new) & ~(np.isnan(old) & np.isnan(new))
    return changed.astype(np.float64)


def folded(
    fold: Callable[[Floats, Floats], Floats],
    start: float,
    finish: Callable[[Floats, Floats], Floats],
) -> WindowFunction:
    """Return a function that takes the samples one by one, the oldest first."""

    def function(window: Window) -> Found:
        shape = (len(window.rows), len(window.at))
        result, block = np.full(shape, start), window.block
        counts = np.zeros(shape)
        for step in range(int((window.high - window.low).max(initial=0))):
            column = np.minimum(window.low + step, len(block.times) - 1)
            here = np.broadcast_to(window.low + step < window.high, shape)
            if block.kinds is not None:
                here = here & (block.kinds[window.rows[:, None], column] == SAMPLE)
            values = block.values[window.rows[:, None], column]
            result = np.where(here, fold(result, values), result)
            counts += here
        return finish(result, counts), counts > 0

    return function


def _plain(result: Floats, counts: Floats) -> Floats:
    del counts
    return result


def _divided(result: Floats, counts: Floats) -> Floats:
    return result / np.maximum(counts, 1)


maximum = folded(np.fmax, np.nan, _plain)
minimum = folded(np.fmin, np.nan, _plain)
total = folded(np.add, 0.0, _plain)
average = folded(np.add, 0.0, _divided)


def rate(window: Window) -> Found:
    """Return the increase per second of a counter."""
    return _extrapolated(window, is_counter=True, per=window.length / 1000)


def increase(window: Window) -> Found:
    """Return the increase of a counter."""
    return _extrapolated(window, is_counter=True)


def delta(window: Window) -> Found:
    """Return the difference between the ends of a gauge."""
    return _extrapolated(window, is_counter=False)


def _extrapolated(window: Window, *, is_counter: bool, per: float = 1.0) -> Found:
    last_cells, present_ = window.last()
    first_cells = window.first()
    counts = window.count()
    found = present_ & (counts >= 2)  # noqa: PLR2004
    times = window.block.times
    begin, end = times[first_cells], times[last_cells]
    first_values = window.values(first_cells)
    result = window.values(last_cells) - first_values
    if is_counter:
        result = result + window.between(lambda old, new: np.where(new < old, old, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        sampled = (end - begin) / 1000
        average_ = sampled / (counts - 1)
        to_start = (begin - (window.at - window.length)) / 1000
        to_end = (window.at - end) / 1000
        if is_counter:
            to_zero = sampled * (first_values / result)
            near = (result > 0) & (first_values >= 0) & (to_zero < to_start)
            to_start = np.where(near, to_zero, to_start)
        threshold = average_ * 1.1
        stretched = sampled + np.where(to_start < threshold, to_start, average_ / 2)
        stretched = stretched + np.where(to_end < threshold, to_end, average_ / 2)
        return result * (stretched / sampled / per), found


def instant_delta(window: Window) -> Found:
    """Return the difference between the last two samples."""
    values, _, found = _last_two(window, is_counter=False)
    return values, found


def instant_rate(window: Window) -> Found:
    """Return the increase per second between the last two samples of a counter."""
    values, seconds, found = _last_two(window, is_counter=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return values / seconds, found & (seconds > 0)


def _last_two(window: Window, *, is_counter: bool) -> tuple[Floats, Floats, Bools]:
    cells, present_ = window.last()
    found = present_ & (window.count() >= 2)  # noqa: PLR2004
    before = np.maximum(cells - 1, 0)
    if window.block.kinds is not None:
        before = np.maximum(window.block.last_sample()[window.rows[:, None], before], 0)
    old, new = window.values(before), window.values(cells)
    values = np.where(new < old, new, new - old) if is_counter else new - old
    seconds = (window.block.times[cells] - window.block.times[before]) / 1000
    return values, seconds, found


WINDOW_FUNCTIONS: dict[str, WindowFunction] = {
    "avg_over_time": average,
    "changes": changes,
    "count_over_time": count,
    "delta": delta,
    "idelta": instant_delta,
    "increase": increase,
    "irate": instant_rate,
    "last_over_time": last,
    "max_over_time": maximum,
    "min_over_time": minimum,
    "present_over_time": present,
    "rate": rate,
    "resets": resets,
    "sum_over_time": total,
}
# These leave the name of the metric; all others take it away.
KEEP_NAME = frozenset({"last_over_time"})
