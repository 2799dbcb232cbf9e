"""What Prometheus's confirmation promises, kept by Prometheus and by the fake alike.

The real one watches itself and an exporter that is down, and has a rule for each case.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from remediator.core.alerts import Alert
from remediator.core.observation import Source, Verdict
from remediator.errors import SourceError
from remediator.remediations.senses import Prometheus
from remediator.sources.prometheus import PrometheusSource
from tests.builders import HOUR, MINUTE, NOON, SECOND, an_alert
from tests.eventually import eventually
from tests.fakes import FakeFiring, FakePrometheus
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.prometheus import Prometheus as PrometheusPeer
from tests.peers.stage import Stage

FRESHNESS = 2 * MINUTE
C, D = "c" * 64, "d" * 64
RULES: dict[str, dict[str, Any]] = {
    "Firing": {"expr": 'up{job="self"} == 1', "labels": {"container_id": C}},
    "Odd": {"expr": "vector(1)", "labels": {"name": 'a"b\\c\nd{}'}},
    "Unaimed": {"expr": "vector(1)", "labels": {"severity": "warning"}},
    "Pending": {"expr": "vector(1)", "for": "1h", "labels": {"container_id": C}},
    "Quiet": {"expr": "vector(1) > 2", "labels": {"container_id": C}},
    "Down": {"expr": 'up{job="dead"} == 0', "labels": {"container_id": C}},
}


class Rig(Protocol):
    """A Prometheus in which the rules above are evaluated."""

    @property
    def prometheus(self) -> Prometheus: ...
    def labels(self, rule: str) -> dict[str, str]: ...
    def now(self) -> datetime: ...
    def stalled(self) -> Prometheus: ...
    def down(self) -> Prometheus: ...


class RealRig:
    def __init__(self, peer: PrometheusPeer, dead: str) -> None:
        self._instances = {"Firing": ("self", peer.address), "Down": ("dead", dead)}
        self._url = peer.url
        self.prometheus = PrometheusSource(peer.url, 5 * SECOND, FRESHNESS)

    def labels(self, rule: str) -> dict[str, str]:
        return own_labels(rule, *self._instances.get(rule, ("", "")))

    def now(self) -> datetime:
        return datetime.now(UTC)

    def stalled(self) -> Prometheus:
        # No evaluation is young enough for it.
        return PrometheusSource(self._url, 5 * SECOND, -SECOND)

    def down(self) -> Prometheus:
        return PrometheusSource(f"http://{LOOPBACK}:{free_port()}", SECOND, FRESHNESS)


class FakeRig:
    def __init__(self) -> None:
        self.prometheus = FakePrometheus(FRESHNESS)
        for rule in set(RULES) - {"Quiet"}:
            state = "pending" if rule == "Pending" else "firing"
            firing = FakeFiring(self.labels(rule), NOON - SECOND, state)
            self.prometheus.alerts.append(firing)
        self.prometheus.down.add("dead:1")

    def labels(self, rule: str) -> dict[str, str]:
        instance = {"Firing": ("self", "self:1"), "Down": ("dead", "dead:1")}
        return own_labels(rule, *instance.get(rule, ("", "")))

    def now(self) -> datetime:
        return NOON

    def stalled(self) -> Prometheus:
        old = [replace(alert, evaluated_ago=HOUR) for alert in self.prometheus.alerts]
        self.prometheus.alerts = old
        return self.prometheus

    def down(self) -> Prometheus:
        self.prometheus.silent = "connection refused"
        return self.prometheus


def own_labels(rule: str, job: str, instance: str) -> dict[str, str]:
    labels: dict[str, str] = {"alertname": rule, **RULES[rule]["labels"]}
    return {**labels, "job": job, "instance": instance} if job else labels


@pytest.fixture(scope="module")
def real_rig(module_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> RealRig:
    rules = tmp_path_factory.mktemp("rules") / "rules.yml"
    annotated = [
        {"alert": name, "annotations": {"summary": f"{name} it is"}, **rule}
        for name, rule in RULES.items()
    ]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": annotated}]}))
    peer, dead = _watching_itself(module_stage, rules)
    expected = {"Firing", "Odd", "Unaimed", "Down"}
    eventually(
        lambda: (
            {a["labels"]["alertname"] for a in peer.alerts() if a["state"] == "firing"} == expected
        ),
        30,
        f"{expected} fire",
    )
    return RealRig(peer, dead)


def _watching_itself(stage: Stage, rules: Path) -> tuple[PrometheusPeer, str]:
    dead = f"{LOOPBACK}:{free_port()}"
    peer = stage.prometheus([rules], {"dead": [dead]})
    peer.add_target("self", peer.address)
    return peer, dead


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.integration)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    yield request.getfixturevalue("real_rig")


def verdict(rig: Rig, labels: dict[str, str]) -> Verdict:
    found = rig.prometheus.confirm(alert_with(labels), rig.now())
    assert found.report.source is Source.PROMETHEUS
    assert found.report.says
    return found.report.verdict


def alert_with(labels: dict[str, str]) -> Alert:
    return an_alert(labels, name=labels["alertname"])


def test_an_alert_that_fires_there_is_confirmed_with_its_begin_and_its_texts(rig: Rig) -> None:
    found = rig.prometheus.confirm(alert_with(rig.labels("Firing")), rig.now())

    assert found.report.verdict is Verdict.AGREES
    assert found.active_since is not None
    assert timedelta() <= rig.now() - found.active_since < MINUTE
    assert "summary" in found.annotations


@pytest.mark.parametrize("rule", ["Odd", "Unaimed"])
def test_an_alert_is_found_by_its_labels_whatever_they_hold(rig: Rig, rule: str) -> None:
    assert verdict(rig, rig.labels(rule)) is Verdict.AGREES


def test_labels_that_alertmanager_was_sent_on_top_are_no_objection(rig: Rig) -> None:
    # external_labels are added on the way to Alertmanager.
    labels = {**rig.labels("Firing"), "cluster": "a", "replica": "1"}

    assert verdict(rig, labels) is Verdict.AGREES


@pytest.mark.parametrize("rule", ["Pending", "Quiet"])
def test_what_does_not_fire_is_not_confirmed(rig: Rig, rule: str) -> None:
    assert verdict(rig, rig.labels(rule)) is Verdict.DISAGREES


@pytest.mark.parametrize(
    ("rule", "forgery"),
    [
        pytest.param("Firing", {"container_id": D}, id="aimed at another container"),
        pytest.param("Firing", {"alertname": "Other"}, id="an alert that no rule makes"),
        pytest.param("Unaimed", {"container_id": D}, id="aimed by a label that was added"),
        pytest.param("Unaimed", {"UUID": "GPU-0"}, id="aimed at a GPU"),
        pytest.param("Odd", {"container_id": D}, id="aimed at something nearer"),
        pytest.param("Unaimed", {"severity": "critical"}, id="another severity"),
    ],
)
def test_a_forged_alert_is_not_confirmed(rig: Rig, rule: str, forgery: dict[str, str]) -> None:
    assert verdict(rig, {**rig.labels(rule), **forgery}) is Verdict.DISAGREES


def test_an_alert_that_lacks_a_label_of_the_rules_is_not_confirmed(rig: Rig) -> None:
    labels = rig.labels("Firing")
    del labels["job"]

    assert verdict(rig, labels) is Verdict.DISAGREES


def test_an_alert_whose_exporter_is_down_is_not_confirmed(rig: Rig) -> None:
    assert verdict(rig, rig.labels("Down")) is Verdict.SILENT


def test_that_an_exporter_is_down_can_be_confirmed_where_nothing_it_said_matters(rig: Rig) -> None:
    alert = alert_with(rig.labels("Down"))

    found = rig.prometheus.confirm(alert, rig.now(), exporter_must_answer=False)

    assert found.report.verdict is Verdict.AGREES


def test_an_old_evaluation_is_no_confirmation(rig: Rig) -> None:
    alert, now = alert_with(rig.labels("Firing")), rig.now()

    assert rig.stalled().confirm(alert, now).report.verdict is Verdict.SILENT


def test_a_confirmation_has_the_labels_that_prometheus_itself_has(rig: Rig) -> None:
    own = rig.labels("Firing")

    found = rig.prometheus.confirm(alert_with({**own, "cluster": "a"}), rig.now())

    assert found.labels == own


def test_a_prometheus_that_is_down_confirms_nothing(rig: Rig) -> None:
    alert, now = alert_with(rig.labels("Firing")), rig.now()
    down = rig.down()

    assert down.confirm(alert, now).report.verdict is Verdict.SILENT
    with pytest.raises(SourceError):
        down.samples("up", MINUTE)
    with pytest.raises(SourceError):
        down.value("up")


def test_an_expression_without_a_result_has_no_value(rig: Rig) -> None:
    assert rig.prometheus.value("nothing_of_this_name") is None
    assert rig.prometheus.samples(f'{{__name__="x",container_id="{D}"}}', MINUTE) == []
