"""`make chaos` in short: it ends well, and would not if something had been lost."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.bodies import hostile_bodies
from tests.chaos.report import Row, show
from tests.eventually import patience
from tests.peers.missing import PeerMissingError, require_root

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
MISSING = 2


@pytest.mark.docker
@pytest.mark.gpu
def test_a_minute_of_chaos_loses_doubles_and_wrongly_stops_nothing() -> None:
    require_root("starting a Docker engine")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240 * patience(),
    )

    if done.returncode == MISSING:
        raise PeerMissingError(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hostile" in done.stdout


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        (Row("kills", lost=["probe-1"]), "kills: lost: probe-1"),
        (Row("kills", doubled=["stop of x"]), "kills: doubled: stop of x"),
        (Row("kills", wrong=["busy-6"]), "kills: wrongly stopped: busy-6"),
        (Row("kills", failure="it did not come back"), "kills: it did not come back"),
    ],
)
def test_one_thing_that_is_wrong_fails_the_whole_run(bad: Row, shown: str) -> None:
    console = Console(file=io.StringIO(), width=200)

    assert not show(console, [Row("fine", offered=3, acknowledged=3), bad])

    assert isinstance(console.file, io.StringIO)
    assert shown in console.file.getvalue()


def test_hostile_bodies_are_the_same_for_the_same_seed() -> None:
    first, again = (list(hostile_bodies(3000, 7, ("a" * 64,))) for _ in range(2))

    assert first == again
    assert len(set(first)) > 2000
    assert max(map(len, first)) > 100_000
