"""The command line on a real terminal: what people see, on any width, whoever chose the names."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from remediator.clock import SystemClock
from remediator.journal.journal import FILE, Journal
from tests.builders import RULE, an_alert
from tests.eventually import eventually
from tests.peers.screen import Screen
from tests.unit.stories import write_a_story

pytestmark = pytest.mark.integration

HOSTILE = "[red]ev\x1b[31mil[/red]\u202e\x1b[2J\nnew\x07 line " + "y" * 100_000
SHOWN = "[red]ev[31mil[/red][2J new line "


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with an incident that has a story, and one that is open with hostile names."""
    journal = Journal.for_worker(tmp_path)
    write_a_story(journal)
    an_incident(journal, HOSTILE, HOSTILE)
    yield journal
    journal.close()


def an_incident(journal: Journal, name: str, owner: str = "alice") -> None:
    incident = journal.incidents.attach(
        an_alert({"container": name}, fingerprint=name[:16]),
        subject=f"container:{name}",
        fault=RULE,
        delivery=4,
        at=SystemClock().now(),
        receiver="remediator",
    )
    assert incident is not None
    journal.incidents.name(incident, name, owner)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "remediator", *arguments]


def environment(folder: Path, **more: str) -> dict[str, str]:
    own = {"REMEDIATOR_STATE_DIR": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    return own | more


def flowing(screen: Screen) -> str:
    """The text as if it had never been broken into lines."""
    return " ".join(screen.text.split())


def is_harmless(screen: Screen) -> bool:
    """Whether nothing of the names was obeyed: no title, no bell, no direction, no clearing."""
    return not re.search(rb"\x07|\x1b\[31m|\x1b\[2J|\xe2\x80\xae", screen.received)


def test_incidents_are_watched_in_place_until_ctrl_c(journal: Journal, tmp_path: Path) -> None:
    with Screen(
        command("incidents", "list", "--watch", "0.2"), environment(tmp_path), columns=160, lines=12
    ) as screen:
        screen.wait_for("every 0.2 s; Ctrl-C ends")
        assert SHOWN in screen.text
        for number in range(3, 20):
            an_incident(journal, f"job-{number}")
        screen.wait_for("job-19")
        journal.operations.pause("a look round", "carol", SystemClock().now())
        screen.wait_for("Paused since")

        assert screen.text.count("Ctrl-C ends") == 1
        assert screen.text.count("job-19") == 1
        assert re.search(r"\(\d+ more lines\)", screen.lines[-1])
        assert "brown" in screen.colours
        assert not screen.shows_cursor
        assert is_harmless(screen)
        screen.type(b"\x03")

        assert screen.wait_end() == 130
        assert screen.shows_cursor
        assert b"\x1b[?1049h" in screen.received
        assert screen.received.rstrip().endswith(b"\x1b[?1049l")


def test_a_journal_that_is_away_for_a_while_is_waited_for(journal: Journal, tmp_path: Path) -> None:
    """What was seen last stays on the screen meanwhile; a signal then gives the screen back."""
    journal.close()
    away = tmp_path / "away"
    with Screen(
        command("incidents", "show", "1", "--watch", "0.2"),
        environment(tmp_path),
        columns=100,
        lines=20,
    ) as screen:
        screen.wait_for("closed")
        (tmp_path / FILE).rename(away)
        # The folder's name may be long, and the line be broken anywhere.
        eventually(lambda: "does not exist yet" in flowing(screen), 30, "what is missing")
        assert "Incident 1: idle container" in screen.text
        assert "lines left out" in screen.text
        away.rename(tmp_path / FILE)
        eventually(lambda: "trying again" not in flowing(screen), 30, "it is read again")
        screen.signal(signal.SIGTERM)

        assert screen.wait_end() == 128 + signal.SIGTERM
        assert screen.shows_cursor


def test_on_a_narrow_terminal_each_incident_is_a_paragraph_without_colour_if_wished(
    journal: Journal, tmp_path: Path
) -> None:
    journal.operations.pause("a look round", "carol", SystemClock().now())
    with Screen(
        command("incidents", "list"), environment(tmp_path, NO_COLOR="1"), columns=40, lines=70
    ) as screen:
        assert screen.wait_end() == 0

        assert screen.lines[0].startswith("Paused since")
        assert "ID       2" in screen.lines
        assert "STATE    open" in screen.lines
        assert f"SUBJECT  {SHOWN.strip()}" in screen.lines
        assert "OUTCOME  stop-container succeeded" in screen.lines
        assert screen.colours == {"default"}
        assert is_harmless(screen)


def test_elsewhere_one_snapshot_follows_the_other(journal: Journal, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("incidents", "list", "--watch", "0.1", "--limit", "1"),
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        snapshots = read_snapshots(watching.stdout, 3)
        watching.send_signal(signal.SIGINT)
        _, trouble = watching.communicate(timeout=30)

    assert all(SHOWN in snapshot for snapshot in snapshots)
    assert "\x1b" not in "".join(snapshots)
    assert (watching.returncode, trouble) == (130, "")


def read_snapshots(stream: IO[str], most: int) -> list[str]:
    """Return whole snapshots, each of which begins with its time."""
    text = ""
    while text.count("--- ") <= most:
        text += stream.readline()
    return re.split(r"^--- .* UTC$", text, flags=re.MULTILINE)[1 : most + 1]


def test_for_machines_each_snapshot_is_a_line(journal: Journal, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("incidents", "waiting", "--json", "--watch", "0.1"),
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        snapshots = [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.terminate()

    assert snapshots == [[], [], []]
    assert watching.returncode == 128 + signal.SIGTERM


def test_a_report_fits_a_narrow_terminal(journal: Journal, tmp_path: Path) -> None:
    month = f"{SystemClock().now():%Y-%m}"
    with Screen(
        command("report", "--month", month), environment(tmp_path), columns=60, lines=90
    ) as screen:
        assert screen.wait_end() == 0

        assert "GPU-hours returned by day" in screen.text
        assert is_harmless(screen)
