"""Numbers, times, and the functions that take series and return series.

Source: promql/functions.go of Prometheus 2.42.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from remediator.backtest.joining import TWICE, nameless
from remediator.backtest.matrix import (
    Bools,
    Floats,
    LabelSets,
    Matrix,
    Merger,
    Pairs,
    Scalar,
    Value,
    pairs_of,
)
from remediator.backtest.run import Node, Run
from remediator.backtest.selecting import Selector
from remediator.backtest.windows import KEEP_NAME, WINDOW_FUNCTIONS, WindowFunction

_GO_GROUP = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(\$))")


@dataclass(frozen=True, eq=False, slots=True)
class Number:
    """A number."""

    value: float

    def over(self, run: Run) -> Scalar:
        """Return it."""
        return Scalar(np.full(len(run.times), self.value))

    def parts(self) -> tuple[Node, ...]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, eq=False, slots=True)
class Time:
    """``time()``: the moment itself, in seconds."""

    def over(self, run: Run) -> Scalar:
        """Return it."""
        return Scalar(run.times / 1000)

    def parts(self) -> tuple[Node, ...]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, eq=False, slots=True)
class Vector:
    """``vector(s)``: a number as the only series, without labels."""

    expr: Node

    def over(self, run: Run) -> Matrix:
        """Return it."""
        values = run.scalar(self.expr).values[None, :]
        return Matrix(_NO_LABELS, values, np.ones(values.shape, np.bool_))

    def parts(self) -> tuple[Node, ...]:
        """Return the number."""
        return (self.expr,)


_NO_LABELS = LabelSets([()])


@dataclass(frozen=True, eq=False, slots=True)
class ToScalar:
    """``scalar(v)``: the value of the only series, NaN if there are none or several."""

    expr: Node

    def over(self, run: Run) -> Scalar:
        """Return it."""
        found = run.matrix(self.expr)
        only = found.present.sum(axis=0) == 1
        sums = np.where(found.present, found.values, 0.0).sum(axis=0)
        return Scalar(np.where(only, sums, np.nan))

    def parts(self) -> tuple[Node, ...]:
        """Return the series."""
        return (self.expr,)


class Ranged(Protocol):
    """Something with a window: a selector's samples, or a subquery."""

    def apply(self, function: WindowFunction, node: Node, run: Run) -> Matrix:
        """Return what *function* makes of each window."""
        ...

    def parts(self) -> tuple[Node, ...]:
        """Return the parts that it is made of."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class OverTime:
    """One of `WINDOW_FUNCTIONS`."""

    function: str
    ranged: Ranged

    def over(self, run: Run) -> Matrix:
        """Return what it makes of the window before each moment."""
        found = self.ranged.apply(WINDOW_FUNCTIONS[self.function], self, run)
        return found if self.function in KEEP_NAME else nameless(self, run, found)

    def parts(self) -> tuple[Node, ...]:
        """Return what is in the window."""
        return self.ranged.parts()


@dataclass(frozen=True, eq=False, slots=True)
class Stamp:
    """``timestamp(v)``: when a value was sampled; of an expression, the moment itself."""

    expr: Node

    def over(self, run: Run) -> Matrix:
        """Return it, in seconds."""
        if isinstance(self.expr, Selector):
            return self.expr.stamps(run)
        found = run.matrix(self.expr)
        times = np.broadcast_to(run.times / 1000, found.values.shape)
        return nameless(self, run, Matrix(found.labels, times, found.present))

    def parts(self) -> tuple[Node, ...]:
        """Return the series."""
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True)
class Mapped:
    """A function of each value, with numbers as its further arguments."""

    function: str
    expr: Node
    arguments: tuple[Node, ...] = ()

    def over(self, run: Run) -> Matrix:
        """Return it."""
        found = run.matrix(self.expr)
        if self.function in _ORDERS:
            return found
        numbers = [run.scalar(argument).values for argument in self.arguments]
        with np.errstate(all="ignore"):
            values = MAPPED[self.function](found.values, *numbers)
        return nameless(self, run, Matrix(found.labels, values, found.present))

    def parts(self) -> tuple[Node, ...]:
        """Return its arguments."""
        return (self.expr, *self.arguments)


def _clamp_min(values: Floats, least: Floats) -> Floats:
    return np.where(np.isnan(values) | np.isnan(least), np.nan, np.maximum(values, least))


def _clamp_max(values: Floats, most: Floats) -> Floats:
    return np.where(np.isnan(values) | np.isnan(most), np.nan, np.minimum(values, most))


def _round(values: Floats, *to: Floats) -> Floats:
    inverse = 1.0 / (to[0] if to else 1.0)
    return np.floor(values * inverse + 0.5) / inverse


def _identity(values: Floats) -> Floats:
    return values


def _hour(values: Floats) -> Floats:
    return np.floor(values / 3600) % 24


def _weekday(values: Floats) -> Floats:
    # The epoch was a Thursday.
    return (np.floor(values / 86400) + 4) % 7


_ORDERS = frozenset({"sort", "sort_desc"})
MAPPED: dict[str, Callable[..., Floats]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp_min,
    "day_of_week": _weekday,
    "exp": np.exp,
    "floor": np.floor,
    "hour": _hour,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "minute": lambda values: np.floor(values / 60) % 60,
    "round": _round,
    "sgn": np.sign,
    "sort": _identity,
    "sort_desc": _identity,
    "sqrt": np.sqrt,
}


@dataclass(frozen=True, eq=False, slots=True)
class Negation:
    """``-v``."""

    expr: Node

    def over(self, run: Run) -> Value:
        """Return it."""
        found = run.value(self.expr)
        if isinstance(found, Scalar):
            return Scalar(-found.values)
        return nameless(self, run, Matrix(found.labels, -found.values, found.present))

    def parts(self) -> tuple[Node, ...]:
        """Return what is negated."""
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True)
class Absent:
    """``absent`` and ``absent_over_time``: 1 where there is nothing, with what labels are known."""

    expr: Node
    labels: Pairs

    def over(self, run: Run) -> Matrix:
        """Return it."""
        found = run.matrix(self.expr)
        row = run.planned(self, (), lambda: LabelSets([self.labels]))
        none: Bools = found.present.sum(axis=0)[None, :] == 0
        return Matrix(row, np.ones(none.shape), none)

    def parts(self) -> tuple[Node, ...]:
        """Return what is looked for."""
        return (self.expr,)


@dataclass(frozen=True, eq=False, slots=True)
class Relabelled:
    """``label_replace`` or ``label_join``: the same series under other labels."""

    expr: Node
    change: Callable[[dict[str, str]], dict[str, str]]

    def over(self, run: Run) -> Matrix:
        """Return it."""
        found = run.matrix(self.expr)
        merger = run.planned(
            self,
            (found.labels,),
            lambda: Merger.of(pairs_of(self.change(dict(row))) for row in found.labels),
        )
        failed = np.zeros(len(run.times), np.bool_)
        merged = merger.merge(found.values, found.present, failed)
        run.fail(failed, TWICE)
        return merged

    def parts(self) -> tuple[Node, ...]:
        """Return the series."""
        return (self.expr,)


def replaced(
    to: str, replacement: str, source: str, pattern: str
) -> Callable[[dict[str, str]], dict[str, str]]:
    """Return what ``label_replace`` does to labels; re.error if *pattern* is none."""
    compiled = re.compile(f"(?:{pattern})", re.DOTALL)

    def change(labels: dict[str, str]) -> dict[str, str]:
        found = compiled.fullmatch(labels.get(source, ""))
        return labels if found is None else {**labels, to: _expanded(replacement, found)}

    return change


def joined(
    to: str, separator: str, sources: tuple[str, ...]
) -> Callable[[dict[str, str]], dict[str, str]]:
    """Return what ``label_join`` does to labels."""
    return lambda labels: {**labels, to: separator.join(labels.get(one, "") for one in sources)}


def _expanded(template: str, found: re.Match[str]) -> str:
    """Return *template* with the groups in it; like Go, one that there is not is empty."""

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return found[int(name) if name.isdigit() else name] or ""
        except IndexError:
            return ""

    return _GO_GROUP.sub(group, template)
