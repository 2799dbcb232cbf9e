"""Which labels an expression yields, worked out from its shape alone.

Each side of an ``or`` may yield other labels, so what comes out is a set of alternatives. Of a
metric nobody knows, any label may come; only what an expression drops is then known to be gone.
Source of the matching rules: promql/engine.go (resultMetric) of Prometheus 2.45.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import promql_parser as pql

from remediator.rules.promql import metric_of

_KEEP_ALL = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
_SCALARS = frozenset({"time", "scalar", "pi", "vector"})
_ABSENT = frozenset({"absent", "absent_over_time"})
_NAME = "__name__"
# More branches than that are one in which anything may be.
_MOST = 64


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one branch: ``names`` may be there, and others too unless it is closed.

    ``gone`` is what cannot be there although others may; None means it is closed.
    """

    names: frozenset[str] = frozenset()
    gone: frozenset[str] | None = None

    def may_have(self, label: str) -> bool:
        """Tell whether a series of this branch may have *label*."""
        return label in self.names or (self.gone is not None and label not in self.gone)

    def only(self, kept: Iterable[str]) -> "Labels":
        """Return what is left when only *kept* are kept."""
        return Labels(frozenset(label for label in kept if self.may_have(label)))

    def without(self, dropped: Iterable[str]) -> "Labels":
        """Return what is left without *dropped*."""
        away = frozenset(dropped)
        return Labels(self.names - away, None if self.gone is None else self.gone | away)

    def plus(self, added: Iterable[str]) -> "Labels":
        """Return these and *added*."""
        more = frozenset(added)
        return Labels(self.names | more, None if self.gone is None else self.gone - more)


Branches = frozenset[Labels]
SCALAR: Branches = frozenset({Labels()})
ANYTHING: Branches = frozenset({Labels(gone=frozenset())})


def branches_of(expr: pql.Expr, of_metric: Callable[[str], Branches]) -> Branches:
    """Return what *expr* may yield, where *of_metric* says what a metric has."""
    found = _Flow(of_metric).of(expr)
    return found if len(found) <= _MOST else ANYTHING


def each(branches: Branches, change: Callable[[Labels], Labels]) -> Branches:
    """Return every branch, changed."""
    return frozenset(change(labels) for labels in branches)


class _Flow:
    """Follows labels from the selectors outwards."""

    def __init__(self, of_metric: Callable[[str], Branches]) -> None:
        self._of_metric = of_metric

    def of(self, expr: pql.Expr) -> Branches:
        if isinstance(expr, pql.VectorSelector):
            return self._selector(expr)
        if isinstance(expr, pql.MatrixSelector):
            return self._selector(expr.vector_selector)
        if isinstance(expr, pql.ParenExpr | pql.UnaryExpr | pql.SubqueryExpr):
            return self.of(expr.expr)
        if isinstance(expr, pql.AggregateExpr):
            return self._aggregate(expr)
        if isinstance(expr, pql.BinaryExpr):
            return self._binary(expr)
        if isinstance(expr, pql.Call):
            return self._call(expr)
        return SCALAR

    def _selector(self, selector: pql.VectorSelector) -> Branches:
        matchers = selector.matchers.matchers
        empty = [m.name for m in matchers if m.op == pql.MatchOp.Equal and not m.value]
        name = metric_of(selector)
        found = self._of_metric(name) if name else ANYTHING
        return each(found, lambda labels: labels.without(empty))

    def _aggregate(self, expr: pql.AggregateExpr) -> Branches:
        inner, operation = self.of(expr.expr), str(expr.op)
        if operation in _KEEP_ALL:
            return inner
        modifier = expr.modifier
        labels = modifier.labels if modifier else []
        if modifier and modifier.type == pql.AggModifierType.Without:
            kept = each(inner, lambda branch: branch.without(labels))
        else:
            kept = each(inner, lambda branch: branch.only(labels))
        if operation == "count_values" and isinstance(expr.param, pql.StringLiteral):
            made = expr.param.val
            return each(kept, lambda branch: branch.plus([made]))
        return kept

    def _binary(self, expr: pql.BinaryExpr) -> Branches:
        left, right = self.of(expr.lhs), self.of(expr.rhs)
        operation = str(expr.op).lower()
        if operation in {"and", "unless"}:
            return left
        if operation == "or":
            return left | right
        if is_scalar(expr.lhs) or is_scalar(expr.rhs):
            return left if is_scalar(expr.rhs) else right
        if not left or not right:
            return frozenset()
        return self._matched(expr, left, right)

    def _matched(self, expr: pql.BinaryExpr, left: Branches, right: Branches) -> Branches:
        modifier = expr.modifier
        if modifier is None:
            return left
        extra = modifier.group_labels or []
        if modifier.card == pql.VectorMatchCardinality.ManyToOne:
            return frozenset(_grouped(many, one, extra) for many in left for one in right)
        if modifier.card == pql.VectorMatchCardinality.OneToMany:
            return frozenset(_grouped(many, one, extra) for many in right for one in left)
        matching = modifier.matching
        if matching is None:
            return left
        if matching.type == pql.LabelModifierType.Include:
            return each(left, lambda labels: labels.only(matching.labels))
        return each(left, lambda labels: labels.without(matching.labels))

    def _call(self, expr: pql.Call) -> Branches:
        name = expr.func.name
        if name in _SCALARS:
            return SCALAR
        if name in _ABSENT:
            return frozenset({Labels(frozenset(_equals(expr.args[0])))})
        if name == "info":
            return ANYTHING
        inner = self._vector_argument(expr)
        if name in {"label_replace", "label_join"}:
            return _relabelled(expr, inner)
        if name.startswith("histogram_quantile"):
            return each(inner, lambda labels: labels.without(["le"]))
        return inner

    def _vector_argument(self, expr: pql.Call) -> Branches:
        for argument in expr.args:
            if isinstance(argument, pql.Expr) and not is_scalar(argument):
                return self.of(argument)
        return SCALAR


def is_scalar(expr: pql.Expr) -> bool:
    """Tell whether *expr* is a number or a text, and no series."""
    if isinstance(expr, pql.ParenExpr | pql.UnaryExpr):
        return is_scalar(expr.expr)
    if isinstance(expr, pql.BinaryExpr):
        return is_scalar(expr.lhs) and is_scalar(expr.rhs)
    if isinstance(expr, pql.Call):
        return expr.func.name in {"time", "scalar", "pi"}
    return isinstance(expr, pql.NumberLiteral | pql.StringLiteral)


def _grouped(many: Labels, one: Labels, extra: Iterable[str]) -> Labels:
    # A label that the one side does not have is taken away from the many side.
    taken = [label for label in extra if one.may_have(label)]
    return many.without(extra).plus(taken)


def _relabelled(expr: pql.Call, inner: Branches) -> Branches:
    made = expr.args[1]
    if not isinstance(made, pql.StringLiteral):
        return ANYTHING
    return each(inner, lambda labels: labels.plus([made.val]))


def _equals(expr: object) -> list[str]:
    while isinstance(expr, pql.ParenExpr | pql.SubqueryExpr):
        expr = expr.expr
    if isinstance(expr, pql.MatrixSelector):
        expr = expr.vector_selector
    if not isinstance(expr, pql.VectorSelector):
        return []
    matchers = expr.matchers.matchers
    return [m.name for m in matchers if m.op == pql.MatchOp.Equal and m.value and m.name != _NAME]
