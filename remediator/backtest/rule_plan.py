"""In which order rules are evaluated over many moments, and how far back each looks.

A rule that reads what another records comes after it. Rules that read each other or themselves, as
a clock does, are evaluated together, moment by moment.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from remediator.backtest.compiling import UnsupportedError, compiled, walk
from remediator.backtest.functions import OverTime
from remediator.backtest.label_templates import LabelTemplate
from remediator.backtest.run import Node
from remediator.backtest.selecting import RangeOfSelector, Selector, Subquery
from remediator.errors import ConfigError, Problem
from remediator.rules.rule_file import Rule

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a group is evaluated: at *phase* and every *interval* from there, in milliseconds."""

    interval: int
    phase: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class PlannedRule:
    """A rule that can be evaluated; rules are in the order of their *position*."""

    name: str
    is_alert: bool
    position: int
    node: Node
    timing: Timing
    labels: tuple[LabelTemplate, ...] = ()
    waits_for: int = 0
    keeps_for: int = 0
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """The rules in parts: each can be evaluated once those before it have been.

    *scraped* are the metrics that no rule records. *keep* is how many milliseconds of each metric
    the rules look back.
    """

    parts: tuple[tuple[PlannedRule, ...], ...]
    scraped: frozenset[str]
    keep: Mapping[str, int] = field(default_factory=dict)

    @property
    def rules(self) -> tuple[PlannedRule, ...]:
        """All rules, by position."""
        found = (rule for part in self.parts for rule in part)
        return tuple(sorted(found, key=lambda rule: rule.position))

    def is_recursive(self, part: Sequence[PlannedRule]) -> bool:
        """Tell whether the rules of *part* read each other, or one itself."""
        return len(part) > 1 or part[0].name in part[0].reads


def plan_rules(
    rules: Iterable[Rule], timings: Mapping[str, Timing], usual: Timing, lookback: int
) -> Plan:
    """Return the plan for *rules*; ConfigError names what cannot be evaluated, with its place.

    *timings* are those of the groups by name; other groups have the *usual* one, or their own
    interval.
    """
    planned: list[PlannedRule] = []
    problems: list[Problem] = []
    for position, rule in enumerate(rules):
        timing = timings.get(rule.group, usual)
        if rule.interval is not None and timing.interval != _milliseconds(rule.interval):
            timing = Timing(_milliseconds(rule.interval))
        try:
            planned.append(_planned(rule, position, timing))
        except UnsupportedError as error:
            place = rule.at_word(error.word) if error.word else rule.at("expr")
            problems.append(Problem(place.file, place.line, place.column, place.path, str(error)))
    if problems:
        raise ConfigError(problems)
    return plan(planned, lookback)


def plan(planned: Sequence[PlannedRule], lookback: int) -> Plan:
    """Return the plan for rules that can be evaluated."""
    recorded = {rule.name for rule in planned if not rule.is_alert}
    reads = frozenset().union(*(rule.reads for rule in planned)) if planned else frozenset()
    keep: dict[str, int] = {}
    for rule in planned:
        for metric, length in looks_back(rule.node, lookback).items():
            # What a rule recorded is read an evaluation later.
            keep[metric] = max(keep.get(metric, 0), length + 2 * rule.timing.interval)
    return Plan(_parts(planned), reads - recorded, keep)


def _planned(rule: Rule, position: int, timing: Timing) -> PlannedRule:
    if rule.expr is None:
        raise UnsupportedError("", "an expression is missing")
    node = compiled(rule.expr)
    return PlannedRule(
        name=rule.name,
        is_alert=rule.is_alert,
        position=position,
        node=node,
        timing=timing,
        labels=tuple(LabelTemplate.of(name, text) for name, text in sorted(rule.labels.items())),
        waits_for=_milliseconds(rule.waits_for),
        keeps_for=_milliseconds(rule.keeps_for),
        reads=reads_of(node),
    )


def reads_of(node: Node) -> frozenset[str]:
    """Return the metrics that an expression reads."""
    return frozenset(part.metric for part in walk(node) if isinstance(part, Selector))


def looks_back(node: Node, lookback: int) -> dict[str, int]:
    """Return how many milliseconds of each metric an expression looks back."""
    if isinstance(node, Selector):
        return {node.metric: lookback + node.offset}
    extra = 0
    if isinstance(node, OverTime):
        ranged = node.ranged
        if isinstance(ranged, RangeOfSelector):
            selector = ranged.selector
            return {selector.metric: ranged.length + selector.offset}
        if isinstance(ranged, Subquery):
            extra = ranged.length + ranged.offset
    found: dict[str, int] = {}
    for part in node.parts():
        for metric, length in looks_back(part, lookback).items():
            found[metric] = max(found.get(metric, 0), length + extra)
    return found


def _parts(rules: Sequence[PlannedRule]) -> tuple[tuple[PlannedRule, ...], ...]:
    """Return the rules so that each comes after those it reads; those in a circle together."""
    circles = _Circles(rules)
    for rule in rules:
        circles.visit(rule)
    return tuple(circles.order)


class _Circles:
    """Tarjan's search: a part is complete once no rule of it reads one that is still open."""

    def __init__(self, rules: Sequence[PlannedRule]) -> None:
        self.order: list[tuple[PlannedRule, ...]] = []
        self._writers: dict[str, list[PlannedRule]] = {}
        for rule in rules:
            if not rule.is_alert:
                self._writers.setdefault(rule.name, []).append(rule)
        self._index: dict[int, int] = {}
        self._low: dict[int, int] = {}
        self._open: list[PlannedRule] = []

    def visit(self, rule: PlannedRule) -> None:
        """Put *rule* in order, after what it reads."""
        here = rule.position
        if here in self._index:
            return
        self._index[here] = self._low[here] = len(self._index)
        self._open.append(rule)
        for metric in sorted(rule.reads):
            for other in self._writers.get(metric, ()):
                self.visit(other)
                if other in self._open:
                    self._low[here] = min(self._low[here], self._low[other.position])
        if self._low[here] == self._index[here]:
            cut = self._open.index(rule)
            part, self._open[cut:] = self._open[cut:], []
            self.order.append(tuple(sorted(part, key=lambda one: one.position)))


def _milliseconds(found: timedelta) -> int:
    return round(found / _MILLISECOND)
