"""From PromQL to what can be evaluated over many moments at once.

What is not known here is refused with the word that is to blame: an expression is evaluated as
Prometheus evaluates it, or not at all.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import promql_parser as pql

from remediator.backtest.aggregating import (
    REDUCTIONS,
    Aggregation,
    CountValues,
    Grouping,
    Ranking,
)
from remediator.backtest.functions import (
    MAPPED,
    Absent,
    Mapped,
    Negation,
    Number,
    OverTime,
    Ranged,
    Relabelled,
    Stamp,
    Time,
    ToScalar,
    Vector,
    joined,
    replaced,
)
from remediator.backtest.joining import Matching, ScalarOperation, SetOperation, VectorOperation
from remediator.backtest.matrix import pairs_of
from remediator.backtest.run import Node
from remediator.backtest.selecting import LabelMatcher, RangeOfSelector, Selector, Subquery
from remediator.backtest.windows import WINDOW_FUNCTIONS
from remediator.rules.labels import is_scalar
from remediator.rules.promql import metric_of

_MILLISECOND = timedelta(milliseconds=1)
_SETS = frozenset({"and", "or", "unless"})
# The parser's enumerations cannot be keys.
_OPERATIONS = (
    (pql.MatchOp.Equal, "="),
    (pql.MatchOp.NotEqual, "!="),
    (pql.MatchOp.Re, "=~"),
    (pql.MatchOp.NotRe, "!~"),
)
_SIDES = (
    (pql.VectorMatchCardinality.ManyToOne, "left"),
    (pql.VectorMatchCardinality.OneToMany, "right"),
)
_OWN = frozenset({"ALERTS", "ALERTS_FOR_STATE"})


class UnsupportedError(ValueError):
    """An expression that is PromQL and cannot be evaluated here; *word* is what is to blame."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


def compiled(expr: pql.Expr) -> Node:
    """Return what evaluates *expr*; UnsupportedError if nothing here does."""
    for kind, compile_ in _KINDS:
        if isinstance(expr, kind):
            return compile_(expr)
    raise UnsupportedError("", f"a {type(expr).__name__} cannot be backtested")


def walk(node: Node) -> Iterator[Node]:
    """Yield *node* and everything in it."""
    yield node
    for part in node.parts():
        yield from walk(part)


def _number(expr: pql.NumberLiteral) -> Node:
    return Number(expr.val)


def _paren(expr: pql.ParenExpr) -> Node:
    return compiled(expr.expr)


def _unary(expr: pql.UnaryExpr) -> Node:
    # A plus is not kept by the parser.
    return Negation(compiled(expr.expr))


def _selector(expr: pql.VectorSelector) -> Selector:
    name = metric_of(expr)
    if not name:
        raise UnsupportedError("{", "a selector without the name of a metric cannot be backtested")
    if name in _OWN:
        raise UnsupportedError(name, f"{name} cannot be backtested: it is what is to be found out")
    if expr.at is not None:
        raise UnsupportedError("@", "@ cannot be backtested")
    if expr.matchers.or_matchers:
        raise UnsupportedError("or", '"or" between matchers cannot be backtested')
    matchers = tuple(
        LabelMatcher.of(one.name, _operation(one.op), one.value)
        for one in expr.matchers.matchers
        if one.name != "__name__"
    )
    return Selector(name, matchers, _milliseconds(expr.offset))


def _operation(op: pql.MatchOp) -> str:
    return next(text for known, text in _OPERATIONS if known == op)


def _binary(expr: pql.BinaryExpr) -> Node:
    operation = str(expr.op).lower()
    left, right = compiled(expr.lhs), compiled(expr.rhs)
    modifier = expr.modifier
    as_bool = bool(modifier and modifier.return_bool)
    if operation in _SETS:
        return SetOperation(operation, left, right, _matching(modifier))
    if is_scalar(expr.lhs) or is_scalar(expr.rhs):
        return ScalarOperation(operation, left, right, as_bool)
    return VectorOperation(operation, left, right, _matching(modifier), as_bool)


def _matching(modifier: pql.BinModifier | None) -> Matching:
    if modifier is None:
        return Matching()
    if modifier.fill_values and (modifier.fill_values.lhs or modifier.fill_values.rhs):
        raise UnsupportedError("fill", "fill cannot be backtested")
    found = modifier.matching
    labels = frozenset(found.labels) if found else frozenset()
    is_on = bool(found and found.type == pql.LabelModifierType.Include)
    grouped = next((side for card, side in _SIDES if modifier.card == card), "")
    return Matching(labels, is_on, grouped, tuple(modifier.group_labels or ()))


