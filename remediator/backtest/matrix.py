"""What an expression yields at many moments at once: a matrix, or one number for each moment.

A row is a series and a column is a moment. *present* tells where there is a value at all: NaN is a
value in PromQL. No two rows have the same labels.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAME = "__name__"

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Pairs = tuple[tuple[str, str], ...]


class LabelSets:
    """The labels of the rows of a matrix; compared by identity, so that plans can be kept."""

    __slots__ = ("rows",)

    def __init__(self, rows: Iterable[Pairs]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Pairs]:
        return iter(self.rows)


EMPTY = LabelSets(())


@dataclass(slots=True)
class Matrix:
    """Values of series (rows) at moments (columns), where *present*."""

    labels: LabelSets
    values: Floats
    present: Bools

    def column(self, number: int) -> "Matrix":
        """Return one moment of it."""
        part = slice(number, number + 1)
        return Matrix(self.labels, self.values[:, part], self.present[:, part])


@dataclass(slots=True)
class Scalar:
    """One number for each moment."""

    values: Floats

    def column(self, number: int) -> "Scalar":
        """Return one moment of it."""
        return Scalar(self.values[number : number + 1])


Value = Matrix | Scalar


def nothing(width: int) -> Matrix:
    """Return a matrix of *width* moments without any series."""
    return Matrix(EMPTY, np.empty((0, width)), np.empty((0, width), dtype=np.bool_))


def pairs_of(labels: Mapping[str, str]) -> Pairs:
    """Return *labels* as a row has them: sorted, and an empty one is none."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def without_name(row: Pairs) -> Pairs:
    """Return *row* without the name of the metric."""
    return tuple(pair for pair in row if pair[0] != NAME)


@dataclass(frozen=True, eq=False, slots=True)
class Merger:
    """How rows become the rows of a result, where several may have the same labels.

    *first* is one row for each row of the result; *further* are those of the same labels, as rows
    and the places they go to, no place twice in one of the rounds.
    """

    labels: LabelSets
    first: Ints
    further: tuple[tuple[Ints, Ints], ...] = ()

    @staticmethod
    def of(rows: Iterable[Pairs]) -> "Merger":
        """Return how rows with these labels are put together: those of the same labels are one."""
        found: dict[Pairs, list[int]] = {}
        for number, row in enumerate(rows):
            found.setdefault(row, []).append(number)
        first = np.array([numbers[0] for numbers in found.values()], np.int64)
        most = max(map(len, found.values()), default=0)
        rounds = []
        for turn in range(1, most):
            these = [(n[turn], place) for place, n in enumerate(found.values()) if len(n) > turn]
            pairs = np.array(these, np.int64)
            rounds.append((pairs[:, 0], pairs[:, 1]))
        return Merger(LabelSets(found), first, tuple(rounds))

    def merge(self, values: Floats, present: Bools, failed: Bools) -> Matrix:
        """Return the rows as a matrix; a moment at which two have the same labels has *failed*."""
        if not self.further:
            return Matrix(self.labels, values, present)
        merged, found = values[self.first], present[self.first]
        for rows, places in self.further:
            here = present[rows]
            failed |= (here & found[places]).any(axis=0)
            merged[places] = np.where(here, values[rows], merged[places])
            found[places] |= here
        return Matrix(self.labels, merged, found)
