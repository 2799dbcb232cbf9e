"""Checks against a running Prometheus: that it has what the rules use, and evaluates them."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import promql_parser as pql

from remediator.config.reader import did_you_mean
from remediator.errors import SourceError
from remediator.rules.findings import Finding, Kind, Place, finding
from remediator.rules.promql import PromqlError, metric_of, parse, selectors
from remediator.rules.rule_file import Rule
from remediator.rules.rule_set import RuleSet
from remediator.sources.deadline import DeadlineSession, NoAnswerError

_LARGEST = 64 * 1024 * 1024


class LivePrometheus:
    """What one Prometheus server says of itself; SourceError where it gives no answer.

    *timeout* is for each question with its whole answer.
    """

    def __init__(self, url: str, timeout: timedelta) -> None:
        self.url = url
        self._session = DeadlineSession(timeout.total_seconds(), _LARGEST)

    def metrics(self) -> frozenset[str]:
        """Return the names of all series that it has lately had."""
        return frozenset(self._get("/api/v1/label/__name__/values"))

    def labels(self, metric: str) -> frozenset[str]:
        """Return every label that series called *metric* have."""
        return frozenset(self._get("/api/v1/labels", **{"match[]": f'{{__name__="{metric}"}}'}))

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rules that it evaluates."""
        groups = dict(self._get("/api/v1/rules")).get("groups", [])
        return [rule for group in groups for rule in group.get("rules", [])]

    def alertmanagers(self) -> list[str]:
        """Return the Alertmanagers that it tells."""
        found = dict(self._get("/api/v1/alertmanagers")).get("activeAlertmanagers", [])
        return [str(one.get("url")) for one in found]

    def _get(self, path: str, **parameters: str) -> Any:
        try:
            status, text = self._session.get(self.url + path, parameters)
            body = json.loads(text)
            if status != HTTPStatus.OK or body.get("status") != "success":
                raise SourceError(f"Prometheus at {self.url} refused {path}: status {status}")
            return body["data"]
        except NoAnswerError as error:
            raise SourceError(f"no answer from Prometheus at {self.url}{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SourceError(f"no answer from Prometheus at {self.url}{path}") from error


def check_live(prometheus: LivePrometheus, rules: RuleSet) -> list[Finding]:
    """Return what *prometheus* lacks; that it gives no answer is a finding too."""
    found: list[Finding] = []
    try:
        found += _loaded(prometheus, rules)
        found += _series(prometheus, rules)
        if not prometheus.alertmanagers():
            message = "it tells no Alertmanager, so nobody hears of an alert"
            found.append(finding(Kind.NO_ALERTMANAGER_THERE, Place(prometheus.url), message))
    except SourceError as error:
        found.append(finding(Kind.NO_ANSWER, Place(prometheus.url), str(error)))
    return sorted(found, key=lambda one: one.order)


def _loaded(prometheus: LivePrometheus, rules: RuleSet) -> Iterator[Finding]:
    there: dict[str, list[Mapping[str, Any]]] = {}
    for one in prometheus.rules():
        there.setdefault(str(one.get("name")), []).append(one)
    for rule in rules.rules:
        place = rule.at("alert" if rule.is_alert else "record")
        loaded = there.get(rule.name, [])
        if not loaded:
            message = f'"{rule.name}" is not loaded there{did_you_mean(rule.name, there)}'
            yield finding(Kind.NOT_LOADED_THERE, place, message)
        elif rule.expr is not None and not any(_is_same(rule.expr, one) for one in loaded):
            message = f'"{rule.name}" has another expression there: reload Prometheus'
            yield finding(Kind.NOT_LOADED_THERE, place, message)
        for one in loaded:
            if one.get("health") == "err":
                message = f'"{rule.name}" fails there: {one.get("lastError")}'
                yield finding(Kind.RULE_FAILS, place, message)


def _is_same(expr: pql.Expr, loaded: Mapping[str, Any]) -> bool:
    try:
        return str(parse(str(loaded.get("query", "")))) == str(expr)
    except PromqlError:
        return False


def _series(prometheus: LivePrometheus, rules: RuleSet) -> Iterator[Finding]:
    there = prometheus.metrics()
    told: set[tuple[str, str]] = set()
    for rule in rules.rules:
        for selector in selectors(rule.expr) if rule.expr is not None else ():
            name = metric_of(selector)
            if not name or name == "ALERTS":
                continue
            if name not in there:
                if (name, "") not in told:
                    message = f"there is no series of {name} there{did_you_mean(name, there, 0.9)}"
                    yield finding(Kind.NO_SUCH_SERIES, rule.at_word(name), message)
                told.add((name, ""))
            else:
                yield from _series_labels(prometheus, rule, selector, told)


def _series_labels(
    prometheus: LivePrometheus,
    rule: Rule,
    selector: pql.VectorSelector,
    told: set[tuple[str, str]],
) -> Iterator[Finding]:
    name = metric_of(selector)
    wanted = [m.name for m in selector.matchers.matchers if m.name != "__name__" and _needs(m)]
    for label in wanted:
        if (name, label) in told:
            continue
        told.add((name, label))
        known = prometheus.labels(name)
        if label not in known:
            message = f'{name} has no label "{label}" there{did_you_mean(label, known)}'
            yield finding(Kind.NO_SUCH_SERIES_LABEL, rule.at_word(label), message)


def _needs(matcher: pql.Matcher) -> bool:
    """Tell whether a certain value is wanted; ``!=""`` picks whatever there is, if anything."""
    return matcher.op == pql.MatchOp.Equal and bool(matcher.value)