def _aggregate(expr: pql.AggregateExpr) -> Node:
    operation = str(expr.op)
    modifier = expr.modifier
    without = bool(modifier and modifier.type == pql.AggModifierType.Without)
    grouping = Grouping(frozenset(modifier.labels if modifier else ()), without)
    inner = compiled(expr.expr)
    if operation in {"topk", "bottomk"} and expr.param is not None:
        return Ranking(operation == "topk", compiled(expr.param), inner, grouping)
    if operation == "count_values" and isinstance(expr.param, pql.StringLiteral):
        return CountValues(expr.param.val, inner, grouping)
    if operation not in REDUCTIONS:
        raise UnsupportedError(operation, f"{operation} cannot be backtested")
    return Aggregation(operation, inner, grouping)


def _call(expr: pql.Call) -> Node:
    name = expr.func.name
    arguments = list(expr.args)
    if name in WINDOW_FUNCTIONS:
        return OverTime(name, _ranged(arguments[0]))
    special = _SPECIAL.get(name)
    if special is not None:
        return special(arguments)
    if name not in MAPPED:
        raise UnsupportedError(name, f"{name}() cannot be backtested")
    inner = compiled(arguments[0]) if arguments else Vector(Time())
    return Mapped(name, inner, tuple(map(compiled, arguments[1:])))


def _ranged(expr: pql.Expr) -> Ranged:
    while isinstance(expr, pql.ParenExpr):
        expr = expr.expr
    if isinstance(expr, pql.MatrixSelector):
        return RangeOfSelector(_selector(expr.vector_selector), _milliseconds(expr.range))
    if isinstance(expr, pql.SubqueryExpr):
        if expr.at is not None:
            raise UnsupportedError("@", "@ cannot be backtested")
        return Subquery(
            compiled(expr.expr),
            _milliseconds(expr.range),
            _milliseconds(expr.step),
            _milliseconds(expr.offset),
        )
    raise UnsupportedError("", f"a {type(expr).__name__} is no window")


def _absent(arguments: list[pql.Expr]) -> Node:
    return Absent(compiled(arguments[0]), _known_labels(arguments[0]))


def _absent_over_time(arguments: list[pql.Expr]) -> Node:
    inner = OverTime("present_over_time", _ranged(arguments[0]))
    return Absent(inner, _known_labels(arguments[0]))


def _known_labels(expr: pql.Expr) -> tuple[tuple[str, str], ...]:
    """Return the labels that ``absent`` gives its series: those that are asked for exactly."""
    while isinstance(expr, pql.ParenExpr):
        expr = expr.expr
    if isinstance(expr, pql.MatrixSelector):
        expr = expr.vector_selector
    if not isinstance(expr, pql.VectorSelector):
        return ()
    found: dict[str, str] = {}
    for one in expr.matchers.matchers:
        if one.name != "__name__":
            # Asked for twice, it is not known.
            is_known = one.op == pql.MatchOp.Equal and one.name not in found
            found[one.name] = one.value if is_known else ""
    return pairs_of(found)


def _clamp(arguments: list[pql.Expr]) -> Node:
    vector, least, most = map(compiled, arguments)
    return Mapped("clamp_max", Mapped("clamp_min", vector, (least,)), (most,))


def _label_replace(arguments: list[pql.Expr]) -> Node:
    to, replacement, source, pattern = map(_text, arguments[1:])
    return Relabelled(compiled(arguments[0]), replaced(to, replacement, source, pattern))


def _label_join(arguments: list[pql.Expr]) -> Node:
    to, separator, *sources = map(_text, arguments[1:])
    return Relabelled(compiled(arguments[0]), joined(to, separator, tuple(sources)))


def _text(expr: pql.Expr) -> str:
    if not isinstance(expr, pql.StringLiteral):
        raise UnsupportedError("", "a text in quotes is expected")
    return str(expr.val)


def _milliseconds(found: timedelta | None) -> int:
    return 0 if found is None else round(found / _MILLISECOND)


_SPECIAL: dict[str, Callable[[list[pql.Expr]], Node]] = {
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    "clamp": _clamp,
    "label_join": _label_join,
    "label_replace": _label_replace,
    "scalar": lambda arguments: ToScalar(compiled(arguments[0])),
    "time": lambda _: Time(),
    "timestamp": lambda arguments: Stamp(compiled(arguments[0])),
    "vector": lambda arguments: Vector(compiled(arguments[0])),
}
_KINDS: tuple[tuple[type[pql.Expr], Callable[..., Node]], ...] = (
    (pql.NumberLiteral, _number),
    (pql.ParenExpr, _paren),
    (pql.UnaryExpr, _unary),
    (pql.VectorSelector, _selector),
    (pql.BinaryExpr, _binary),
    (pql.AggregateExpr, _aggregate),
    (pql.Call, _call),
)
