"""No alert lacks its texts, tests, runbook or route, and none of these outlives its alert."""

from pathlib import Path
from typing import Any

import pytest

from tests.alert_rules.shipped import (
    ALERTMANAGER,
    RULE_FILES,
    RUNBOOKS,
    alerts,
    promtool_cases,
    read,
    route_cases,
    rules,
)

NAMES = {alert["alert"] for alert in alerts()}
HEADINGS = ["Meaning", "Impact", "What Remediator does", "Diagnosis", "Mitigation"]
# An alert of somebody else's and one without a severity, which prove that nothing is lost.
STRANGERS = {"SomebodyElsesAlert", "NoSeverity"}

each_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
each_runbook = pytest.mark.parametrize(
    "path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem
)


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_file_has_one_group_named_after_it(path: Path) -> None:
    assert [group["name"] for group in read(path)["groups"]] == [path.stem]


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_group_is_evaluated_at_the_interval_of_the_installation(path: Path) -> None:
    assert [group for group in read(path)["groups"] if "interval" in group] == []


def test_no_name_is_given_to_two_rules() -> None:
    names = [rule.get("alert", rule.get("record")) for rule in rules()]

    assert sorted(set(names)) == sorted(names)


@each_alert
def test_an_alert_has_severity_and_texts_and_nothing_else(alert: dict[str, Any]) -> None:
    assert set(alert["labels"]) == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}


@each_alert
def test_a_summary_is_one_fixed_sentence(alert: dict[str, Any]) -> None:
    summary = alert["annotations"]["summary"]

    assert "{{" not in summary
    assert summary.endswith(".")
    assert summary.count(".") == 1


@each_alert
def test_a_description_names_the_target(alert: dict[str, Any]) -> None:
    assert "$labels.instance" in alert["annotations"]["description"]


@each_alert
def test_an_alert_links_to_its_own_runbook(alert: dict[str, Any]) -> None:
    url = f"https://runbooks.example.org/alert_rules/runbooks/{alert['alert']}.md"

    assert alert["annotations"]["runbook_url"] == url


@each_alert
def test_an_alert_is_tested_both_firing_and_quiet(alert: dict[str, Any]) -> None:
    cases = [case for case in promtool_cases() if case["alertname"] == alert["alert"]]

    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_no_promtool_test_outlives_its_alert() -> None:
    assert {case["alertname"] for case in promtool_cases()} == NAMES


def test_every_alert_has_a_runbook_and_no_runbook_outlives_its_alert() -> None:
    assert {path.stem for path in RUNBOOKS.iterdir()} == NAMES


@each_runbook
def test_a_runbook_has_the_five_headings_in_order(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert lines[0] == f"# {path.stem}"
    assert [line[3:] for line in lines if line.startswith("## ")] == HEADINGS


@each_runbook
def test_a_runbook_is_finished(path: Path) -> None:
    text = path.read_text()
    sections = dict(zip(HEADINGS, text.split("\n## ")[1:], strict=True))

    assert "TODO" not in text
    assert all(len(section.split()) > 10 for section in sections.values())
    assert "```" in sections["Diagnosis"]
    assert "```" in sections["Mitigation"]


def test_every_alert_has_a_route_case_and_no_case_outlives_its_alert() -> None:
    assert {case["labels"]["alertname"] for case in route_cases()} == NAMES | STRANGERS


@each_alert
def test_route_cases_give_an_alert_the_severity_of_its_rule(alert: dict[str, Any]) -> None:
    cases = [case for case in route_cases() if case["labels"]["alertname"] == alert["alert"]]

    assert {case["labels"]["severity"] for case in cases} == {alert["labels"]["severity"]}


def test_every_alert_goes_to_remediator_first() -> None:
    first = read(ALERTMANAGER)["route"]["routes"][0]

    assert first["receiver"] == "remediator"
    assert first["continue"] is True
    assert "matchers" not in first


@pytest.mark.parametrize(
    ("severity", "repeat"), [("critical", "1h"), ("warning", "4h"), ("info", "24h")]
)
def test_people_are_reminded_by_severity(severity: str, repeat: str) -> None:
    routes = read(ALERTMANAGER)["route"]["routes"]

    (route,) = (one for one in routes if one.get("matchers") == [f'severity="{severity}"'])
    assert route["repeat_interval"] == repeat


def test_inhibition_names_only_alerts_that_exist() -> None:
    inhibitions = read(ALERTMANAGER)["inhibit_rules"]

    sources = {matcher for rule in inhibitions for matcher in rule["source_matchers"]}
    assert sources <= {f'alertname="{name}"' for name in NAMES}
