"""`--help` of every command: what it does, each option explained, and examples that work."""

import argparse
import shlex
from collections.abc import Iterator

import pytest

from remediator.cli.help import EXAMPLES, commands_of
from remediator.cli.main import make_parser
from tests.unit.test_cli import remediator


def all_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for command, _ in commands_of(parser):
        yield command
        yield from all_commands(command)


COMMANDS = {command.prog.partition(" ")[2]: command for command in all_commands(make_parser())}


def test_every_command_has_examples_and_no_example_is_left_over() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_does_and_shows_its_examples(name: str) -> None:
    done = remediator([*name.split(), "--help"])

    assert done.code == 0
    assert (COMMANDS[name].description or "")[0].isupper()
    assert done.out.endswith("examples:\n  " + "\n  ".join(EXAMPLES[name]) + "\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    unexplained = [
        action.option_strings or action.dest
        for action in COMMANDS[name]._actions
        if not action.help and not isinstance(action.choices, dict)
    ]

    assert unexplained == []


@pytest.mark.parametrize("example", [one for some in EXAMPLES.values() for one in some])
def test_an_example_is_understood(example: str) -> None:
    program, *arguments = shlex.split(example)

    options = make_parser().parse_args(arguments)

    assert program == "remediator"
    assert callable(options.run)


def test_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS.values():
        text = command.format_help().partition("examples:")[0]

        assert max(map(len, text.splitlines())) <= 80, command.prog
