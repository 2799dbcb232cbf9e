"""The page about tuning shows what `remediator backtest` really says."""

from pathlib import Path

import pytest

from remediator.cli.main import main
from tests.backtest_story import Told, write_story
from tests.docs.documents import part

ROOT = Path(__file__).parents[2]
_COMMAND = "remediator backtest --samples monday.jsonl --rules idle.yml --policy policy.yaml"
_CONTAINERS = [
    Told("llm-train", busy=[range(24)]),
    Told("notebook", busy=[range(2), range(9, 11)]),
    Told("sweep", busy=[range(3), range(5, 24)], user="ben"),
    Told("eval", busy=[range(6)], user="cleo"),
    Told("demo", busy=[range(1)], user="dan", keep_alive_until=12),
]


def test_the_example_of_a_backtest_is_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = part("backtest-output").strip().removeprefix("```text\n").removesuffix("\n```")
    write_story(tmp_path / "monday.jsonl", _CONTAINERS)
    (tmp_path / "idle.yml").write_text((ROOT / "alert_rules" / "idle.yml").read_text())
    example = ROOT / "compose" / "policy.example.yaml"
    (tmp_path / "policy.yaml").write_text(example.read_text())
    monkeypatch.chdir(tmp_path)

    assert main(_COMMAND.split()[1:]) == 0

    said = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert said == shown.splitlines()
