"""Checks of each rule by itself and of all rules together, whatever the policy says."""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

import promql_parser as pql

from remediator.config.reader import did_you_mean
from remediator.core.durations import format_duration
from remediator.rules.exported import exported, why_unknown
from remediator.rules.findings import Finding, Kind, finding
from remediator.rules.labels import Labels, is_scalar
from remediator.rules.promql import metric_of, selectors, walk
from remediator.rules.rule_file import Rule
from remediator.rules.rule_set import RuleSet
from remediator.rules.units import COMPARISONS, Unit, constant, unit_in, why_not

_VALUE = re.compile(r"\$value|\.Value|\$\.Value|\bprintf\b.*\bquery\b|\bquery\b")
_USED_LABEL = re.compile(r"\$labels\.([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_RATES = frozenset({"rate", "irate", "increase"})
_NEEDED = ("summary", "description")
_RUNBOOK = "runbook_url"


def check_rules(rules: RuleSet, interval: timedelta | None) -> Iterator[Finding]:
    """Yield what is wrong with the rules; *interval* is how often Prometheus scrapes, if known."""
    yield from _twice(rules.rules)
    for rule in rules.rules:
        yield from _labels(rule)
        if rule.expr is not None:
            yield from _metrics(rule, rule.expr, rules)
            yield from _selected(rule, rule.expr, rules)
            yield from _units(rule, rule.expr, rules)
            yield from _rates(rule, rule.expr, interval)
    for alert in rules.alerts:
        yield from _always(alert.rule)
        yield from _annotations(alert.rule, rules)


def _twice(rules: Iterable[Rule]) -> Iterator[Finding]:
    seen: dict[tuple[bool, str, tuple[tuple[str, str], ...]], Rule] = {}
    for rule in rules:
        if not rule.name:
            continue
        key = (rule.is_alert, rule.name, tuple(sorted(rule.labels.items())))
        first = seen.setdefault(key, rule)
        if first is rule:
            continue
        where = f"{first.at().file}:{first.at().line}"
        if rule.is_alert:
            message = f'alert "{rule.name}" with the same labels is defined at {where} already'
            yield finding(Kind.ALERT_TWICE, rule.at("alert"), message)
        else:
            message = f'"{rule.name}" with the same labels is recorded at {where} already'
            yield finding(Kind.RECORD_TWICE, rule.at("record"), message)


def _labels(rule: Rule) -> Iterator[Finding]:
    for name, value in rule.labels.items():
        if "{{" in value and _VALUE.search(value):
            message = "a value in a label makes a new alert at each change: use an annotation"
            yield finding(Kind.VALUE_IN_LABEL, rule.at_entry("labels", name), message)


def _metrics(rule: Rule, expr: pql.Expr, rules: RuleSet) -> Iterator[Finding]:
    for name in dict.fromkeys(metric_of(one) for one in selectors(expr)):
        why = why_unknown(name, rules.recorded) if name else None
        if why is not None:
            yield finding(Kind.UNKNOWN_METRIC, rule.at_word(name), why)


def _selected(rule: Rule, expr: pql.Expr, rules: RuleSet) -> Iterator[Finding]:
    """Report conditions on labels that a metric of ours has not got: they select nothing."""
    told = set()
    for selector in selectors(expr):
        name = metric_of(selector)
        metric = exported().get(name)
        if name not in rules.recorded and (metric is None or metric.labels is None):
            continue
        branches = rules.of_metric(name)
        for matcher in selector.matchers.matchers:
            label = matcher.name
            if label == "__name__" or any(one.may_have(label) for one in branches):
                continue
            if (name, label) not in told and branches:
                told.add((name, label))
                known = sorted(frozenset[str]().union(*(one.names for one in branches)))
                message = f'{name} has no label "{label}"{did_you_mean(label, known)}'
                yield finding(Kind.NO_SUCH_LABEL, rule.at_word(label), message)


def _units(rule: Rule, expr: pql.Expr, rules: RuleSet) -> Iterator[Finding]:
    told = set()
    for node in walk(expr):
        if not isinstance(node, pql.BinaryExpr):
            continue
        for message, name in _unit_trouble(node, rules):
            if message not in told:
                told.add(message)
                yield finding(Kind.WRONG_UNIT, rule.at_word(name), message)


def _unit_trouble(node: pql.BinaryExpr, rules: RuleSet) -> Iterator[tuple[str, str]]:
    operation = str(node.op).lower()
    left, right = unit_in(node.lhs, rules.unit_of), unit_in(node.rhs, rules.unit_of)
    if operation in {*COMPARISONS, "or", "+", "-"} and {left, right} == {Unit.PERCENT, Unit.RATIO}:
        names = [_first_metric(node.lhs), _first_metric(node.rhs)]
        one, other = (left, right) if left and right else (Unit.PERCENT, Unit.RATIO)
        message = f"{names[0]} is {one.value}, {names[1]} is {other.value}: bring both to one unit"
        yield message, names[0]
    if operation not in COMPARISONS:
        return
    for unit, side, other_side, sign in (
        (left, node.lhs, node.rhs, operation),
        (right, node.rhs, node.lhs, _mirrored(operation)),
    ):
        threshold = constant(other_side)
        why = why_not(unit, sign, threshold) if unit and threshold is not None else None
        if why is not None and unit is not None:
            name = _first_metric(side)
            yield f"{name} is {unit.value}, and {operation} {threshold:.15g} {why}", name


def _mirrored(operation: str) -> str:
    return operation.translate(str.maketrans("<>", "><"))


def _first_metric(expr: pql.Expr) -> str:
    return next((metric_of(one) for one in selectors(expr) if metric_of(one)), "this")


def _rates(rule: Rule, expr: pql.Expr, interval: timedelta | None) -> Iterator[Finding]:
    for node in walk(expr):
        if not isinstance(node, pql.Call) or node.func.name not in _RATES:
            continue
        matrix = node.args[0]
        if not isinstance(matrix, pql.MatrixSelector):
            continue
        name, function = metric_of(matrix.vector_selector), node.func.name
        metric = exported().get(name)
        if metric is not None and metric.is_gauge:
            message = f"{name} is a gauge, and {function} is for counters: use delta or deriv"
            yield finding(Kind.RATE_OF_GAUGE, rule.at_word(name), message)
        if interval is not None and matrix.range < 2 * interval:
            message = (
                f"{function} over {format_duration(matrix.range)} holds fewer than two samples"
                f" where Prometheus scrapes every {format_duration(interval)}"
            )
            yield finding(Kind.SHORT_RANGE, rule.at_word(name), message)


def _always(rule: Rule) -> Iterator[Finding]:
    expr = rule.expr
    while isinstance(expr, pql.ParenExpr):
        expr = expr.expr
    if not isinstance(expr, pql.BinaryExpr) or expr.modifier is None:
        return
    if expr.modifier.return_bool and not (is_scalar(expr.lhs) and is_scalar(expr.rhs)):
        message = "with bool the comparison yields 0 or 1 and never nothing, so this always fires"
        yield finding(Kind.ALWAYS_FIRES, rule.at_word("bool"), message)


def _annotations(rule: Rule, rules: RuleSet) -> Iterator[Finding]:
    needed = list(_NEEDED)
    neighbours = [one for one in rules.rules if one.file == rule.file and one.is_alert]
    if any(_RUNBOOK in one.annotations for one in neighbours):
        needed.append(_RUNBOOK)
    missing = [name for name in needed if not rule.annotations.get(name, "").strip()]
    if missing:
        message = f'alert "{rule.name}" has no {" and no ".join(missing)}'
        yield finding(Kind.NO_ANNOTATION, rule.at("alert"), message)
    branches = rules.branches(rule)
    for name, text in rule.annotations.items():
        for label in dict.fromkeys(_USED_LABEL.findall(text)):
            if label != "alertname" and branches and not _may_have(branches, label):
                message = f'the expression yields no label "{label}", so this is left blank'
                place = rule.at_entry("annotations", name)
                yield finding(Kind.ANNOTATION_LABEL, place, message)


def _may_have(branches: Iterable[Labels], label: str) -> bool:
    return any(one.may_have(label) for one in branches)
