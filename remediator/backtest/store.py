"""Samples by metric, as far back as the expressions look: scraped ones, and those of rules.

Series that have the same timestamps, as those of one exporter do, are kept as one block. A cell of
it holds a sample, a staleness marker ("from here on there is nothing"), or nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remediator.backtest.matrix import Floats, Ints, LabelSets, Matrix, Pairs

NOTHING, SAMPLE, STALE = 0, 1, 2
Kinds = NDArray[np.uint8]
Cells = NDArray[np.int64]


@dataclass(slots=True)
class Series:
    """The samples of one series; *stale* tells which of them are staleness markers."""

    labels: Pairs
    times: Ints
    values: Floats
    stale: NDArray[np.bool_]


class Block:
    """Rows of cells that share their times (milliseconds); ``kinds`` is None if all are samples."""

    def __init__(
        self, labels: LabelSets, times: Ints, values: Floats, kinds: Kinds | None = None
    ) -> None:
        self.labels = labels
        self.times = times
        self.values = values
        self.kinds = kinds
        self._last_any: Cells | None = None
        self._last_sample: Cells | None = None
        self._next_sample: Cells | None = None

    def last_any(self) -> Cells:
        """Return for each cell the last one up to it that holds anything, -1 if none does."""
        if self._last_any is None:
            self._last_any = _last(self._kinds() != NOTHING)
        return self._last_any

    def last_sample(self) -> Cells:
        """Return for each cell the last one up to it that holds a sample, -1 if none does."""
        if self._last_sample is None:
            self._last_sample = _last(self._kinds() == SAMPLE)
        return self._last_sample

    def next_sample(self) -> Cells:
        """Return for each cell the first one from it on with a sample, their number if none is."""
        if self._next_sample is None:
            backwards = _last((self._kinds() == SAMPLE)[:, ::-1])[:, ::-1]
            self._next_sample = len(self.times) - 1 - backwards
        return self._next_sample

    def _kinds(self) -> Kinds:
        return np.ones(self.values.shape, np.uint8) if self.kinds is None else self.kinds


def _last(held: NDArray[np.bool_]) -> Cells:
    columns = np.arange(held.shape[1], dtype=np.int64)
    return np.maximum.accumulate(np.where(held, columns, -1), axis=1)


class Recorded:
    """What one rule has written: a block that grows by whole chunks, or moment by moment.

    While it is written moment by moment, ``newest`` tells the last cell of each row that holds
    anything, and ``newest_sample`` the last one with a sample.
    """

    def __init__(self) -> None:
        empty = np.empty((0, 0))
        self.block = Block(LabelSets(()), np.empty(0, np.int64), empty, empty.astype(np.uint8))
        self.is_live = False
        self.newest: Cells = np.empty(0, np.int64)
        self.newest_sample: Cells = np.empty(0, np.int64)
        self._rows: dict[Pairs, int] = {}
        self._known: tuple[LabelSets, Cells] | None = None
        self._used = 0

    def add(self, times: Ints, found: Matrix, failed: NDArray[np.bool_]) -> None:
        """Append a chunk; where the rule *failed* it wrote nothing, not even a marker."""
        self.make_room(times)
        rows = self._places(found.labels)
        block = self.block
        new = slice(len(block.times) - len(times), None)
        values, kinds = block.values, self._kinds()
        values[rows, new] = found.values
        present = np.zeros((len(self._rows), len(times)), np.bool_)
        present[rows] = found.present
        kinds[:, new] = np.where(present, SAMPLE, STALE)
        kinds[:, new][:, failed] = NOTHING
        self.settle()

    def make_room(self, times: Ints) -> None:
        """Append empty cells for *times*."""
        block = self.block
        shape = (len(block.labels), len(times))
        self._used = len(block.times)
        self.block = Block(
            block.labels,
            np.concatenate([block.times, times]),
            np.concatenate([block.values, np.zeros(shape)], axis=1),
            np.concatenate([self._kinds(), np.zeros(shape, np.uint8)], axis=1),
        )

    def begin(self, times: Ints) -> None:
        """Make room for *times*, to be written moment by moment."""
        self.newest = self.block.last_any()[:, -1].copy() if self._used_any() else self._none()
        self.newest_sample = (
            self.block.last_sample()[:, -1].copy() if self._used_any() else self._none()
        )
        self.make_room(times)
        self.is_live = True

    def write(self, found: Matrix) -> None:
        """Write the next moment."""
        rows = self._places(found.labels)
        column = self._used
        block, kinds = self.block, self._kinds()
        present = np.zeros(len(self._rows), np.bool_)
        present[rows] = found.present[:, 0]
        block.values[rows, column] = found.values[:, 0]
        kinds[:, column] = np.where(present, SAMPLE, STALE)
        self.newest[:] = column
        self.newest_sample[present] = column
        self._used += 1

    def skip(self) -> None:
        """Leave the next moment out: the rule has failed."""
        self._used += 1

    def settle(self) -> None:
        """End writing: what was remembered of the cells is worked out anew."""
        block = self.block
        self.is_live = False
        self.block = Block(block.labels, block.times, block.values, block.kinds)

    def trim(self, before: int) -> None:
        """Forget what is from before the moment *before*, and rows that hold nothing any more."""
        block, kinds = self.block, self._kinds()
        first = int(np.searchsorted(block.times, before))
        kept = np.flatnonzero((kinds[:, first:] == SAMPLE).any(axis=1))
        rows = [block.labels.rows[number] for number in kept]
        self._rows = {row: number for number, row in enumerate(rows)}
        self._known = None
        self.block = Block(
            LabelSets(rows) if len(rows) != len(block.labels) else block.labels,
            block.times[first:],
            block.values[kept, first:],
            kinds[kept, first:],
        )

    def _used_any(self) -> bool:
        return bool(len(self.block.times))

    def _none(self) -> Cells:
        return np.full(len(self.block.labels), -1, np.int64)

    def _kinds(self) -> Kinds:
        kinds = self.block.kinds
        if kinds is None:
            raise TypeError("a recorded block has kinds")
        return kinds

    def _places(self, labels: LabelSets) -> Cells:
        if self._known is None or self._known[0] is not labels:
            new = [row for row in labels if row not in self._rows]
            if new:
                self._grow(new)
            cells = np.fromiter((self._rows[row] for row in labels), np.int64, len(labels))
            self._known = (labels, cells)
        return self._known[1]

    def _grow(self, new: Sequence[Pairs]) -> None:
        block = self.block
        for row in new:
            self._rows[row] = len(self._rows)
        shape = (len(new), len(block.times))
        self.newest = np.concatenate([self.newest, np.full(len(new), -1, np.int64)])
        self.newest_sample = np.concatenate([self.newest_sample, np.full(len(new), -1, np.int64)])
        self.block = Block(
            LabelSets(self._rows),
            block.times,
            np.concatenate([block.values, np.zeros(shape)]),
            np.concatenate([self._kinds(), np.zeros(shape, np.uint8)]),
        )


@dataclass(slots=True)
class Scraped:
    """The samples of one metric that were scraped; ``keep`` is how far back they are needed."""

    keep: int
    blocks: list[Block] = field(default_factory=list)
    _series: dict[Pairs, Series] = field(default_factory=dict)

    def add(self, page: Iterable[Series], before: int) -> None:
        """Append a page, and forget what is from before the moment *before*."""
        kept = {labels: _from(series, before) for labels, series in self._series.items()}
        for new in page:
            old = kept.get(new.labels)
            kept[new.labels] = new if old is None else _joined(old, new)
        self._series = {labels: series for labels, series in kept.items() if len(series.times)}
        known = {block.labels.rows: block.labels for block in self.blocks}
        self.blocks = list(_blocks(self._series, known))


def _from(series: Series, before: int) -> Series:
    first = int(np.searchsorted(series.times, before))
    if not first:
        return series
    return Series(series.labels, series.times[first:], series.values[first:], series.stale[first:])


def _joined(old: Series, new: Series) -> Series:
    return Series(
        old.labels,
        np.concatenate([old.times, new.times]),
        np.concatenate([old.values, new.values]),
        np.concatenate([old.stale, new.stale]),
    )


def _blocks(
    series: Mapping[Pairs, Series], known: Mapping[tuple[Pairs, ...], LabelSets]
) -> Iterable[Block]:
    alike: dict[bytes, list[Series]] = {}
    for labels in sorted(series):
        alike.setdefault(series[labels].times.tobytes(), []).append(series[labels])
    for group in alike.values():
        stale = np.stack([one.stale for one in group])
        kinds = np.where(stale, STALE, SAMPLE).astype(np.uint8) if stale.any() else None
        rows = tuple(one.labels for one in group)
        # The same series as before keep what was planned for them.
        yield Block(
            known.get(rows) or LabelSets(rows),
            group[0].times,
            np.stack([one.values for one in group]),
            kinds,
        )


@dataclass(slots=True)
class Store:
    """Everything that expressions can read; times are in milliseconds.

    *left_open* says that a window leaves out its very beginning, as since Prometheus 3. A metric
    may have been written by several rules, each known by its position.
    """

    lookback: int = 300_000
    left_open: bool = False
    scraped: dict[str, Scraped] = field(default_factory=dict)
    recorded: dict[str, dict[int, Recorded]] = field(default_factory=dict)
