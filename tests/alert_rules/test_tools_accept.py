"""promtool and amtool accept what is shipped, and their own test cases hold."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.alert_rules.shipped import (
    ALERTMANAGER,
    PROMETHEUS,
    RULE_FILES,
    TEST_FILES,
    route_cases,
    rules,
)

Tool = Callable[..., str]


@pytest.fixture
def promtool(require_tool: Callable[[str], str]) -> Tool:
    return _runner(require_tool("promtool"))


@pytest.fixture
def amtool(require_tool: Callable[[str], str]) -> Tool:
    return _runner(require_tool("amtool"))


def _runner(program: str) -> Tool:
    def run(*arguments: str | Path) -> str:
        command = [program, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


def test_promtool_accepts_every_rule(promtool: Tool) -> None:
    answer = promtool("check", "rules", *RULE_FILES)

    found = sum(int(line.split()[1]) for line in answer.splitlines() if "rules found" in line)
    assert found == len(rules())


def test_prometheus_configuration_is_valid_and_loads_every_rule_file(promtool: Tool) -> None:
    answer = promtool("check", "config", PROMETHEUS)

    assert f"{len(RULE_FILES)} rule files found" in answer


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_rules_do_what_their_promtool_tests_say(promtool: Tool, path: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", path)


def test_alertmanager_configuration_is_valid(amtool: Tool) -> None:
    assert "SUCCESS" in amtool("check-config", ALERTMANAGER)


@pytest.mark.parametrize("case", route_cases(), ids=lambda case: case["labels"]["alertname"])
def test_route_reaches_the_receivers_its_case_names(amtool: Tool, case: dict[str, Any]) -> None:
    amtool(
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER}",
        f"--verify.receivers={','.join(case['receivers'])}",
        *(f"{name}={value}" for name, value in case["labels"].items()),
    )
