"""`remediator simulate`: a policy under test, without a machine."""

import json
from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.core.case import HoldReason

POLICY = """\
mode: act
never: ['team="infra"']
budget: {stop-container: [2 per 1h]}
rules:
  - name: idle
    match: ['alertname="Idle"']
    warn: {before: 5m}
    do:
      - stop-container: {}
        attempts: [1 per 6h]
        cooldown: 10m
      - notify-only: {}
  - name: asks
    match: ['alertname="Asks"']
    mode: approve
    do: [{stop-container: {}}]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ("Idle container_id=c --warned 6m", "stop-container"),
        ("Idle container_id=c", "warning_due"),
        ("Idle container_id=c --warned 1m", "warned"),
        ("Other", "no_policy_rule"),
        ("Idle --resolved", "resolved"),
        ("Idle --paused why", "paused"),
        ("Idle --mode observe", "observe_only"),
        ("Idle --mode notify", "notify_only"),
        ("Idle --exempt why", "exempt"),
        ("Idle --container-label team=infra", "exempt"),
        ("Idle --prometheus silent", "unconfirmed"),
        ("Idle --docker gone", "target_gone"),
        ("Idle --nvml disagrees", "condition_gone"),
        ("Idle --warned 6m --attempted stop-container=7h", "stop-container"),
        ("Idle --warned 6m --attempted stop-container=1h", "notify-only"),
        ("Idle --warned 6m --attempted stop-container=1m", "cooldown"),
        ("Idle --warned 6m --breaker-open", "breaker_open"),
        ("Asks", "waiting_for_approval"),
        ("Asks --approved", "stop-container"),
    ],
)
def test_the_outcome_is_what_the_policy_says(
    policy: Path, arguments: str, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["simulate", *arguments.split(), "--policy", str(policy)]

    assert main([*command, "--expect", outcome]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{outcome}: ")
    wrong = "resolved" if outcome != "resolved" else "exempt"
    assert main([*command, "--expect", wrong]) == 1
    assert f"expected {wrong}, got {outcome}" in capsys.readouterr().out


def test_every_guard_says_what_it_would(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["simulate", "Idle", "--exempt", "a label", "--nvml", "disagrees", "--policy", str(policy)]
    )

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'Idle on alert:Idle: policy rule "idle"'
    assert "  exempt          holds   exempt: a label" in lines
    assert "  condition gone  holds   condition_gone: nvml: as the command line says" in lines
    assert "  target gone     passes" in lines
    assert lines[-1] == "exempt: a label"


def test_machines_get_json(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["simulate", "Other", "--json", "--policy", str(policy)])

    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["policy_rule"]) == ("no_policy_rule", None)
    assert [guard["guard"] for guard in told["guards"]] == ["resolved", "policy rule", "pause"]
    assert told["guards"][1]["reason"] == HoldReason.NO_POLICY_RULE.value


@pytest.mark.parametrize(
    "wrong",
    [["label"], ["=x"], ["--warned", "soon"], ["--attempted", "x=1h"], ["--expect", "luck"]],
)
def test_wrong_usage_is_told(wrong: list[str], policy: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["simulate", "Idle", *wrong, "--policy", str(policy)])

    assert left.value.code == 2


def test_a_bad_policy_is_refused_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("mode: atc\nrules: []\n")

    assert main(["simulate", "Idle", "--policy", str(path)]) == 1

    assert f'{path}:1:7: mode: unknown mode "atc" (did you mean "act"?)' in capsys.readouterr().err
