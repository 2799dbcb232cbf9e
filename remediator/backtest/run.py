"""One evaluation of one expression: at which moments, over which samples, and what failed."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from remediator.backtest.matrix import Bools, Ints, LabelSets, Matrix, Scalar, Value
from remediator.backtest.store import Store

P = TypeVar("P")
_MOST_PLANS = 20_000


class Node(Protocol):
    """A part of an expression."""

    def over(self, run: "Run") -> Value:
        """Return what it yields at the moments of *run*."""
        ...

    def parts(self) -> "tuple[Node, ...]":
        """Return the parts that it is made of."""
        ...


class Plans:
    """What was worked out of labels alone, and holds for as long as the same series are there."""

    def __init__(self) -> None:
        self._known: dict[Hashable, object] = {}

    def plan(self, key: Hashable, make: Callable[[], P]) -> P:
        """Return what *make* returned for *key* before, or returns now."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) > _MOST_PLANS:
                self._known.clear()
            found = self._known[key] = make()
        return found  # type: ignore[return-value]


@dataclass(slots=True)
class Run:
    """The moments (milliseconds), and what an expression may see.

    *reader* is the position of the rule: what a rule before it wrote at the same moment is seen,
    what a later one writes is not. *failed* marks the moments at which Prometheus would have
    refused to evaluate it; *why* is the first reason. *known* holds what was evaluated before, by
    the node's identity, of which *column* is wanted.
    """

    store: Store
    times: Ints
    failed: Bools
    reader: int
    interval: int
    plans: Plans
    known: dict[int, Value] = field(default_factory=dict)
    column: int = -1
    why: str = ""

    def value(self, node: Node) -> Value:
        """Return what *node* yields."""
        known = self.known.get(id(node))
        return node.over(self) if known is None else known.column(self.column)

    def matrix(self, node: Node) -> Matrix:
        """Return what *node* yields, which is known to be series."""
        found = self.value(node)
        if isinstance(found, Scalar):
            raise TypeError("a number where series were expected")
        return found

    def scalar(self, node: Node) -> Scalar:
        """Return what *node* yields, which is known to be a number."""
        found = self.value(node)
        if isinstance(found, Matrix):
            raise TypeError("series where a number was expected")
        return found

    def at(self, times: Ints, failed: Bools) -> "Run":
        """Return this run at other moments, as a subquery needs it."""
        return Run(self.store, times, failed, self.reader, self.interval, self.plans)

    def fail(self, where: Bools, why: str) -> None:
        """Mark the moments *where* as failed."""
        if where.any():
            self.failed |= where
            self.why = self.why or why

    def planned(self, node: Node, labels: tuple[LabelSets, ...], make: Callable[[], P]) -> P:
        """Return the plan of *node* for rows with these *labels*."""
        return self.plans.plan((id(node), *labels), make)
