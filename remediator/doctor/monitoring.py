"""Whether alerts come about and reach us: Prometheus, its rules, targets, and the routes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml

from remediator.config.policy import read_policy
from remediator.config.settings import Settings
from remediator.core.policy import PolicyRule
from remediator.doctor.examination import AilmentError, Check
from remediator.doctor.web import Web, json_page, page

WEBHOOK_PATH = "/api/v1/alerts"
_ALERTNAME = "alertname"


class Monitoring:
    """Prometheus and Alertmanager, as *settings* name them."""

    def __init__(self, settings: Settings, web: Web) -> None:
        self._settings = settings
        self._web = web
        self._prometheus = settings.prometheus_url
        self._alertmanager = settings.alertmanager_url

    def checks(self) -> Iterator[Check]:
        """Return what there is to look at."""
        yield Check("prometheus", self._is_there, "start it, or mend prometheus_url")
        yield Check(
            "rules",
            self._rules,
            "load alert_rules/*.yml (rule_files in prometheus.yml) and reload Prometheus",
            needs=("prometheus", "policy"),
        )
        yield Check(
            "targets",
            self._targets,
            "start what is down, or take it out of scrape_configs",
            needs=("prometheus", "exporter", "worker", "receiver"),
        )
        yield Check("alertmanager", self._is_ready, "start it, or mend alertmanager_url")
        yield Check(
            "alerting",
            self._alerting,
            "name Alertmanager under alerting in prometheus.yml",
            needs=("prometheus", "alertmanager"),
        )
        yield Check(
            "route",
            self._route,
            'take the route and the receiver "remediator" of alertmanager/alertmanager.yml into'
            " yours",
            needs=("alertmanager",),
        )

    def _is_there(self) -> str:
        build = self._data("/api/v1/status/buildinfo")
        return f"version {build.get('version', 'unknown')} at {self._prometheus}"

    def _rules(self) -> str:
        rules = [
            rule
            for group in self._list("/api/v1/rules?type=alert", "groups")
            for rule in group.get("rules", [])
        ]
        failing = sorted({rule["name"] for rule in rules if rule.get("health") == "err"})
        if failing:
            raise AilmentError(
                f"cannot be evaluated: {_some(failing)}",
                f"see what {self._prometheus}/rules says of them",
            )
        names = {str(rule["name"]) for rule in rules}
        policy = read_policy(self._settings.policy)
        orphans = [rule.name for rule in policy.rules if not _is_met(rule, names)]
        if orphans:
            raise AilmentError(f"no alert leads to the policy's {_some(orphans)}")
        return f"{len(names)} alerts, and each policy rule has some"

    def _targets(self) -> str:
        targets = self._list("/api/v1/targets?state=active", "activeTargets")
        if not targets:
            raise AilmentError("Prometheus scrapes nothing")
        down = sorted(
            f"{target['labels'].get('job')} at {target['labels'].get('instance')}"
            for target in targets
            if target.get("health") == "down"
        )
        if down:
            raise AilmentError(f"down: {_some(down)}")
        return f"{len(targets)}, none of them down"

    def _is_ready(self) -> str:
        page(self._web, f"{self._alertmanager}/-/ready")
        return f"ready at {self._alertmanager}"

    def _alerting(self) -> str:
        known = self._list("/api/v1/alertmanagers", "activeAlertmanagers")
        if not known:
            raise AilmentError("Prometheus sends its alerts to no Alertmanager")
        return ", ".join(str(urlsplit(one["url"]).netloc) for one in known)

    def _route(self) -> str:
        status = json_page(self._web, f"{self._alertmanager}/api/v2/status")
        try:
            config = yaml.safe_load(status["config"]["original"])
        except (KeyError, TypeError, yaml.YAMLError) as error:
            raise AilmentError("Alertmanager does not tell its configuration") from error
        names = [
            str(receiver.get("name"))
            for receiver in config.get("receivers") or []
            if any(self._reaches_us(hook) for hook in receiver.get("webhook_configs") or [])
        ]
        if not names:
            raise AilmentError(
                f"no receiver posts to port {self._settings.listen.port}{WEBHOOK_PATH}"
            )
        routed = set(_receivers(config.get("route") or {}))
        unused = [name for name in names if name not in routed]
        if unused == names:
            raise AilmentError(f"no route leads to the receiver {names[0]}")
        return f"leads to the receiver {names[0]}"

    def _reaches_us(self, webhook: Mapping[str, Any]) -> bool:
        """Tell whether it posts to our port; the host may be a name, or the end of a tunnel."""
        url = urlsplit(str(webhook.get("url", "")))
        return url.port == self._settings.listen.port and url.path == WEBHOOK_PATH

    def _data(self, path: str) -> Mapping[str, Any]:
        data = json_page(self._web, self._prometheus + path).get("data")
        if not isinstance(data, dict):
            raise AilmentError(f"{self._prometheus}{path} is not Prometheus's answer")
        return data

    def _list(self, path: str, name: str) -> Sequence[Mapping[str, Any]]:
        found = self._data(path).get(name)
        return found if isinstance(found, list) else []


def _is_met(rule: PolicyRule, alerts: set[str]) -> bool:
    """Tell whether one of *alerts* may lead to *rule*, as far as names go."""
    matchers = [matcher for matcher in rule.matchers if matcher.label == _ALERTNAME]
    return any(all(m.matches({_ALERTNAME: name}) for m in matchers) for name in alerts)


def _receivers(route: Mapping[str, Any]) -> Iterator[str]:
    if "receiver" in route:
        yield str(route["receiver"])
    for child in route.get("routes") or []:
        yield from _receivers(child)


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
