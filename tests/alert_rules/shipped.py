"""The shipped files of the alerting side, as plain values."""

import functools
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted((ROOT / "alert_rules").glob("*.yml"))
TEST_FILES = sorted((ROOT / "alert_rules" / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "alert_rules" / "runbooks"
PROMETHEUS = ROOT / "compose" / "prometheus.yml"
REMOTE_PROMETHEUS = ROOT / "compose" / "prometheus.remote.yml"
ALERTMANAGER = ROOT / "alertmanager" / "alertmanager.yml"
POLICY = ROOT / "compose" / "policy.example.yaml"
ROUTE_CASES = ROOT / "alertmanager" / "routes_test.yml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@functools.cache
def rules() -> list[dict[str, Any]]:
    """Every recording and alerting rule."""
    groups = [group for path in RULE_FILES for group in read(path)["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for rule in rules() if "alert" in rule]


@functools.cache
def promtool_cases() -> list[dict[str, Any]]:
    """Every `alert_rule_test` of every promtool test."""
    tests = [test for path in TEST_FILES for test in read(path)["tests"]]
    return [case for test in tests for case in test.get("alert_rule_test", [])]


def route_cases() -> list[dict[str, Any]]:
    """Every case of alertmanager/routes_test.yml."""
    cases: list[dict[str, Any]] = read(ROUTE_CASES)
    return cases


def inhibitions() -> list[dict[str, Any]]:
    """Every inhibition rule of Alertmanager's configuration."""
    found: list[dict[str, Any]] = read(ALERTMANAGER)["inhibit_rules"]
    return found


def names_in(matchers: list[str]) -> set[str]:
    """The alerts that *matchers* name, one by one; what names them otherwise is an error."""
    (names,) = (matcher for matcher in matchers if matcher.startswith("alertname"))
    _, operator, quoted = names.partition("=~" if "=~" in names else "=")
    assert operator, names
    alternatives = quoted.strip('"').split("|")
    assert all(name.isalnum() for name in alternatives), f"write the names out: {names}"
    return set(alternatives)
