"""The page on security says nothing that no test stands for, and names tests that are there."""

import re
from importlib import resources
from pathlib import Path

import pytest

from tests.chaos.__main__ import scenarios

ROOT = Path(__file__).resolve().parents[2]
PAGE = resources.files("remediator.docs").joinpath("security.md").read_text()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE))))
def test_each_test_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_each_scenario_that_is_named_is_played() -> None:
    played = [scenario.name for scenario in scenarios(short=False, bodies=100_000)]
    named = re.findall(r"scenario `([^`]+)`", PAGE)

    assert named
    for name in named:
        assert any(name in scenario for scenario in played), name


def test_the_readme_has_a_row_for_each_scenario_of_a_real_run() -> None:
    table = (
        (ROOT / "README.md").read_text().partition("## Under fire")[2].partition("## Security")[0]
    )

    for scenario in scenarios(short=False, bodies=100_000):
        assert f"| {scenario.name}" in table, scenario.name
