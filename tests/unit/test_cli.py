import argparse
import contextlib
import importlib
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from remediator import __version__
from remediator.cli.main import _MODULES, main, make_parser
from remediator.cli.programs import settings_of
from remediator.clock import SystemClock
from remediator.core.policy import Mode
from remediator.journal.journal import Journal
from tests.builders import NOON, RULE, a_policy, a_rule, an_alert
from tests.unit.engine_site import EngineSite, hurried
from tests.unit.stories import write_a_story

# What a program has imported when it is about to run, which it does not do here.
_MODULES_OF = """
import importlib, sys
from remediator.cli.main import make_parser
make_parser(sys.argv[1])
importlib.import_module({
    "serve": "remediator.wiring.receiver",
    "work": "remediator.wiring.worker",
    "export": "remediator.wiring.exporter",
}[sys.argv[1]])
print(*{name.partition(".")[0] for name in sys.modules})
"""
SUBCOMMANDS = ["serve", "work", "run", "export", "incidents"]


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


def remediator(arguments: Sequence[str], **environment: str) -> Done:
    """Run the command in this process, with the environment and the logging of one of its own."""
    root = logging.getLogger()
    handlers, level, variables = root.handlers[:], root.level, dict(os.environ)
    out, err = io.StringIO(), io.StringIO()
    try:
        for name in [name for name in os.environ if name.startswith("REMEDIATOR_")]:
            del os.environ[name]
        os.environ.update(environment, COLUMNS="200")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _exit_code(arguments)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        os.environ.clear()
        os.environ.update(variables)
    return Done(code, out.getvalue(), err.getvalue())


def _exit_code(arguments: Sequence[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as error:
        return int(error.code or 0)


def incidents(folder: Path, *arguments: str) -> Done:
    return remediator(["incidents", *arguments], REMEDIATOR_STATE_DIR=str(folder))


@pytest.fixture
def state(folder: Path) -> Path:
    """A state folder with one closed and one open incident."""
    journal = Journal.for_worker(folder)
    write_a_story(journal)
    journal.incidents.attach(
        an_alert(fingerprint="b"),
        subject="container:d",
        fault=RULE,
        delivery=4,
        at=NOON,
        receiver="remediator",
    )
    journal.close()
    return folder


@pytest.mark.parametrize("module", sorted(_MODULES))
def test_each_command_is_known_by_the_module_that_has_it(module: str) -> None:
    subparsers = argparse.ArgumentParser().add_subparsers()
    importlib.import_module(f"remediator.cli.{module}").add_to(subparsers)

    assert tuple(subparsers.choices) == _MODULES[module]


def test_a_command_says_of_itself_what_all_of_them_together_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for parser in (make_parser(), make_parser("serve")):
        with pytest.raises(SystemExit):
            parser.parse_args(["serve", "--nonsense"])

    first, second = capsys.readouterr().err.split("--nonsense\n")[:2]
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "foreign"),
    [
        (["serve"], {"docker", "pynvml", "flask", "apprise", "rich"}),
        (["export"], {"flask", "gunicorn", "apprise", "rich", "promql_parser"}),
        (["work"], {"flask", "gunicorn", "promql_parser"}),
    ],
)
def test_a_program_does_not_carry_what_others_are_made_of(
    arguments: list[str], foreign: set[str]
) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _MODULES_OF, *arguments], capture_output=True, text=True, check=True
    )

    assert foreign & set(told.stdout.split()) == set()


def test_it_says_its_version() -> None:
    assert remediator(["--version"]) == Done(0, f"remediator {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [[], ["reboot"], ["incidents"], ["incidents", "show"], ["--log-level", "loud"]]
)
def test_wrong_usage_is_told_and_exits_with_2(arguments: list[str]) -> None:
    done = remediator(arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("usage: remediator")


def test_a_log_level_that_does_not_exist_is_wrong_usage() -> None:
    done = remediator(["incidents", "list"], REMEDIATOR_LOG_LEVEL="loud")

    assert done.code == 2
    assert 'REMEDIATOR_LOG_LEVEL: "loud" is not one of debug, info, warning, error' in done.err


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = remediator([command, "--help"])

    assert done.code == 0
    assert done.out.startswith(f"usage: remediator {command}")
    assert command in remediator(["--help"]).out


def test_flags_override_the_environment_which_overrides_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "settings.yaml"
    file.write_text("state_dir: /file\npolicy: /file\nlimits: /file\n")
    monkeypatch.setenv("REMEDIATOR_STATE_DIR", "/environment")
    monkeypatch.setenv("REMEDIATOR_POLICY", "/environment")
    flags = ["work", "--settings", str(file), "--policy", "/flag"]

    settings = settings_of(make_parser().parse_args(flags))

    assert settings.policy == Path("/flag")
    assert settings.state_dir == Path("/environment")
    assert settings.limits == Path("/file")


def test_the_settings_file_may_be_named_by_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "settings.yaml"
    file.write_text("host: gpu-7\n")
    monkeypatch.setenv("REMEDIATOR_SETTINGS", str(file))

    assert settings_of(make_parser().parse_args(["work"])).host == "gpu-7"


def test_bad_settings_are_told_line_by_line_and_exit_with_1(folder: Path) -> None:
    file = folder / "settings.yaml"
    file.write_text("hots: gpu-1\nworkers: x\n")

    done = remediator(["incidents", "list", "--settings", str(file)])

    assert done == Done(
        1,
        "",
        f'{file}:1:1: unknown field "hots" (did you mean "host"?)\n'
        f'{file}:2:10: workers: expected a whole number, got "x"\n'
        "remediator: 2 problems\n",
    )


def test_one_problem_is_not_called_problems(folder: Path) -> None:
    done = remediator(["incidents", "list", "--settings", str(folder / "missing")])

    assert done.code == 1
    assert done.err.endswith("cannot be read: No such file or directory\nremediator: 1 problem\n")


def test_without_a_journal_there_is_nothing_to_list(folder: Path) -> None:
    done = incidents(folder, "list")

    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"remediator: {folder}/journal.db does not exist yet:"
        " has the program that writes it been started?\n"
    )


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon", "1e9"])
def test_what_is_no_time_between_two_looks_is_wrong_usage(state: Path, seconds: str) -> None:
    done = incidents(state, "list", f"--watch={seconds}")

    assert done.code == 2
    assert f'"{seconds}" is not a number of seconds from 0.1 to 3600' in done.err


