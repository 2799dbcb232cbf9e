"""The operator's commands on the command line, against a worker that really answers."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remediator.cli import operate
from remediator.cli.main import main
from remediator.core.policy import Mode
from remediator.inbox.store import Inbox
from tests.builders import a_policy, a_rule, an_alert
from tests.unit.engine_site import EngineSite, hurried

NOBODY = 65534


@pytest.fixture
def receivers_folder() -> Iterator[Path]:
    """A state folder whose inbox belongs to an unprivileged receiver, which has run once."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        state.chmod(0o755)
        Inbox.for_receiver(state / "inbox").close()
        for path in (state / "inbox", *(state / "inbox").iterdir()):
            os.chown(path, NOBODY, NOBODY)
        yield state


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineSite]:
    """A machine whose inbox and journal are in one folder, with a short patience."""
    monkeypatch.setattr(operate, "_PATIENCE_SECONDS", 3.0)
    (tmp_path / "inbox").symlink_to(tmp_path)
    site = EngineSite(tmp_path)
    yield site
    site.close()


def remediator(site: EngineSite, *arguments: str) -> int:
    return main([arguments[0], "--state-dir", str(site.folder), *arguments[1:]])


def test_pause_and_resume_are_answered(
    site: EngineSite, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.working():
        paused = remediator(site, "pause", "driver update")
        reason = site.journal.operations.pause_reason()
        resumed = remediator(site, "resume")

    assert (paused, resumed) == (0, 0)
    assert reason is not None
    assert reason.startswith("driver update (")
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("paused: nothing new is begun")
    assert told[1].startswith("resumed: ")


def test_answers_are_told_to_machines(site: EngineSite, capsys: pytest.CaptureFixture[str]) -> None:
    with site.working():
        codes = [
            remediator(site, "pause", "why", "--json"),
            remediator(site, "approve", "7", "--json"),
        ]
    [first, second] = _objects(capsys.readouterr().out)

    assert codes == [0, 1]
    assert first["accepted"] is True
    assert first["answer"].startswith("paused: ")
    assert (second["accepted"], second["incident"]) == (False, None)
    assert set(second) == {"accepted", "answer", "incident"}


def test_without_a_worker_machines_are_told_that_nobody_answers(
    site: EngineSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "_PATIENCE_SECONDS", 0.1)

    assert remediator(site, "extend", "train", "4h", "--json") == 1

    told = capsys.readouterr()
    assert json.loads(told.out) == dict.fromkeys(("accepted", "answer", "incident", "until", "by"))
    assert "no worker has answered" in told.err


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that stand one after the other in *text*."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_a_refusal_is_an_error_with_the_workers_words(
    site: EngineSite, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.working():
        assert remediator(site, "resume") == 1

    assert capsys.readouterr().err.splitlines()[-1] == "it is not paused"


def test_an_approval_names_who_gave_it(site: EngineSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    site.deliver(an_alert({"container_id": "c" * 64}))
    site.round()

    with site.working():
        assert remediator(site, "approve", "1", "go ahead") == 0

    (question,) = site.journal.approvals.of_incident(1)
    assert (question.approval.actor, question.approval.reason) == ("carol", "go ahead")


def test_a_command_that_nobody_answers_is_stored_and_said_to_be(
    site: EngineSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "_PATIENCE_SECONDS", 0.2)

    assert remediator(site, "pause", "driver update") == 1

    assert "no worker has answered" in capsys.readouterr().err
    (stored,) = Inbox.for_worker(site.folder).commands_after(0)
    assert json.loads(stored.body) == {"action": "pause", "reason": "driver update"}


def test_without_an_inbox_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pause", "--state-dir", str(tmp_path), "x"]) == 1

    assert "has the receiver ever been started?" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["pause", "close-breaker", "reject"])
def test_a_reason_is_asked_for(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command])

    assert left.value.code == 2
    assert "REASON" in capsys.readouterr().err


def test_a_container_is_kept_and_the_answer_says_until_when(
    site: EngineSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    with site.working():
        assert remediator(site, "extend", "idle", "4h", "--reason", "a run begins soon") == 0
        assert remediator(site, "extend", "other", "4h") == 1

    told = capsys.readouterr()
    assert told.out.startswith("idle is kept from the idle stop until 2026-03-01 16:00 UTC (4 h)")
    assert told.err.splitlines()[-1] == 'there is no container "other"'
    assert site.ask("SELECT actor, via, reason FROM extension") == [
        ("carol", "cli", "a run begins soon")
    ]


def test_a_machine_is_told_until_when_as_well(
    site: EngineSite, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.working():
        kept = remediator(site, "extend", "idle", "4h", "--json")
        refused = remediator(site, "extend", "other", "4h", "--json")

    assert (kept, refused) == (0, 1)
    first, second = _objects(capsys.readouterr().out)
    assert (first["accepted"], first["until"]) == (True, "2026-03-01T16:00:00+00:00")
    assert (second["accepted"], second["until"]) == (False, None)
    assert second["answer"] == 'there is no container "other"'


def _objects(text: str) -> list[dict[str, object]]:
    return [json.loads(f"{{{part}}}") for part in text.strip()[1:-1].split("}\n{")]


@pytest.mark.parametrize("duration", ["", "4 hours", "-1h", "for ever"])
def test_a_duration_that_is_none_is_a_mistake_of_the_caller(
    duration: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["extend", "idle", duration])

    assert left.value.code == 2
    capsys.readouterr()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has more rights than the receiver")
def test_root_gives_a_command_with_the_receivers_rights_alone(
    receivers_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "_PATIENCE_SECONDS", 0.0)
    inbox = receivers_folder / "inbox"
    precious = receivers_folder / "precious"
    precious.write_text("precious")
    precious.chmod(0o600)
    command = ["pause", "--state-dir", str(receivers_folder), "why"]

    assert main(command) == 1  # stored, and nobody answers
    assert {path.stat().st_uid for path in inbox.iterdir()} == {NOBODY}

    # What a receiver that was taken over could do: lead whoever writes there somewhere else.
    for name in ("inbox.db", "command.mark"):
        kept = (inbox / name).rename(inbox / "kept")
        (inbox / name).symlink_to(precious)
        assert main(command) == 1
        assert precious.read_text() == "precious"
        kept.rename(inbox / name)
    assert (os.geteuid(), os.getegid()) == (0, 0)
