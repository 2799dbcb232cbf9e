"""`remediator check` over a corpus: every seeded fault is found, and nothing in good files."""

import json
from importlib import resources
from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.core.catalogue import CATALOGUE
from remediator.rules.check_policy import NEEDS
from remediator.rules.findings import Kind
from tests.alert_rules.shipped import ALERTMANAGER, POLICY, PROMETHEUS, ROOT

CORPUS = Path(__file__).parents[1] / "data" / "check"
BAD = sorted(path for path in CORPUS.iterdir() if path.name.startswith("RM"))
GOOD = sorted((CORPUS / "good").glob("*.yml"))
PAGE = resources.files("remediator.rules") / "FINDINGS.md"
SHIPPED = [ROOT / "alert_rules", ALERTMANAGER, PROMETHEUS, POLICY] + [
    ROOT / "compose" / f"{name}.example.yaml" for name in ("limits", "settings")
]


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["check", *(str(argument) for argument in arguments)])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("folder", BAD, ids=lambda path: path.name)
def test_a_seeded_fault_is_found(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CORPUS)
    expected = (folder / "expected.txt").read_text()

    code, told = check(capsys, folder.name)

    assert told == expected
    assert f" {folder.name.partition('.')[0]}]" in told
    assert code == (1 if "[error" in told else 0)


def test_the_corpus_has_every_kind_of_fault_that_files_can_have() -> None:
    seeded = {path.name.partition(".")[0] for path in BAD}

    assert seeded == {kind.code for kind in Kind if not kind.code.startswith("RM5")}
    assert len(BAD) >= 60


def test_a_warning_fails_only_when_strict(capsys: pytest.CaptureFixture[str]) -> None:
    folder = CORPUS / "RM109.no_summary"

    assert check(capsys, folder)[0] == 0
    assert check(capsys, folder, "--strict")[0] == 1


def test_nothing_is_found_in_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = check(capsys, *SHIPPED, "--strict")

    assert told.endswith("files: nothing found\n"), told
    assert code == 0


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_nothing_is_found_in_rules_of_others(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(capsys, path, "--strict") == (0, "1 file: nothing found\n")


def test_there_are_five_files_of_others() -> None:
    assert len(GOOD) == 5


def test_machines_get_every_part_of_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    folder = CORPUS / "RM211.one_of_several"

    code, told = check(capsys, folder, "--json")

    assert code == 1
    assert json.loads(told) == {
        "files": [f"{folder}/policy.yaml", f"{folder}/rules.yml"],
        "errors": 1,
        "warnings": 0,
        "findings": [
            {
                "code": "RM211",
                "severity": "error",
                "file": f"{folder}/policy.yaml",
                "line": 5,
                "column": 9,
                "path": "rules[0].match[0]",
                "message": 'there is no alert "GpuLots" (did you mean "GpuLost"?)',
            }
        ],
    }


def test_without_files_what_is_configured_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.yaml").write_text(
        f"policy: {POLICY}\nlimits: {ROOT / 'compose' / 'limits.example.yaml'}\n"
    )
    monkeypatch.setenv("REMEDIATOR_SETTINGS", str(tmp_path / "settings.yaml"))
    flags = ["--rules", ROOT / "alert_rules", "--alertmanager", ALERTMANAGER]

    code, told = check(capsys, *flags, "--prometheus-config", PROMETHEUS)

    assert (code, told) == (0, "17 files: nothing found\n")


def test_a_policy_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = check(capsys, "--policy", tmp_path / "policy.yaml")

    assert code == 1
    assert "policy.yaml:1:1: cannot be read: No such file or directory [error RM001]" in told


def test_no_prometheus_is_asked_where_its_address_is_none() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["check", "--prometheus", "nowhere"])

    assert caught.value.code == 2


def test_the_page_explains_every_finding_and_nothing_else() -> None:
    lines = PAGE.read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if "| `RM" in line]

    assert [(cell[1].strip("`"), cell[2]) for cell in cells] == [
        (kind.code, kind.severity.value) for kind in Kind
    ]
    assert all(cell[3] and cell[4] for cell in cells)


def test_no_code_stands_for_two_kinds() -> None:
    assert len({kind.code for kind in Kind}) == len(Kind)


def test_the_readme_shows_what_is_really_printed() -> None:
    expected = (CORPUS / "RM205.one_branch_drops" / "expected.txt").read_text()
    shown = (ROOT / "README.md").read_text().partition("<!-- check-output -->\n```text\n")[2]

    assert shown.startswith(expected.replace("RM205.one_branch_drops/", "") + "```\n")


def test_a_route_within_itself_is_an_error_and_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alertmanager.yml"
    path.write_text("route: &all\n  receiver: a\n  routes: [*all]\nreceivers: [{name: a}]\n")

    code, told = check(capsys, path)

    assert code == 1
    assert told.startswith(f"{path}:1:1: a part of it is within itself [error RM001]\n")


def test_what_every_remediation_needs_of_an_alert_is_known() -> None:
    assert set(NEEDS) == {offer.name for offer in CATALOGUE}


@pytest.mark.parametrize("form", ["label", "mapping", "folded"])
def test_all_ways_to_write_a_route_are_read(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first route takes critical alerts away from us, however it says so."""
    matchers = {
        "label": 'matchers: [\'severity="critical"\', team!="x"]',
        "mapping": "match: {severity: critical}",
        "folded": 'matchers: [\'{severity=~"crit.*",team!~"x|y"}\']',
    }[form]
    (tmp_path / "alertmanager.yml").write_text(
        f"route:\n  receiver: remediator\n  routes:\n    - receiver: people\n      {matchers}\n"
        "receivers:\n  - name: people\n  - name: remediator\n    webhook_configs:\n"
        "      - url: http://127.0.0.1:9095/api/v1/alerts\n"
    )
    rules = ", ".join(
        f"{{alert: {name}, expr: sum(up) == 0, labels: {{severity: {severity}}},"
        " annotations: {summary: s, description: d}}"
        for name, severity in (("Down", "critical"), ("Slow", "warning"))
    )
    (tmp_path / "rules.yml").write_text(f"groups: [{{name: a, rules: [{rules}]}}]\n")

    _, told = check(capsys, tmp_path)

    assert told.splitlines()[0].endswith(
        'alert "Down" never reaches receiver "remediator" [error RM302]'
    )
    assert told.endswith("2 files: 1 error, 0 warnings\n")


ROUTES = """\
route:
  receiver: people
  group_by: ['...']
  routes:
    - receiver: people
      matchers: [severity="critical"]
      continue: true
    - receiver: remediator
receivers:
  - name: people
  - name: remediator
    webhook_configs:
      - url: http://127.0.0.1:9095/api/v1/alerts
inhibit_rules:
  - source_matchers: [severity="critical"]
    target_matchers: [severity="warning"]
    equal: [alertname, instance]
"""


def test_an_alert_that_goes_on_and_an_inhibition_of_no_pair_of_alerts_are_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Near misses of RM302 and RM308: `continue`, and names that are never equal."""
    for name in ("rules.yml", "policy.yaml"):
        text = (CORPUS / "RM308.severity_mutes" / name).read_text()
        (tmp_path / name).write_text(text)
    (tmp_path / "alertmanager.yml").write_text(ROUTES)

    assert check(capsys, tmp_path) == (0, "3 files: nothing found\n")
