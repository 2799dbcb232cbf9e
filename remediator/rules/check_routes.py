"""Checks of Alertmanager's configuration: that every alert reaches Remediator, whole and at once.

The routing tree is walked as Alertmanager walks it: an alert takes the first child that matches
and, where that says ``continue``, the ones after it; without a child that matches it stays.
Source: dispatch/route.go of Alertmanager 0.25.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from remediator.config.reader import did_you_mean
from remediator.config.settings import Address, Settings
from remediator.core.policy import Policy
from remediator.rules.alertmanager_file import AlertmanagerFile, Receiver, Route, Webhook
from remediator.rules.check_policy import NEEDS, acts, candidates
from remediator.rules.findings import Finding, Kind, finding
from remediator.rules.rule_set import Alert, Match, RuleSet

OURS = "remediator"
WEBHOOK_PATH = "/api/v1/alerts"
_EVERY_LABEL = "..."


def check_routes(
    file: AlertmanagerFile, rules: RuleSet, policy: Policy | None, settings: Settings | None
) -> Iterator[Finding]:
    """Yield what keeps alerts from Remediator, or cuts them off on the way."""
    receivers = _ours(file)
    if not receivers:
        names = [one.name for one in file.receivers]
        message = f'there is no receiver called "{OURS}"{did_you_mean(OURS, names)}'
        yield finding(Kind.NO_RECEIVER, file.receivers_place, message)
        return
    for receiver in receivers:
        yield from _receiver(receiver, settings)
    if file.route is None:
        return
    told: set[Finding] = set()
    for alert in rules.alerts:
        for one in _routed(file.route, alert, policy):
            if one not in told:
                told.add(one)
                yield one


def _is_ours(receiver: str) -> bool:
    return receiver == OURS or receiver.startswith(f"{OURS}-")


def _ours(file: AlertmanagerFile) -> list[Receiver]:
    """Return the receivers that post to Remediator: one, or one for each GPU host."""
    return [one for one in file.receivers if _is_ours(one.name)]


def routes_of(route: Route, alert: Alert) -> list[Route]:
    """Return the routes that *alert* may take, or none if it does not match *route* itself."""
    if alert.meets_all(route.matchers) is Match.NO:
        return []
    found: list[Route] = []
    stays = True
    for child in route.routes:
        below = routes_of(child, alert)
        found += below
        sure = alert.meets_all(child.matchers) is Match.YES
        stays = stays and not sure
        if sure and not child.goes_on:
            break
    return [*found, route] if stays else found


def _receiver(receiver: Receiver, settings: Settings | None) -> Iterator[Finding]:
    if not receiver.webhooks:
        message = f'receiver "{receiver.name}" has no webhook, so nothing reaches us'
        yield finding(Kind.NO_RECEIVER, receiver.place, message)
    for hook in receiver.webhooks:
        if hook.url:
            yield from _url(hook, settings)
        if not hook.send_resolved:
            message = "Remediator is never told that an alert is over: leave send_resolved true"
            yield finding(Kind.NOT_TOLD_RESOLVED, hook.at("send_resolved"), message)
        if hook.max_alerts:
            message = f"alerts beyond the first {hook.max_alerts} of a group never arrive: write 0"
            yield finding(Kind.TRUNCATES, hook.at("max_alerts"), message)


def _url(hook: Webhook, settings: Settings | None) -> Iterator[Finding]:
    try:
        parts = urlsplit(hook.url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    if parts.path.rstrip("/") != WEBHOOK_PATH or not host:
        message = f'"{hook.url}" does not end in {WEBHOOK_PATH}, where deliveries are taken'
        yield finding(Kind.WEBHOOK_PATH, hook.at("url"), message)
    if hook.has_token or not host:
        return
    if not Address(host, port or 0).is_loopback:
        message = f"{host} is not this machine, and without a token deliveries are refused"
        yield finding(Kind.NO_TOKEN, hook.at("url"), message)
    elif settings is not None and settings.token_file is not None:
        message = "the settings name a token_file, and without the token deliveries are refused"
        yield finding(Kind.NO_TOKEN, hook.at("url"), message)


def check_port(file: AlertmanagerFile, settings: Settings) -> Iterator[Finding]:
    """Yield a webhook on this machine that knocks at another port than the receiver's."""
    for hook in (hook for receiver in _ours(file) for hook in receiver.webhooks):
        try:
            parts = urlsplit(hook.url)
            host, port = parts.hostname or "", parts.port or 80
        except ValueError:
            continue
        if host and Address(host, port).is_loopback and port != settings.listen.port:
            message = (
                f"it knocks at port {port}, and the settings let us listen at {settings.listen}"
            )
            yield finding(Kind.OTHER_PORT, hook.at("url"), message)


def _routed(top: Route, alert: Alert, policy: Policy | None) -> Iterator[Finding]:
    ours = [route for route in routes_of(top, alert) if _is_ours(route.receiver)]
    if not ours:
        if policy is None or candidates(policy, alert):
            message = f'alert "{alert.name}" never reaches receiver "{OURS}"'
            yield finding(Kind.NOT_ROUTED, alert.rule.at("alert"), message)
        return
    for route in ours:
        if route.muted_at is not None:
            message = "at some times alerts do not reach Remediator on this route"
            yield finding(Kind.MUTED_AT_TIMES, route.muted_at, message)
        yield from _grouped(route, alert, policy)


def _grouped(route: Route, alert: Alert, policy: Policy | None) -> Iterator[Finding]:
    """Report a grouping in which the targets of one remediation share a delivery."""
    if policy is None or _EVERY_LABEL in route.group_by:
        return
    for number in candidates(policy, alert):
        rule = policy.rules[number]
        if not acts(rule):
            continue
        lost = [
            label
            for rung in rule.rungs
            for label in NEEDS[rung.remediation]
            if label not in route.group_by and alert.may_have(label)
        ]
        if lost:
            message = (
                f"targets of {rule.rungs[0].remediation} share a group, so one waits for another:"
                f" group by {' and '.join(dict.fromkeys(lost))} too, or by ['...']"
            )
            yield finding(Kind.LUMPED, route.group_by_place, message)
