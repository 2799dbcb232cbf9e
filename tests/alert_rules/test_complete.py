"""No alert lacks its texts, tests, runbook or route, and none of these outlives its alert."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from remediator.config.policy import read_policy
from remediator.core.catalogue import offer_of
from remediator.core.matchers import all_match
from remediator.core.policy import PolicyRule
from tests.alert_rules.shipped import (
    ALERTMANAGER,
    POLICY,
    RULE_FILES,
    RUNBOOKS,
    alerts,
    inhibitions,
    names_in,
    promtool_cases,
    read,
    route_cases,
    rules,
)

NAMES = {alert["alert"] for alert in alerts()}
HEADINGS = ["Meaning", "Impact", "What Remediator does", "Diagnosis", "Mitigation"]
# An alert of somebody else's and one without a severity, which prove that nothing is lost.
STRANGERS = {"SomebodyElsesAlert", "NoSeverity"}
# Fires always and is about no target: it can neither be quiet nor name one.
ALWAYS_FIRING = {"Watchdog"}

# They look at hours, wait for minutes, or are only looked at: never a clock, a fault or heat.
ONCE_A_MINUTE = {"dashboards", "host", "leak", "metering", "runtime", "waste"}

POLICY_RULES = read_policy(POLICY).rules
# Services are down for a reset, or no reset heals the GPU: what these mute is rightly not done.
REASONS_TO_DO_NOTHING = {"RemediatorResetInProgress", "DS01GPULost", "DS01GPUNeedsReboot"}

each_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
each_runbook = pytest.mark.parametrize(
    "path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem
)
each_inhibition = pytest.mark.parametrize(
    "rule", inhibitions(), ids=lambda rule: rule["source_matchers"][0] + str(rule["equal"])
)


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_rule_file_has_one_group_named_after_it(path: Path) -> None:
    assert [group["name"] for group in read(path)["groups"]] == [path.stem]


@each_alert
def test_an_alert_reads_nothing_that_only_its_own_evaluation_can_see(alert: dict[str, Any]) -> None:
    # Or whoever follows its link to Prometheus finds an empty table.
    assert "[1ms]" not in alert["expr"]


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_group_is_evaluated_at_the_interval_of_the_installation_or_once_a_minute(
    path: Path,
) -> None:
    (group,) = read(path)["groups"]

    assert group.get("interval") == ("1m" if path.stem in ONCE_A_MINUTE else None)


def test_no_name_is_given_to_two_rules() -> None:
    names = Counter(rule.get("alert", rule.get("record")) for rule in rules())

    assert [name for name, count in names.items() if count > 1] == []


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
    named = "$labels.instance" in alert["annotations"]["description"]

    assert named is (alert["alert"] not in ALWAYS_FIRING)


@each_alert
def test_an_alert_links_to_its_own_runbook(alert: dict[str, Any]) -> None:
    url = f"https://runbooks.example.org/alert_rules/runbooks/{alert['alert']}.md"

    assert alert["annotations"]["runbook_url"] == url


@each_alert
def test_an_alert_is_tested_both_firing_and_quiet(alert: dict[str, Any]) -> None:
    cases = [case for case in promtool_cases() if case["alertname"] == alert["alert"]]

    expected = {True} if alert["alert"] in ALWAYS_FIRING else {True, False}
    assert {bool(case["exp_alerts"]) for case in cases} == expected


def test_exactly_the_alerts_without_a_condition_fire_always() -> None:
    unconditional = {alert["alert"] for alert in alerts() if alert["expr"].strip() == "vector(1)"}

    assert unconditional == ALWAYS_FIRING


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


def test_the_watchdog_is_mailed_to_nobody() -> None:
    (route,) = (
        one
        for one in read(ALERTMANAGER)["route"]["routes"]
        if one.get("matchers") == ['alertname="Watchdog"']
    )
    (receiver,) = (
        one for one in read(ALERTMANAGER)["receivers"] if one["name"] == route["receiver"]
    )

    assert set(receiver) == {"name"}


@each_alert
def test_exactly_one_rule_of_the_example_policy_matches_an_alert(alert: dict[str, Any]) -> None:
    labels = {"alertname": alert["alert"], **alert["labels"]}

    matching = [rule.name for rule in POLICY_RULES if all_match(rule.matchers, labels)]

    assert len(matching) == 1, matching


@pytest.mark.parametrize("rule", POLICY_RULES, ids=lambda rule: rule.name)
def test_a_rule_of_the_example_policy_names_only_alerts_that_exist(rule: PolicyRule) -> None:
    assert names_in([str(matcher) for matcher in rule.matchers]) <= NAMES


def test_only_these_rules_of_the_example_policy_go_further_than_telling() -> None:
    acting = {
        rule.name for rule in POLICY_RULES for rung in rule.rungs if offer_of(rung.remediation).acts
    }

    assert acting == {
        *("idle container", "container over its maximum runtime", "container that does not run"),
        *("orphan process", "hot GPU", "wedged GPU"),
        *("DCGM exporter", "DS01 exporter"),
    }


def test_each_route_case_has_the_labels_that_the_tests_of_its_rule_show() -> None:
    strange = {
        case["labels"]["alertname"]: sorted(case["labels"])
        for case in route_cases()
        if case["labels"]["alertname"] not in STRANGERS
        and set(case["labels"]) - {"alertname"} not in labels_shown(case["labels"]["alertname"])
    }
    assert strange == {}


def labels_shown(name: str) -> list[set[str]]:
    """The labels of every alert called *name* that the promtool tests expect."""
    cases = [case for case in promtool_cases() if case["alertname"] == name]
    return [set(alert["exp_labels"]) for case in cases for alert in case["exp_alerts"]]


@each_inhibition
def test_what_inhibits_and_what_is_inhibited_can_be_compared(rule: dict[str, Any]) -> None:
    # Prometheus makes the host of the instance.
    compared = {"instance" if label == "host" else label for label in rule["equal"]}
    names = names_in(rule["source_matchers"]) | names_in(rule["target_matchers"])

    lacking = [name for name in names if not any(compared <= has for has in labels_shown(name))]
    assert lacking == []


@each_inhibition
def test_inhibition_names_only_alerts_that_exist(rule: dict[str, Any]) -> None:
    assert names_in(rule["source_matchers"]) | names_in(rule["target_matchers"]) <= NAMES


@each_inhibition
def test_what_inhibits_has_the_labels_that_are_compared(rule: dict[str, Any]) -> None:
    """Two missing labels are equal to Alertmanager: it would mute all hosts and all GPUs."""
    present = {matcher[:-4] for matcher in rule["source_matchers"] if matcher.endswith('!=""')}

    assert present & set(rule["equal"])


def test_no_alert_is_muted_by_what_it_mutes() -> None:
    mutes: set[tuple[str, str]] = {
        (source, target)
        for rule in inhibitions()
        for source in names_in(rule["source_matchers"])
        for target in names_in(rule["target_matchers"])
    }

    assert {(source, target) for source, target in mutes if (target, source) in mutes} == set()


def test_an_alert_that_something_is_done_about_is_muted_only_where_it_is_done_anyway() -> None:
    """An inhibited alert does not reach Remediator either.

    What mutes it leads to the same, or says that it must not be done.
    """
    acting = {
        name: rule.name
        for rule in POLICY_RULES
        if any(offer_of(rung.remediation).acts for rung in rule.rungs)
        for name in names_in([str(matcher) for matcher in rule.matchers])
    }
    mutes = {
        (source, target)
        for rule in inhibitions()
        for source in names_in(rule["source_matchers"])
        for target in names_in(rule["target_matchers"]) & acting.keys()
    }

    undone = {
        (source, target)
        for source, target in mutes
        if source not in REASONS_TO_DO_NOTHING and acting.get(source) != acting[target]
    }
    assert undone == set()
