"""`remediator docs`: the pages as they are in a pipe, and laid out on a terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from remediator.docs import names, page, title
from remediator.docs.keys import read_keys
from tests.unit.test_cli import remediator

COMMAND = [str(Path(sys.executable).with_name("remediator")), "docs"]


def on_a_terminal(*arguments: str) -> str:
    """Return what the command writes on a real terminal, 80 columns wide."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    ) as process:
        os.close(theirs)
        written = b""
        # Linux ends a terminal whose other side is closed with EIO.
        try:
            while chunk := os.read(ours, 65536):
                written += chunk
        except OSError:
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_without_a_page_they_are_listed() -> None:
    listed = remediator(["docs"]).out.splitlines()

    assert [line.split(maxsplit=1) for line in listed] == [[n, title(n)] for n in names()]
    assert {"policy", "operating", "troubleshooting", "tuning", "compatibility"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_in_a_pipe_a_page_is_the_markdown_that_is_shipped(name: str) -> None:
    assert remediator(["docs", name]).out == page(name)


def test_on_a_terminal_a_page_is_laid_out() -> None:
    shown = on_a_terminal("compatibility")

    assert title("compatibility") in shown
    assert "|---|" not in shown


def test_an_unknown_page_is_refused_with_those_there_are() -> None:
    done = remediator(["docs", "nothing"])

    assert done.code == 2
    assert "policy" in done.err


def test_no_key_is_cut_off_on_a_narrow_terminal() -> None:
    shown = on_a_terminal("policy")

    assert all(key.name in shown for keys in read_keys().values() for key in keys)
