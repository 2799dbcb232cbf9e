"""What `remediator backtest` says of a day of some containers, in a file of samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from remediator.cli.main import main
from tests.backtest_story import Told, write_story

ROOT = Path(__file__).parents[2]
POLICY = """
mode: observe
breaker: {open_after: [%(breaker)s per 24h]}
rules:
  - name: idle container
    match: ['alertname="DS01ContainerIdle"']
    warn: {before: %(warn)s}
    do:
      - stop-container:
        attempts: [2 per 6h]
"""
_CONTAINERS = [
    Told("works", busy=[range(24)]),
    Told("rests", busy=[range(2)]),
    Told("pauses", busy=[range(2), range(4, 24)], user="ben"),
    Told("leaves", busy=[range(2)], ends=3.2, user="cleo"),
    Told("spared", busy=[range(2)], exempt=True),
    Told("kept", busy=[range(2)], keep_alive_until=30),
]


@pytest.fixture(scope="module", name="samples")
def _samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("story") / "samples.jsonl", _CONTAINERS)


def _policy(folder: Path, name: str = "policy.yaml", warn: str = "5m", breaker: int = 10) -> Path:
    path = folder / name
    path.write_text(POLICY % {"warn": warn, "breaker": breaker})
    return path


def _rules() -> list[str]:
    return ["--rules", str(ROOT / "alert_rules" / "idle.yml")]


def _told(capsys: pytest.CaptureFixture[str], samples: Path, *arguments: str) -> dict[str, Any]:
    assert main(["backtest", "--samples", str(samples), *_rules(), *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_who_would_have_been_stopped_when_and_what_that_had_been_worth(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _told(capsys, samples, "--policy", str(_policy(tmp_path)))["variants"][0]

    deeds = {deed["title"]: deed for deed in found["deeds"]}
    assert deeds.keys() == {"rests", "pauses", "leaves"}
    # Two hours of work, a minute until the rate of the CPU is quiet, an hour idle, a warning.
    assert deeds["rests"]["at"] == "2026-11-16T03:10:00.000+00:00"
    assert deeds["rests"]["owner"] == "anna"
    # Its maximum runtime would have ended it after 20 hours.
    assert deeds["rests"]["gpu_hours"] == pytest.approx(16.825, abs=0.01)
    assert deeds["rests"]["busy_again_at"] is None
    assert deeds["pauses"]["busy_again_at"] == "2026-11-16T04:00:00.000+00:00"
    assert deeds["leaves"]["gpu_hours"] is None, "it ended at once anyway, so nobody can say"
    assert found["regretted"] == 1
    assert found["warnings"] == 3
    assert found["held"].keys() == {"no_policy_rule", "exempt", "warning_due", "warned"}


def test_alerts_are_told_from_when_to_when_they_fire(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _told(capsys, samples, "--policy", str(_policy(tmp_path)))["variants"][0]["alerts"]

    idle = [one for one in found if one["alertname"] == "DS01ContainerIdle"]
    paused = next(one for one in idle if one["labels"]["container"] == "pauses")
    assert paused["fired_at"] == "2026-11-16T03:05:00.000+00:00"
    assert paused["resolved_at"] == "2026-11-16T04:00:00.000+00:00"
    rests = next(one for one in idle if one["labels"]["container"] == "rests")
    assert rests["resolved_at"] is None


def test_two_policies_stand_side_by_side(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient = _policy(tmp_path, "patient.yaml", warn="55m")
    arguments = ["--policy", str(_policy(tmp_path)), "--compare", str(patient)]

    found = _told(capsys, samples, *arguments)["variants"]

    assert [one["name"] for one in found] == ["policy.yaml", "patient.yaml"]
    assert [len(one["deeds"]) for one in found] == [3, 1]
    assert [one["regretted"] for one in found] == [1, 0]


def test_edited_rules_are_tried_beside_those_of_today(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited = tmp_path / "edited.yml"
    rules = (ROOT / "alert_rules" / "idle.yml").read_text()
    edited.write_text(rules.replace("_ratio_near > 1\n", "_ratio_near > 3\n"))
    arguments = ["--policy", str(_policy(tmp_path)), "--compare-rules", str(edited)]

    found = _told(capsys, samples, *arguments)["variants"]

    assert [{deed["title"] for deed in one["deeds"]} for one in found] == [
        {"rests", "pauses", "leaves"},
        {"rests"},
    ]


def test_the_breaker_of_the_policy_opens_and_stays_open(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = _policy(tmp_path, breaker=2)

    found = _told(capsys, samples, "--policy", str(policy))["variants"][0]

    assert len(found["deeds"]) == 2
    assert found["breaker_opened_at"] == "2026-11-16T03:10:00.000+00:00"
    assert found["held"]["breaker_open"] == 1


def test_the_mode_of_the_policy_can_be_left_as_it_is(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--policy", str(_policy(tmp_path)), "--mode", "policy"]

    found = _told(capsys, samples, *arguments)["variants"][0]

    assert found["deeds"] == []
    assert "observe_only" in found["held"]


def test_a_slot_that_two_containers_share_returns_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [Told("rests", busy=[range(2)]), Told("guest", busy=[range(2)], shares_slot_of="rests")]
    samples = write_story(tmp_path / "samples.jsonl", both, hours=5)

    found = _told(capsys, samples, "--policy", str(_policy(tmp_path)))["variants"][0]

    assert sorted(deed["gpu_hours"] for deed in found["deeds"]) == [0, 0]


def test_the_tables_and_the_page_say_the_same(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    policy = ["--policy", str(_policy(tmp_path))]
    arguments = ["backtest", "--samples", str(samples), *_rules(), *policy, "--html", str(page)]

    assert main([*arguments, "--all"]) == 0

    said = capsys.readouterr().out
    assert "16 Nov 03:10:00  stop-container  rests" in said
    assert "GPU-hours returned: " in said
    html = page.read_text()
    assert "<script" not in html
    assert "2026-11-16 03:10:00" in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--samples", "{folder}/none.jsonl"], "cannot be read: No such file or directory"),
        (["--samples", "{folder}/bad.jsonl"], "bad.jsonl:1: not a line of samples"),
        (["--samples", "{folder}/empty.jsonl"], "holds no samples"),
        (["--samples", "{samples}", "--from", "2027-01-01"], "holds no samples of that time"),
        (["--samples", "{samples}", "--rules", "{folder}/word.yml"], "word.yml:4:16: groups[0]"),
        (["--samples", "{samples}", "--rules", "{folder}/none.yml"], "none.yml:1:1"),
        (
            ["--samples", "{samples}", "--rules", "{folder}/hard.yml"],
            "hard.yml:4:13: groups[0].rules[0].expr: quantile cannot be backtested",
        ),
        (
            ["--samples", "{samples}", "--rules", "{folder}/late.yml"],
            "the stretch is too short: Late wait longer before they fire",
        ),
        (["--prometheus", "http://127.0.0.1:1"], "no answer from Prometheus at http://127.0.0.1:1"),
        (
            ["--samples", "{samples}", "--html", "{folder}/no/page.html"],
            "page.html cannot be written: No such file or directory",
        ),
    ],
)
def test_what_is_in_the_way_is_said(
    samples: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    (tmp_path / "bad.jsonl").write_text("[1, 2]\n")
    (tmp_path / "empty.jsonl").write_text("")
    rule = "groups:\n- name: g\n  rules:\n  - {expr: %s, alert: A}\n"
    (tmp_path / "word.yml").write_text(rule % "'sum(x'")
    late = "groups: [{name: g, rules: [{alert: Late, expr: up == 0, for: 2d}]}]"
    (tmp_path / "late.yml").write_text(late)
    (tmp_path / "hard.yml").write_text(rule % "'quantile(0.5, x) > 1'")
    named = [one.format(folder=tmp_path, samples=samples) for one in arguments]
    more = [] if "--rules" in named else _rules()

    code = main(["backtest", *named, *more, "--policy", str(_policy(tmp_path))])

    assert code == 1
    assert says in capsys.readouterr().err
