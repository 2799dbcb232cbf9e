"""The shipped files of the alerting side, as plain values."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted((ROOT / "alert_rules").glob("*.yml"))
TEST_FILES = sorted((ROOT / "alert_rules" / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "alert_rules" / "runbooks"
PROMETHEUS = ROOT / "compose" / "prometheus.yml"
ALERTMANAGER = ROOT / "alertmanager" / "alertmanager.yml"
ROUTE_CASES = ROOT / "alertmanager" / "routes_test.yml"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> list[dict[str, Any]]:
    """Every recording and alerting rule."""
    groups = [group for path in RULE_FILES for group in read(path)["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for rule in rules() if "alert" in rule]


def promtool_cases() -> list[dict[str, Any]]:
    """Every `alert_rule_test` of every promtool test."""
    tests = [test for path in TEST_FILES for test in read(path)["tests"]]
    return [case for test in tests for case in test.get("alert_rule_test", [])]


def route_cases() -> list[dict[str, Any]]:
    """Every case of alertmanager/routes_test.yml."""
    cases: list[dict[str, Any]] = read(ROUTE_CASES)
    return cases
