"""Checks of the policy against the alerts that the rules can raise."""

from collections.abc import Iterator, Mapping, Sequence

import promql_parser as pql

from remediator.config.reader import did_you_mean
from remediator.core.catalogue import offer_of
from remediator.core.matchers import Matcher
from remediator.core.policy import Audience, Policy, PolicyRule, Rung
from remediator.rules.findings import Finding, Kind, finding
from remediator.rules.labels import is_scalar
from remediator.rules.policy_nodes import PolicyFile
from remediator.rules.promql import metric_of, selectors, walk
from remediator.rules.rule_set import Alert, Match, RuleSet

# The labels that say exactly what a remediation acts on; the target is looked up by them.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "stop-container": ("container_id",),
    "remove-container": ("container_id",),
    "kill-orphan": ("UUID", "pid", "start_ticks"),
    "reset-gpu": ("UUID",),
    "cap-power": ("UUID",),
    "restart-dcgm": ("instance",),
    "restart-service": ("instance",),
    "notify-only": (),
}
# An alert with one of these can be followed to a person.
_OWNED = ("user", "container_id", "container", "pid")


def candidates(policy: Policy, alert: Alert) -> list[int]:
    """Return the policy rules that may be the one for *alert*, in order."""
    found = []
    for number, rule in enumerate(policy.rules):
        match = alert.meets_all(rule.matchers)
        if match is not Match.NO:
            found.append(number)
        if match is Match.YES:
            break
    return found


def acts(rule: PolicyRule) -> bool:
    """Tell whether *rule* does more than tell people."""
    return any(offer_of(rung.remediation).acts for rung in rule.rungs)


def check_policy(file: PolicyFile, rules: RuleSet) -> Iterator[Finding]:
    """Yield what does not fit between the policy and the alerts, if any were read."""
    policy = file.policy
    if not rules.alerts:
        return
    chosen = [(alert, candidates(policy, alert)) for alert in rules.alerts]
    reached = frozenset(number for _, numbers in chosen for number in numbers)
    for number, rule in enumerate(policy.rules):
        yield from _matched(file, number, rule, rules, is_reached=number in reached)
    for alert, numbers in chosen:
        if not numbers:
            names = _named(policy)
            hint = did_you_mean(alert.name, [name for name in names if name not in rules.names()])
            message = f'no policy rule matches alert "{alert.name}"{hint}'
            yield finding(Kind.NO_POLICY_RULE, alert.rule.at("alert"), message)
        for number in numbers:
            yield from _fits(file, number, alert, rules)


def _named(policy: Policy) -> list[str]:
    return [
        name
        for rule in policy.rules
        for matcher in rule.matchers
        if matcher.label == "alertname"
        for name in names_in(matcher)
    ]


def names_in(matcher: Matcher) -> list[str]:
    """Return the names that *matcher* lists, none if it does not list them one by one."""
    if matcher.operator == "=":
        return [matcher.value]
    names = matcher.value.split("|")
    listed = matcher.operator == "=~" and all(name.isidentifier() for name in names)
    return names if listed else []


def _matched(
    file: PolicyFile,
    number: int,
    rule: PolicyRule,
    rules: RuleSet,
    *,
    is_reached: bool,
) -> Iterator[Finding]:
    """Report what a policy rule matches in vain."""
    known = rules.names()
    unknown = list(_unknown_names(rule, known))
    for position, name in unknown:
        message = f'there is no alert "{name}"{did_you_mean(name, known)}'
        yield finding(Kind.NAMES_NO_ALERT, file.at("rules", number, "match", position), message)
    if any(alert.meets_all(rule.matchers) is not Match.NO for alert in rules.alerts):
        if not is_reached:
            yield _shadowed(file, number, rule, rules)
        return
    missing = list(_never_yielded(rule, rules.alerts))
    for position, matcher in missing:
        place = file.at("rules", number, "match", position)
        labels = sorted({label for alert in rules.alerts for label in _labels(alert)})
        hint = did_you_mean(matcher.label, labels)
        message = f'no alert that this is about has a label "{matcher.label}"{hint}'
        yield finding(Kind.LABEL_NOT_YIELDED, place, message)
    if not unknown and not missing:
        message = f'policy rule "{rule.name}" matches no alert'
        yield finding(Kind.MATCHES_NO_ALERT, file.at("rules", number, "match"), message)


def _unknown_names(rule: PolicyRule, known: Sequence[str]) -> Iterator[tuple[int, str]]:
    for position, matcher in enumerate(rule.matchers):
        if matcher.label == "alertname":
            for name in names_in(matcher):
                if name not in known:
                    yield position, name


def _shadowed(file: PolicyFile, number: int, rule: PolicyRule, rules: RuleSet) -> Finding:
    earlier = next(
        other.name
        for alert in rules.alerts
        if alert.meets_all(rule.matchers) is not Match.NO
        for other in file.policy.rules[:number]
        if alert.meets_all(other.matchers) is Match.YES
    )
    message = f'never reached: "{earlier}" before it takes every alert that it matches'
    return finding(Kind.SHADOWED, file.at("rules", number, "match"), message)


def _never_yielded(rule: PolicyRule, alerts: Sequence[Alert]) -> Iterator[tuple[int, Matcher]]:
    """Yield the matchers that want a label which none of the alerts in question can have."""
    names = [one for one in rule.matchers if one.label == "alertname"]
    about = [alert for alert in alerts if alert.meets_all(names) is not Match.NO]
    for position, matcher in enumerate(rule.matchers):
        wanted = not matcher.matches({})
        if wanted and about and not any(alert.may_have(matcher.label) for alert in about):
            yield position, matcher


def _labels(alert: Alert) -> set[str]:
    return {*alert.labels, *(name for branch in alert.branches for name in branch.names)}


def _fits(file: PolicyFile, number: int, alert: Alert, rules: RuleSet) -> Iterator[Finding]:
    """Report what the alert lacks that the policy rule needs of it."""
    rule = file.policy.rules[number]
    for rung in rule.rungs:
        lost = [label for label in NEEDS[rung.remediation] if alert.may_lack(label)]
        if lost:
            yield _dropped(alert, rung, rule, lost)
    told = [*rule.tell, *rule.escalate, *(rule.warn.tell if rule.warn else ())]
    if Audience.OWNER in told and not any(alert.may_have(label) for label in _OWNED):
        message = (
            f'alert "{alert.name}" says nothing of a user or container: it has no owner to tell'
        )
        yield finding(Kind.NO_OWNER, file.at("rules", number, "tell"), message)
    if acts(rule) and not alert.rule.waits and _is_raw(alert, rules):
        message = f'a single sample is enough to act on "{alert.name}": give it a "for"'
        yield finding(Kind.NO_FOR, alert.rule.at("alert"), message)


def _dropped(alert: Alert, rung: Rung, rule: PolicyRule, lost: list[str]) -> Finding:
    somewhere = any(alert.may_have(label) for label in lost)
    where = "a branch of the expression drops" if somewhere else "the expression drops"
    message = f'{where} {" and ".join(lost)}, which {rung.remediation} of "{rule.name}" needs'
    return finding(Kind.LABEL_DROPPED, alert.rule.at("expr"), message)


def _is_raw(alert: Alert, rules: RuleSet) -> bool:
    """Tell whether the alert looks at nothing but the latest sample of what is exported."""
    expr = alert.rule.expr
    if expr is None or is_scalar(expr):
        return False
    names = [metric_of(one) for one in selectors(expr)]
    if not names or any(name in rules.recorded for name in names):
        return False
    return not any(isinstance(node, pql.MatrixSelector | pql.SubqueryExpr) for node in walk(expr))
