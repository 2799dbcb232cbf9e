"""No block and no command of the documents is there that nothing has tried."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.cli.main import main, make_parser
from remediator.config.chat_urls import read_chat_urls
from tests.docs.blocks import LANGUAGES, Block, blocks, inline
from tests.docs.documents import ROOT
from tests.docs.registry import COMMANDS, DRAWINGS, HERE, MENTIONED, TEXTS, Bound, bound

TYPED = [(block, command) for block in blocks("sh") for command in block.commands]
PROGRAMS = ("apt-get", "curl", "docker", "make", "systemctl")
RULE: dict[str, Any] = {"name": "a rule", "match": ['alertname="A"'], "do": [{"notify-only": None}]}


def is_run_here(command: str) -> bool:
    """Whether `test_commands` runs it."""
    program, _, rest = command.partition(" ")
    if program == "curl":
        return "$TOKEN" in command
    return program == "remediator" and rest.split(" ")[0] in HERE


def is_mentioned(command: str) -> bool:
    return any(command.startswith(start) for start in MENTIONED)


def is_known(text: str) -> bool:
    return any(text.startswith(start) for start in (*TEXTS, *DRAWINGS))


def test_every_block_says_what_it_is() -> None:
    strange = [
        f"{block}: {block.language!r}" for block in blocks() if block.language not in LANGUAGES
    ]

    assert not strange, f"a block needs one of {LANGUAGES}: {strange}"


@pytest.mark.parametrize(("block", "command"), TYPED, ids=str)
def test_every_command_to_type_is_run_by_some_test(block: Block, command: str) -> None:
    assert is_run_here(command) or bound(command), f"{block}: name in registry.py what runs it"


@pytest.mark.parametrize("block", blocks("text", "ini"), ids=str)
def test_every_other_text_is_compared_by_some_test(block: Block) -> None:
    assert is_known(block.text), f"{block}: name in registry.py what compares it"


@pytest.mark.parametrize("start", [*COMMANDS, *TEXTS])
def test_nothing_is_registered_that_is_not_shown(start: str) -> None:
    shown = [command for _, command in TYPED] + [b.text for b in blocks("text", "ini", "yaml")]
    shown += inline(*PROGRAMS, "remediator")

    assert any(text.startswith(start) for text in shown)


@pytest.mark.parametrize("found", [*COMMANDS.values(), *TEXTS.values()], ids=lambda b: b.test)
def test_what_is_registered_is_there_and_about_that(found: Bound) -> None:
    file, _, name = found.test.partition("::")
    text = (ROOT / file).read_text()

    assert all(word in text for word in found.words), found
    if name:
        tests = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        assert name in tests, found


@pytest.mark.parametrize(("command", "document"), inline(*PROGRAMS).items())
def test_a_command_within_a_sentence_is_run_by_some_test(command: str, document: str) -> None:
    tried = is_run_here(command) or bound(command) or is_mentioned(command)

    assert tried, f"{document}: name in registry.py what runs it"


@pytest.mark.parametrize("command", inline("make"))
def test_a_target_of_make_is_there(command: str) -> None:
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert shlex.split(command)[1] in targets


@pytest.mark.parametrize("command", inline("remediator"))
def test_a_command_of_ours_within_a_sentence_has_these_flags(command: str) -> None:
    parser = make_parser()
    for word in shlex.split(command.replace("…", ""))[1:]:
        choices = [a.choices for a in parser._actions if isinstance(a.choices, dict)]
        if word.startswith("--"):
            known = [option for action in parser._actions for option in action.option_strings]
            assert word.rstrip(",") in known or word == "--"
        elif choices and word in choices[0]:
            parser = choices[0][word]
        else:
            assert parser.prog != "remediator", f"there is no command {word}"
            break


@pytest.mark.parametrize("block", [b for b in blocks("yaml") if not is_known(b.text)], ids=str)
def test_a_part_of_a_file_is_what_the_product_reads(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts of a policy get what they leave out; then the file is checked as by its reader."""
    content = yaml.safe_load(block.text)
    if "lists" in content:
        content["rules"] = [{**RULE, **rule} for rule in content["rules"]]
    path = tmp_path / "file.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))

    code = main(["check", str(path)])

    assert code == 0, capsys.readouterr().out
    assert capsys.readouterr().out.startswith("1 file: ")


def test_the_file_of_chats_is_read(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("text") if block.text.startswith("# for the admins"))
    path = tmp_path / "chat_urls"
    path.write_text(block.text)
    path.chmod(0o600)

    assert [target.audience for target in read_chat_urls(path)] == [
        "admins",
        "owner:alice",
        "oncall",
    ]
