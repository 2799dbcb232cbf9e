"""All rules together: which alerts there are, and which labels each may have.

Recording rules read one another and themselves, so what they yield is worked out in rounds until
nothing changes any more.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from remediator.core.matchers import Matcher
from remediator.rules.exported import exported
from remediator.rules.labels import ANYTHING, Branches, Labels, branches_of, each
from remediator.rules.rule_file import Rule
from remediator.rules.units import Unit, unit_in

_ROUNDS = 12
_NAME = "alertname"


class Match(enum.Enum):
    """Whether an alert meets a condition, as far as that is known before it fires."""

    NO = 0
    MAYBE = 1
    YES = 2


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule: the labels it sets itself, and those that its expression may yield."""

    rule: Rule
    labels: Mapping[str, str]
    branches: Branches

    @property
    def name(self) -> str:
        """Its name."""
        return self.rule.name

    def may_have(self, label: str) -> bool:
        """Tell whether an alert of this rule may have *label*."""
        return label in self.labels or any(one.may_have(label) for one in self.branches)

    def may_lack(self, label: str) -> bool:
        """Tell whether some branch of the expression does without *label*."""
        return label not in self.labels and any(not one.may_have(label) for one in self.branches)

    def meets(self, matcher: Matcher) -> Match:
        """Return whether an alert of this rule matches."""
        value = self.labels.get(matcher.label)
        if value is not None and "{{" not in value:
            return Match.YES if matcher.matches({matcher.label: value}) else Match.NO
        if value is None and not self.may_have(matcher.label):
            return Match.YES if matcher.matches({}) else Match.NO
        return Match.MAYBE

    def meets_all(self, matchers: Iterable[Matcher]) -> Match:
        """Return whether an alert of this rule matches all of *matchers*."""
        return min((self.meets(one) for one in matchers), key=_worth, default=Match.YES)


def _worth(match: Match) -> int:
    return match.value


class RuleSet:
    """Every rule of all files; *added* are labels that Prometheus gives to series or alerts."""

    def __init__(
        self,
        rules: Iterable[Rule],
        series_labels: frozenset[str] = frozenset(),
        alert_labels: frozenset[str] = frozenset(),
    ) -> None:
        self.rules = tuple(rules)
        self._series_labels = series_labels
        recording = [rule for rule in self.rules if not rule.is_alert]
        self.recorded: dict[str, tuple[Rule, ...]] = {}
        for rule in recording:
            self.recorded[rule.name] = (*self.recorded.get(rule.name, ()), rule)
        self._branches: dict[str, Branches] = {name: frozenset() for name in self.recorded}
        self._units: dict[str, Unit | None] = {}
        self._settle()
        self.alerts = tuple(
            self._alert(rule, alert_labels) for rule in self.rules if rule.is_alert and rule.name
        )

    def names(self) -> list[str]:
        """Return the names of all alerts, each once."""
        return list(dict.fromkeys(alert.name for alert in self.alerts))

    def of_metric(self, name: str) -> Branches:
        """Return which labels a series called *name* may have."""
        if name in self.recorded:
            return self._branches[name]
        metric = exported().get(name)
        if metric is None or metric.labels is None:
            return ANYTHING
        return each(metric.branches, lambda labels: labels.plus(self._series_labels))

    def unit_of(self, name: str) -> Unit | None:
        """Return the unit of what a rule records under *name*."""
        if name not in self.recorded:
            return None
        if name not in self._units:
            # A rule that reads itself has whatever unit the rest of it has.
            self._units[name] = None
            units = {
                unit_in(rule.expr, self.unit_of)
                for rule in self.recorded[name]
                if rule.expr is not None
            }
            self._units[name] = units.pop() if len(units) == 1 else None
        return self._units[name]

    def branches(self, rule: Rule) -> Branches:
        """Return what the expression of *rule* may yield, with the labels that the rule sets."""
        if rule.expr is None:
            return ANYTHING
        found = branches_of(rule.expr, self.of_metric)
        return each(found, lambda labels: labels.plus(rule.labels))

    def _settle(self) -> None:
        for _ in range(_ROUNDS):
            found = {
                name: frozenset[Labels]().union(*(self.branches(rule) for rule in rules))
                for name, rules in self.recorded.items()
            }
            if found == self._branches:
                return
            self._branches = found
        self._branches = dict.fromkeys(self.recorded, ANYTHING)

    def _alert(self, rule: Rule, added: frozenset[str]) -> Alert:
        branches = each(self.branches(rule), lambda labels: labels.plus(added))
        return Alert(rule, {**rule.labels, _NAME: rule.name}, branches)
