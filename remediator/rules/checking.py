"""Run every check over what was gathered."""

from collections.abc import Iterator

from remediator.rules.check_inhibitions import check_inhibitions
from remediator.rules.check_ladders import check_ladders
from remediator.rules.check_policy import check_policy
from remediator.rules.check_prometheus import check_prometheus
from remediator.rules.check_routes import check_port, check_routes
from remediator.rules.check_rules import check_rules
from remediator.rules.findings import Finding
from remediator.rules.gathered import Gathered
from remediator.rules.rule_set import RuleSet


def rule_set_of(gathered: Gathered) -> RuleSet:
    """Return all rules that were read, as one set."""
    rules = [rule for file in gathered.rule_files for rule in file.rules]
    prometheus = gathered.prometheus
    if prometheus is None:
        return RuleSet(rules)
    return RuleSet(rules, prometheus.series_labels, prometheus.alert_labels)


def check(gathered: Gathered) -> list[Finding]:
    """Return everything that was found, in order of place, each finding once."""
    found = {*gathered.findings, *_checks(gathered, rule_set_of(gathered))}
    return sorted(found, key=lambda one: one.order)


def _checks(gathered: Gathered, rules: RuleSet) -> Iterator[Finding]:
    prometheus, alertmanager = gathered.prometheus, gathered.alertmanager
    settings = gathered.settings
    policy = gathered.policy.policy if gathered.policy else None
    yield from check_rules(rules, prometheus.interval if prometheus else None)
    if gathered.policy is not None:
        yield from check_policy(gathered.policy, rules)
        yield from check_ladders(gathered.policy, gathered.limits)
    if alertmanager is not None:
        yield from check_routes(alertmanager, rules, policy, settings)
        if settings is not None:
            yield from check_port(alertmanager, settings)
        if policy is not None:
            yield from check_inhibitions(alertmanager, rules, policy)
    if prometheus is not None:
        yield from check_prometheus(prometheus, gathered.rule_files)
