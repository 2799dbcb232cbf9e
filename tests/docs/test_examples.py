"""The examples we ship are what the programs accept."""

import re
from pathlib import Path

import pytest
import yaml

from remediator.config.limits import read_limits
from remediator.config.policy import read_policy
from remediator.config.settings import read_settings
from remediator.core.policy import Mode
from tests.docs.documents import README, ROOT, documents


def test_the_example_policy_is_good_and_only_observes() -> None:
    policy = read_policy(ROOT / "compose" / "policy.example.yaml")

    assert policy.mode is Mode.OBSERVE
    assert {str(matcher) for matcher in policy.never} >= {'ds01.monitoring="true"'}


def test_the_example_settings_are_good() -> None:
    settings = read_settings(ROOT / "compose" / "settings.example.yaml", {})

    assert settings.mail.admins == ("admins@example.org",)


def test_the_example_limits_are_good() -> None:
    assert read_limits(ROOT / "compose" / "limits.example.yaml")


def test_the_policy_in_the_readme_is_good(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", documents()[README], re.DOTALL)
    (tmp_path / "policy.yaml").write_text(blocks[0])

    assert read_policy(tmp_path / "policy.yaml").mode is Mode.ACT


def _alerts() -> list[dict[str, str]]:
    files = sorted((ROOT / "alert_rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return [{"alertname": rule["alert"], **rule["labels"]} for rule in rules]


@pytest.mark.parametrize("labels", _alerts(), ids=lambda labels: labels["alertname"])
def test_the_example_policy_has_a_rule_for_each_alert_we_ship(labels: dict[str, str]) -> None:
    policy = read_policy(ROOT / "compose" / "policy.example.yaml")

    assert policy.rule_for(labels) is not None


def test_every_rule_of_the_example_policy_is_about_an_alert_we_ship() -> None:
    policy = read_policy(ROOT / "compose" / "policy.example.yaml")
    matched = {rule.name for labels in _alerts() if (rule := policy.rule_for(labels))}

    assert {rule.name for rule in policy.rules} == matched


def test_every_runbook_names_the_policy_rule_that_matches_its_alert() -> None:
    policy = read_policy(ROOT / "compose" / "policy.example.yaml")
    for labels in _alerts():
        rule = policy.rule_for(labels)
        runbook = ROOT / "alert_rules" / "runbooks" / f"{labels['alertname']}.md"
        assert rule is not None
        assert f"`{rule.name}`" in runbook.read_text(), runbook
