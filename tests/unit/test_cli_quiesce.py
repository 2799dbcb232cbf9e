"""`remediator quiesce`: what it asks for, what it says, and with what it ends."""

from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.core.quiescing import Member
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.record import Record
from tests.builders import NOON


@pytest.fixture(autouse=True)
def no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tests with the bus of the machine."""
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")


def quiesce(folder: Path, *arguments: str) -> int:
    return main(["quiesce", "--state-dir", str(folder), *arguments])


def left_stopped(folder: Path) -> Record:
    record = Record.for_writing(folder)
    members = [
        Member("a.service", was="active (running)", ran=True, must_stop=True),
        Member("b.service", was="inactive (dead)"),
        Member("c.service", was="active (running)", ran=True, must_stop=True),
    ]
    number = record.begin("nvidia-smi mig -cgi 19", members, NOON).id
    record.stopping(number, 0, NOON)
    record.troubled(number, 0, "systemd refused")
    return record


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="nothing"),
        pytest.param(("--status", "--restore"), id="two things"),
        pytest.param(("--status", "--", "true"), id="a command as well"),
        pytest.param(("--timeout", "soon", "--", "true"), id="no duration"),
        pytest.param(("--timeout", "0s", "--", "true"), id="no time at all"),
    ],
)
def test_it_is_told_one_thing(folder: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ending:
        quiesce(folder, *arguments)

    assert ending.value.code == 2


def test_a_command_that_is_not_there_stops_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quiesce(folder, "--", "no-such-command") == 127

    assert "there is no command no-such-command: nothing was stopped" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_where_nothing_can_be_stopped_the_command_is_not_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quiesce(folder, "--services", "good", "--", "touch", str(folder / "ran")) == 125

    said = capsys.readouterr().err
    assert "nothing was stopped: systemd does not say how good.service are" in said
    assert "the command was not run" in said
    assert not (folder / "ran").exists()


def test_nothing_is_stopped_at_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quiesce(folder, "--status") == 0
    Record.for_writing(folder).close()
    assert quiesce(folder, "--status") == 0

    assert capsys.readouterr().out == "Nothing is stopped.\nNothing is stopped.\n"


def test_what_is_stopped_is_listed_with_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = left_stopped(folder)
    lock = QuiesceLock(folder)

    with lock.held("nvidia-smi mig -cgi 19"):
        assert quiesce(folder, "--status") == 1

    under_way, since, a, c = capsys.readouterr().out.splitlines()
    assert under_way.startswith("Under way: nvidia-smi mig -cgi 19 (process ")
    assert since == f"Since {NOON:%Y-%m-%d %H:%M:%S} UTC for: nvidia-smi mig -cgi 19"
    assert a == "  a.service, was active (running): does not run again: systemd refused"
    assert c == "  c.service, was active (running): to be stopped"
    record.close()


def test_restoring_says_what_does_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_stopped(folder).close()

    assert quiesce(folder, "--restore") == 1

    said = capsys.readouterr().err
    assert "a.service does not run again: systemd does not say" in said
    assert "c.service does not run again" in said


def test_restoring_waits_for_whoever_is_about_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_stopped(folder).close()

    with QuiesceLock(folder).held("a driver update"):
        assert quiesce(folder, "--restore") == 1

    assert "under way: a driver update" in capsys.readouterr().err


def test_with_nothing_stopped_all_is_restored(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quiesce(folder, "--restore") == 0

    assert capsys.readouterr().out == "All that ran runs.\n"


def test_what_never_comes_back_can_be_given_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = left_stopped(folder)

    assert quiesce(folder, "--forget", "a.service") == 0
    assert quiesce(folder, "--forget", "a.service") == 1

    assert [r.member.name for q in record.unfinished() for r in q.outstanding] == ["c.service"]
    assert "a.service is not among what was stopped" in capsys.readouterr().err
    record.close()
