"""The commands that the documents show are run as they stand, and their output is compared.

The machine is one whose incidents 17 and 18 wait for an approval, with a container ``train``. A
real worker answers the operator's commands, over the real journal and inbox.
"""

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from remediator.core.policy import Mode
from tests.builders import a_keepable, a_policy, a_rule, an_alert
from tests.docs.blocks import Block, blocks, words
from tests.docs.documents import ROOT, part
from tests.docs.registry import HERE
from tests.docs.test_blocks import is_run_here
from tests.peers.receiver import Receiver
from tests.unit.engine_site import EngineSite, hurried, open_journal
from tests.unit.test_cli import Done, remediator

NEWEST = 18
ANSWERED = ("approve", "close-breaker", "extend", "pause", "reject", "resume")


@dataclass
class Machine:
    """One machine with its files in *folder*, on which commands are typed."""

    folder: Path
    site: EngineSite

    def type(self, command: str) -> Done:
        """Run a command in the checkout, with the files of this machine for the usual ones."""
        line = command.replace("/var/backups", str(self.folder / "backups"))
        line = line.replace("october.html", str(self.folder / "october.html"))
        program, verb, *rest = words(line)
        assert program == "remediator"
        self._prepare(verb)
        environment = {
            "REMEDIATOR_STATE_DIR": str(self.folder),
            "REMEDIATOR_SETTINGS": str(self.folder / "settings.yaml"),
            "REMEDIATOR_POLICY": str(ROOT / "compose" / "policy.example.yaml"),
            "REMEDIATOR_LOG_LEVEL": "error",
        }
        if verb not in ANSWERED:
            return remediator([verb, *rest], **environment)
        with self.site.working():
            return remediator([verb, *rest], **environment)

    def _prepare(self, verb: str) -> None:
        """Bring about what a command is for."""
        operations = self.site.journal.operations
        if verb == "resume" and operations.pause_reason() is None:
            self.site.command("pause", reason="something")
        if verb == "close-breaker":
            operations.open_breaker("too much", self.site.clock.now())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    (tmp_path / "inbox").symlink_to(tmp_path)
    (tmp_path / "backups").mkdir()
    (tmp_path / "settings.yaml").write_text(f"page: {{users_file: {tmp_path}/users}}\n")
    site = EngineSite(tmp_path, a_policy(a_rule(hurried(), mode=Mode.APPROVE)))
    for number in range(1, NEWEST + 1):
        container = {"container_id": f"{number:064x}", "container": "train", "user": "alice"}
        site.deliver(an_alert(container, fingerprint=f"{number:016x}"))
    site.round()
    kept = a_keepable(name="train")
    site.containers.known |= {"train": kept, f"{17:064x}": kept}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long password of hers\n" * 9))
    yield Machine(tmp_path, site)
    site.close()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("receiver")
    made = Receiver(folder, f"page: {{users_file: {folder}/users}}\n")
    made.state_dir.mkdir()
    open_journal(made.state_dir).close()
    made.start()
    yield made
    made.stop()


def blocks_with(run: Callable[[str], bool], language: str) -> list[Block]:
    return [block for block in blocks(language) if any(run(line) for line in block.commands)]


def is_ours(command: str) -> bool:
    return is_run_here(command) and command.startswith("remediator ")


def is_a_request(command: str) -> bool:
    return is_run_here(command) and command.startswith("curl ")


@pytest.mark.parametrize("block", blocks_with(is_ours, "sh"), ids=str)
def test_what_is_to_be_typed_does_what_it_is_for(block: Block, machine: Machine) -> None:
    for command in filter(is_ours, block.commands):
        done = machine.type(command)

        assert done.code == 0, f"{block}: {command}: {done}"
        written = " --html " in command and (machine.folder / "october.html").exists()
        assert written or done.out + done.err, f"{block}: {command} says nothing"


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_what_is_shown_is_what_is_printed(block: Block, machine: Machine) -> None:
    for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = shown.partition("\n")

        assert machine.type(command).out.rstrip() == output.rstrip(), f"{block}: {command}"


@pytest.mark.integration
@pytest.mark.parametrize("block", blocks_with(is_a_request, "sh"), ids=str)
def test_a_request_is_answered_as_described(block: Block, receiver: Receiver) -> None:
    """The same request as curl's; curl is not among what the tests may ask for."""
    settings = str(receiver.folder / "settings.yaml")
    made = remediator(
        ["user", "add", "ci", "--role", "operator", "--token"], REMEDIATOR_SETTINGS=settings
    )
    token = made.out.split()[-1]
    for command in filter(is_a_request, block.commands):
        _, *options = words(command.replace("$TOKEN", token).replace(":9095", f":{receiver.port}"))
        given = dict(zip(options[::2], options[1::2], strict=False))
        url = next(word for word in options if word.startswith("http"))
        name, _, value = given["-H"].partition(": ")
        body = given.get("--json")

        answer = requests.request(
            "POST" if body else "GET",
            url,
            headers={name: value},
            json=json.loads(body) if body else None,
            timeout=30,
        )

        assert answer.status_code in {200, 202}, f"{block}: {command}: {answer.text}"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged from here on, whatever level another test has left behind."""
    caplog.set_level("INFO")
    return caplog


def test_the_log_says_what_is_shown_of_it(told: pytest.LogCaptureFixture, machine: Machine) -> None:
    shown = part("log-lines").replace("```text\n", "").replace("```\n", "").splitlines()
    machine.site.look()
    machine.site.command("approve", incident=17)
    machine.site.round()
    machine.site.command("pause", reason="driver update")

    logged = told.messages + [record.message for record in told.get_records("setup")]
    assert [line for line in shown if line not in logged] == []


# What stands between a script and the machine that the tests run on.
HARMLESS = """\
set -eu
systemctl() { echo "systemctl $*"; }
install() { command install --mode=640 "$4" "$5"; }
"""


def test_a_backup_is_restored_by_what_is_said(machine: Machine) -> None:
    """But for who owns the files: there is no such user here."""
    script = part("restore").replace("```sh\n", "").replace("```\n", "")
    assert machine.type("remediator backup /var/backups/remediator-2026-11-24").code == 0
    expected = len(incidents(machine))
    machine.site.journal.operations.pause("forgotten", "alice", machine.site.clock.now())
    (machine.folder / "journal.db").write_bytes(b"damaged")
    for folder in ("/var/backups", "/var/lib/remediator"):
        here = machine.folder / "backups" if folder == "/var/backups" else machine.folder
        script = script.replace(folder, str(here))

    done = subprocess.run(
        ["bash", "-c", HARMLESS + script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "systemctl stop remediator.target\nsystemctl start remediator.target\n"
    assert len(incidents(machine)) == expected == NEWEST


def incidents(machine: Machine) -> list[Any]:
    listed = json.loads(machine.type("remediator incidents list --json").out)
    return list(listed)


def test_every_command_that_is_said_to_be_run_here_is_shown() -> None:
    shown = {words(c)[1] for b in blocks("sh", "console") for c in lines(b) if is_ours(c)}

    assert shown == set(HERE)


def lines(block: Block) -> list[str]:
    if block.language == "sh":
        return block.commands
    return re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