def test_what_waits_for_an_approval_is_listed(folder: Path) -> None:
    site = EngineSite(folder, a_policy(a_rule(hurried(), mode=Mode.APPROVE)), clock=SystemClock())
    nothing = incidents(folder, "waiting")
    site.deliver(an_alert({"container_id": "c" * 64, "container": "[red]train\x1b[2J"}))
    site.round()

    done, machines = incidents(folder, "waiting"), incidents(folder, "waiting", "--json")

    assert nothing.out == "Nothing waits for an approval.\n"
    assert done.out.splitlines()[0].split()[:4] == ["ID", "MAY", "BE", "DONE"]
    assert done.out.splitlines()[1].startswith("1   stop-container  idle container  [red]train[2J")
    [asked] = json.loads(machines.out)
    assert (asked["incident"], asked["remediation"]) == (1, "stop-container")
    site.close()


def test_incidents_are_listed_the_newest_first(state: Path) -> None:
    done = incidents(state, "list")

    assert (done.code, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["ID", "OPENED", "STATE", "WHAT", "SUBJECT", "OWNER", "OUTCOME"]
    opened = ["2026-03-01", "12:00:00"]
    assert rows[1] == ["2", *opened, "open", *RULE.split(), "container:d", "unknown", "new"]
    outcome = ["stop-container", "succeeded"]
    assert rows[2] == ["1", *opened, "closed", *RULE.split(), "train[2J", "alice", *outcome]
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], [2, 1]), (["--open"], [2]), (["--limit", "1"], [2])],
)
def test_incidents_are_listed_for_machines(
    state: Path, flags: list[str], expected: list[int]
) -> None:
    done = incidents(state, "list", "--json", *flags)

    found = json.loads(done.out)
    assert [incident["id"] for incident in found] == expected
    assert set(found[0]) == {
        "id",
        "subject",
        "fault",
        "title",
        "owner",
        "opened_at",
        "closed_at",
        "outcome",
        "next_look_at",
    }
    assert found[0]["opened_at"] == "2026-03-01T12:00:00+00:00"


def test_an_empty_list_says_so(folder: Path) -> None:
    Journal.for_worker(folder).close()

    assert incidents(folder, "list") == Done(0, "No incidents.\n", "")
    assert json.loads(incidents(folder, "list", "--json").out) == []


def test_one_incident_is_shown_with_everything_in_order(state: Path) -> None:
    done = incidents(state, "show", "1")

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:4] == [
        "Incident 1: idle container: train[2J",
        "container:c, owner alice",
        "closed, outcome: stop-container succeeded",
        "Times are UTC.",
    ]
    assert lines[5] == "2026-03-01 11:00:00.000  fired      DS01ContainerIdle"
    assert lines[-1] == "2026-03-01 12:08:00.000  closed     stop-container succeeded"
    assert f"{' ' * 36}exit code 0 (1.50 s)" in lines
    assert "\x1b" not in done.out


def test_one_incident_is_shown_for_machines(state: Path) -> None:
    story = json.loads(incidents(state, "show", "1", "--json").out)

    assert story["incident"]["id"] == 1
    assert [event["what"] for event in story["events"]][:3] == ["fired", "delivered", "decided"]
    assert set(story["events"][0]) == {"at", "what", "text", "details"}
    assert story["events"][0]["at"] == "2026-03-01T11:00:00+00:00"


def test_an_incident_that_is_not_there_is_no_success(state: Path) -> None:
    assert incidents(state, "show", "99") == Done(1, "", "remediator: there is no incident 99\n")


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "9" * 30, ""])
def test_what_is_no_number_of_an_incident_is_wrong_usage(state: Path, number: str) -> None:
    assert incidents(state, "show", number).code == 2


def test_a_reader_that_has_seen_enough_is_no_trouble(state: Path) -> None:
    command = f"{sys.executable} -m remediator incidents list --state-dir {state} | true; echo ok"

    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stdout, done.stderr) == ("ok\n", "")
