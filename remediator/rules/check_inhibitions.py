"""Checks of Alertmanager's inhibition: an alert that is acted on must not be muted by mistake.

A muted alert reaches nobody, Remediator neither, and looks as if it had resolved. That is right
only where what mutes it says that the same target is worse off, and is itself in the policy.
Source: inhibit/inhibit.go of Alertmanager 0.25, where two missing labels are equal.
"""

from collections.abc import Iterator, Mapping

from remediator.core.catalogue import Kind as TargetKind
from remediator.core.catalogue import offer_of
from remediator.core.policy import Policy, PolicyRule
from remediator.rules.alertmanager_file import AlertmanagerFile, Inhibition
from remediator.rules.check_policy import candidates
from remediator.rules.findings import Finding, Kind, finding
from remediator.rules.rule_set import Alert, Match, RuleSet

# Any one of these, equal on both sides, says that both alerts are about the same thing.
_SAME: Mapping[TargetKind, tuple[str, ...]] = {
    TargetKind.CONTAINER: ("container_id",),
    TargetKind.PROCESS: ("start_ticks", "pid"),
    TargetKind.GPU: ("UUID",),
    TargetKind.SERVICE: ("instance", "host", "name"),
}


def check_inhibitions(file: AlertmanagerFile, rules: RuleSet, policy: Policy) -> Iterator[Finding]:
    """Yield the inhibition rules that may mute an alert which the policy acts on."""
    acted = [(alert, rule) for alert in rules.alerts for rule in _acting(policy, alert)]
    for inhibition in file.inhibitions:
        trouble = next(_muted(inhibition, rules, policy, acted), None)
        if trouble is not None:
            yield finding(Kind.INHIBITED, inhibition.place, trouble)


def _acting(policy: Policy, alert: Alert) -> Iterator[PolicyRule]:
    for number in candidates(policy, alert):
        rule = policy.rules[number]
        if any(offer_of(rung.remediation).acts for rung in rule.rungs):
            yield rule
            return


def _muted(
    inhibition: Inhibition,
    rules: RuleSet,
    policy: Policy,
    acted: list[tuple[Alert, PolicyRule]],
) -> Iterator[str]:
    for target, rule in acted:
        if target.meets_all(inhibition.target) is Match.NO:
            continue
        for source in rules.alerts:
            if source.rule is target.rule or not _may_mute(inhibition, source, target):
                continue
            why = _why_wrong(inhibition, source, rule, policy)
            if why is not None:
                yield (
                    f'"{source.name}" may mute "{target.name}", which "{rule.name}" acts on: {why}'
                )


def _may_mute(inhibition: Inhibition, source: Alert, target: Alert) -> bool:
    if source.meets_all(inhibition.source) is Match.NO:
        return False
    # An alert that both sides match is never muted by another such one.
    if target.meets_all(inhibition.source) is Match.YES and (
        source.meets_all(inhibition.target) is Match.YES
    ):
        return False
    return all(_may_be_equal(label, source, target) for label in inhibition.equal)


def _may_be_equal(label: str, source: Alert, target: Alert) -> bool:
    one, other = source.labels.get(label), target.labels.get(label)
    if one is not None and other is not None:
        return one == other
    return source.may_have(label) == target.may_have(label)


def _why_wrong(
    inhibition: Inhibition, source: Alert, rule: PolicyRule, policy: Policy
) -> str | None:
    kinds = {offer_of(rung.remediation).kind for rung in rule.rungs} - {TargetKind.ANYTHING}
    same = [label for kind in kinds for label in _SAME[kind] if label in inhibition.equal]
    if not same:
        needed = " or ".join(label for kind in kinds for label in _SAME[kind])
        return f"the two may be about different targets, since equal has no {needed}"
    if not any(one.label in same and not one.matches({}) for one in inhibition.source):
        return f'two alerts without {same[0]} are equal: add {same[0]}!="" to the source'
    if not candidates(policy, source):
        return f'and no policy rule matches "{source.name}"'
    return None
