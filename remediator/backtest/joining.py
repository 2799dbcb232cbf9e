"""Operators between series: arithmetic, comparisons, ``and``, ``or`` and ``unless``.

Source: promql/engine.go of Prometheus 2.42, `VectorBinop`, `VectorAnd` and their neighbours. What
fails there ("many-to-many matching not allowed" and its like) fails here at the same moments.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from remediator.backtest.matrix import (
    NAME,
    Bools,
    Floats,
    LabelSets,
    Matrix,
    Merger,
    Pairs,
    Scalar,
    Value,
    without_name,
)
from remediator.backtest.run import Node, Run
from remediator.backtest.store import Cells

_AMBIGUOUS = "found duplicate series for the match group"
_MANY_TO_ONE = "multiple matches for labels: many-to-one matching must be explicit"
TWICE = "vector cannot contain metrics with the same labelset"


def _power(left: Floats, right: Floats) -> Floats:
    return np.power(left, right)


ARITHMETIC: dict[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": _power,
    "atan2": np.arctan2,
}
COMPARISONS: dict[str, Callable[[Floats, Floats], Bools]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


@dataclass(frozen=True, slots=True)
class Matching:
    """Which series belong together: ``on`` these labels, or on all but them.

    *grouped* is the side ("left" or "right") that may have many, with *include* the labels it takes
    from the other.
    """

    labels: frozenset[str] = frozenset()
    is_on: bool = False
    grouped: str = ""
    include: tuple[str, ...] = ()

    def signature(self, row: Pairs) -> Pairs:
        """Return what rows that belong together have in common."""
        if self.is_on:
            return tuple(pair for pair in row if pair[0] in self.labels)
        return tuple(pair for pair in row if pair[0] not in self.labels and pair[0] != NAME)

    def result(self, many: Pairs, one: Pairs, *, keep_name: bool) -> Pairs:
        """Return the labels of what two rows make."""
        row = many if keep_name else without_name(many)
        if not self.grouped:
            if self.is_on:
                return tuple(pair for pair in row if pair[0] in self.labels)
            return tuple(pair for pair in row if pair[0] not in self.labels)
        if not self.include:
            return row
        taken = tuple(pair for pair in one if pair[0] in self.include)
        return tuple(sorted((*(p for p in row if p[0] not in self.include), *taken)))


@dataclass(slots=True)
class _Pairing:
    """Which rows are put together; *clashes* are groups of rows of which one may be there only."""

    many: Cells
    one: Cells
    clashes: list[Cells]
    rivals: list[Cells]
    merger: Merger


@dataclass(frozen=True, eq=False, slots=True)
class VectorOperation:
    """Arithmetic or a comparison between two vectors."""

    operation: str
    left: Node
    right: Node
    matching: Matching
    as_bool: bool = False

    def over(self, run: Run) -> Matrix:
        """Return the result at each moment."""
        left, right = run.matrix(self.left), run.matrix(self.right)
        plan = run.planned(
            self, (left.labels, right.labels), lambda: self._plan(left.labels, right.labels)
        )
        swapped = self.matching.grouped == "right"
        many, one = (right, left) if swapped else (left, right)
        if plan.clashes:
            # Prometheus looks at neither side where the other one is empty.
            anything = many.present.any(axis=0)
            for rows in plan.clashes:
                run.fail((one.present[rows].sum(axis=0) > 1) & anything, _AMBIGUOUS)
        rows_left, rows_right = (plan.one, plan.many) if swapped else (plan.many, plan.one)
        present = many.present[plan.many] & one.present[plan.one]
        values, present = self._result(left.values[rows_left], right.values[rows_right], present)
        for rows in plan.rivals:
            run.fail(present[rows].sum(axis=0) > 1, _MANY_TO_ONE)
        return _merged(run, plan.merger, values, present)

    def parts(self) -> tuple[Node, ...]:
        """Return its two sides."""
        return (self.left, self.right)

    def _result(self, left: Floats, right: Floats, present: Bools) -> tuple[Floats, Bools]:
        compare = COMPARISONS.get(self.operation)
        if compare is None:
            return ARITHMETIC[self.operation](left, right), present
        kept = compare(left, right)
        return (kept.astype(np.float64), present) if self.as_bool else (left, present & kept)

    def _plan(self, left: LabelSets, right: LabelSets) -> _Pairing:
        many, one = (right, left) if self.matching.grouped == "right" else (left, right)
        of_one = _by_signature(self.matching, one)
        pairs: list[tuple[int, int]] = []
        rivals: list[Cells] = []
        for signature, rows in _by_signature(self.matching, many).items():
            partners = of_one.get(signature, [])
            first = len(pairs)
            pairs += [(row, partner) for row in rows for partner in partners]
            if not self.matching.grouped and len(rows) > 1 and partners:
                rivals.append(np.arange(first, len(pairs)))
        keep_name = self.operation in COMPARISONS and not self.as_bool
        rows_out = (
            self.matching.result(many.rows[row], one.rows[partner], keep_name=keep_name)
            for row, partner in pairs
        )
        return _Pairing(
            np.array([pair[0] for pair in pairs], np.int64),
            np.array([pair[1] for pair in pairs], np.int64),
            [np.array(rows) for rows in of_one.values() if len(rows) > 1],
            rivals,
            Merger.of(rows_out),
        )


@dataclass(frozen=True, eq=False, slots=True)
class ScalarOperation:
    """Arithmetic or a comparison of which at least one side is a number."""

    operation: str
    left: Node
    right: Node
    as_bool: bool = False

    def over(self, run: Run) -> Value:
        """Return the result at each moment."""
        left, right = run.value(self.left), run.value(self.right)
        compare = COMPARISONS.get(self.operation)
        with np.errstate(all="ignore"):
            if compare is None:
                result = ARITHMETIC[self.operation](left.values, right.values)
            else:
                kept = compare(left.values, right.values)
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            return Scalar(result if compare is None else kept.astype(np.float64))
        series = right if isinstance(left, Scalar) else left
        if isinstance(series, Scalar):
            raise TypeError("one of the two is series")
        if compare is not None and not self.as_bool:
            return Matrix(series.labels, series.values, series.present & kept)
        values = result if compare is None else kept.astype(np.float64)
        return nameless(self, run, Matrix(series.labels, values, series.present))

    def parts(self) -> tuple[Node, ...]:
        """Return its two sides."""
        return (self.left, self.right)


@dataclass(slots=True)
class _Groups:
    """Rows in the *order* of the groups that begin at *starts*, and the group of other rows."""

    order: Cells
    starts: Cells
    of: Cells

    def present(self, found: Bools) -> Bools:
        """Return for each other row whether any row of its group is there."""
        if not len(self.starts):
            return np.zeros((len(self.of), found.shape[1]), np.bool_)
        any_ = np.logical_or.reduceat(found[self.order], self.starts, axis=0)
        return np.where(self.of[:, None] >= 0, any_[self.of], False)


@dataclass(frozen=True, eq=False, slots=True)
class SetOperation:
    """``and``, ``or`` or ``unless``."""

    operation: str
    left: Node
    right: Node
    matching: Matching

    def over(self, run: Run) -> Matrix:
        """Return the result at each moment."""
        left, right = run.matrix(self.left), run.matrix(self.right)
        key = (left.labels, right.labels)
        if self.operation == "or":
            of_left, merger = run.planned(self, key, lambda: self._plan_or(*key))
            extra = right.present & ~of_left.present(left.present)
            values = np.concatenate([left.values, right.values])
            return _merged(run, merger, values, np.concatenate([left.present, extra]))
        groups = run.planned(self, key, lambda: self._groups(key[1], key[0]))
        there = groups.present(right.present)
        kept = left.present & (there if self.operation == "and" else ~there)
        return Matrix(left.labels, left.values, kept)

    def parts(self) -> tuple[Node, ...]:
        """Return its two sides."""
        return (self.left, self.right)

    def _plan_or(self, left: LabelSets, right: LabelSets) -> tuple[_Groups, Merger]:
        return self._groups(left, right), Merger.of((*left, *right))

    def _groups(self, rows: LabelSets, others: LabelSets) -> _Groups:
        grouped = _by_signature(self.matching, rows)
        places = {signature: place for place, signature in enumerate(grouped)}
        of = (places.get(self.matching.signature(row), -1) for row in others)
        order, starts = flat(list(grouped.values()))
        return _Groups(order, starts, np.fromiter(of, np.int64, len(others)))


def flat(groups: list[list[int]]) -> tuple[Cells, Cells]:
    """Return the rows of all groups one after the other, and where each begins."""
    order = np.array([row for group in groups for row in group], np.int64)
    sizes = np.array([len(group) for group in groups], np.int64)
    return order, np.cumsum(sizes) - sizes


def nameless(node: Node, run: Run, found: Matrix) -> Matrix:
    """Return *found* without the names of the metrics."""
    merger = run.plans.plan(
        (id(node), "nameless", found.labels), lambda: Merger.of(map(without_name, found.labels))
    )
    return _merged(run, merger, found.values, found.present)


def _merged(run: Run, merger: Merger, values: Floats, present: Bools) -> Matrix:
    if not merger.further:
        return Matrix(merger.labels, values, present)
    failed = np.zeros(len(run.times), np.bool_)
    found = merger.merge(values, present, failed)
    run.fail(failed, TWICE)
    return found


def _by_signature(matching: Matching, labels: LabelSets) -> dict[Pairs, list[int]]:
    found: dict[Pairs, list[int]] = {}
    for number, row in enumerate(labels):
        found.setdefault(matching.signature(row), []).append(number)
    return found
