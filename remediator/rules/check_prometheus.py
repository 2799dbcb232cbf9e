"""Checks of Prometheus' configuration against the rules that it should evaluate."""

import fnmatch
import os
from collections.abc import Iterator

import promql_parser as pql

from remediator.config.reader import did_you_mean
from remediator.rules.findings import Finding, Kind, finding
from remediator.rules.prometheus_file import PrometheusFile
from remediator.rules.promql import selectors
from remediator.rules.rule_file import Rule, RuleFile


def check_prometheus(file: PrometheusFile, rule_files: list[RuleFile]) -> Iterator[Finding]:
    """Yield what keeps the rules from being evaluated, or their alerts from being told."""
    if not file.has_alertmanager:
        message = "no Alertmanager is configured, so nobody hears of an alert"
        yield finding(Kind.NO_ALERTMANAGER, file.place, message)
    folder = os.path.dirname(os.path.abspath(file.file))
    patterns = [os.path.normpath(os.path.join(folder, one)) for one in file.rule_files]
    for rules in rule_files:
        path = os.path.abspath(rules.file)
        if not any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
            message = f"no pattern takes in {rules.file}"
            yield finding(Kind.RULES_NOT_LOADED, file.rule_files_place, message)
        for rule in rules.rules:
            yield from _jobs(file, rule)


def _jobs(file: PrometheusFile, rule: Rule) -> Iterator[Finding]:
    if rule.expr is None or not file.jobs:
        return
    for selector in selectors(rule.expr):
        for matcher in selector.matchers.matchers:
            if matcher.name != "job" or matcher.op != pql.MatchOp.Equal or not matcher.value:
                continue
            hint = did_you_mean(matcher.value, file.jobs)
            # A job may be left out on purpose; one that nearly has the name of another is not.
            if matcher.value not in file.jobs and hint:
                message = f'Prometheus scrapes no job "{matcher.value}"{hint}'
                yield finding(Kind.UNKNOWN_JOB, rule.at_word(matcher.value), message)
