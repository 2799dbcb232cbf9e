"""A process that hangs in the kernel keeps nobody who looks at it."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.errors import SourceError
from remediator.sources.holders import HolderSource
from remediator.sources.in_time import CommandsInTime, HoldersInTime
from remediator.sources.proc import ProcSource
from tests.fakes import FakeDriver, FakeUsers, a_gpu
from tests.peers.missing import require_root

SOON = timedelta(milliseconds=100)
PID = 4711


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Path]:
    """A /proc with a process whose memory nobody gets at: a read of these files does not return."""
    pipes = [tmp_path / str(PID) / name for name in ("cmdline", "maps")]
    (tmp_path / str(PID) / "fd").mkdir(parents=True)
    for pipe in pipes:
        os.mkfifo(pipe)
    yield tmp_path
    for pipe in pipes:
        # Whoever hangs there is let go: it finds a writer, and then an end.
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


def test_a_command_line_that_does_not_come_is_left_out(stuck: Path) -> None:
    commands = CommandsInTime(ProcSource(stuck), SOON)

    assert commands.command(PID) is None
    assert commands.command(PID) is None, "at once: the first question still hangs"
    (stuck / "4712").mkdir()
    (stuck / "4712" / "cmdline").write_text("python\0train.py\0")
    assert commands.command(4712) == "python train.py"


def test_who_holds_a_gpu_is_not_known_while_a_process_hangs(stuck: Path) -> None:
    require_root("looking into everybody's files")
    driver = FakeDriver()
    driver.add(a_gpu(0))
    source = HolderSource(driver, ProcSource(stuck), FakeUsers({}), stuck)
    holders = HoldersInTime(source, SOON)

    with pytest.raises(SourceError, match="did not answer within"):
        holders.holders("GPU-0")
    with pytest.raises(SourceError, match="did not answer within"):
        holders.at_device(0)
    with pytest.raises(SourceError, match="still does not answer"):
        holders.at_device(0)
