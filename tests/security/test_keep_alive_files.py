"""Whatever an owner makes of ``.keep-alive`` protects nobody for ever and breaks nothing."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.core.containers import ContainerFacts, Mount
from remediator.core.gpu_claims import GpuClaims
from remediator.core.lifecycle import keep_alive_until
from remediator.core.limits import Limits
from remediator.errors import SourceError
from remediator.sources.docker_engine import DockerSource

NOW = datetime.now(UTC)
# The only file system that every Linux has and that takes any time there is.
MEMORY = Path("/dev/shm")


@pytest.fixture
def workspace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def times_of(workspace: Path) -> tuple[datetime, datetime] | None:
    """Ask as worker and exporter do; the engine is not there, the file is on this machine."""
    source = DockerSource("unix:///nowhere/docker.sock", timedelta(seconds=1))
    facts = ContainerFacts(
        id="a" * 64,
        name="train",
        image="pytorch",
        labels={},
        state="running",
        pid=4711,
        created_at=NOW,
        started_at=NOW,
        finished_at=None,
        exit_code=None,
        claims=GpuClaims(),
    )
    mount = Mount(source=str(workspace), destination="/workspace", kind="bind")
    return source.keep_alive_at(replace(facts, mounts=(mount,)))


@pytest.mark.parametrize("seconds", [2**62, 9 * 10**15, 253402300800, 0, -1, -9 * 10**15])
def test_a_file_of_any_time_counts_from_its_last_change(workspace: Path, seconds: int) -> None:
    """One far-off time kept the exporter from ever looking at anybody's file again."""
    file = workspace / ".keep-alive"
    file.touch()
    os.utime(file, (seconds, seconds))

    times = times_of(workspace)

    assert times is not None
    assert keep_alive_until(*times, Limits()) <= datetime.now(UTC) + Limits().keepalive_max


def test_a_link_counts_by_itself_and_is_not_followed(workspace: Path) -> None:
    (workspace / ".keep-alive").symlink_to("/proc/self/mem")
    os.utime(workspace / ".keep-alive", (1, 1), follow_symlinks=False)

    times = times_of(workspace)

    assert times is not None
    assert times[0] == datetime.fromtimestamp(1, UTC)


def test_a_pipe_is_looked_at_without_waiting_for_a_writer(workspace: Path) -> None:
    os.mkfifo(workspace / ".keep-alive")

    assert times_of(workspace) is not None


def test_a_folder_is_no_keep_alive(workspace: Path) -> None:
    (workspace / ".keep-alive").mkdir()

    with pytest.raises(SourceError):
        times_of(workspace)
