"""``remediator run``: the three programs as children of one parent."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.process import Daemon
from tests.peers.site import Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]


@pytest.fixture
def site(stage: Stage, engine: DockerEngine) -> Iterator[Site]:
    with GpuHost(1) as gpus:
        yield Site(stage, engine, gpus).prepare()


def start(site: Site) -> Daemon:
    return site.stage.daemon(
        "run",
        [sys.executable, "-m", "remediator", "run"],
        ready=lambda: answering(site) == [True, True, True],
        environment=site.environment(),
        ready_within=30,
    )


def answering(site: Site) -> list[bool]:
    """Whether the receiver, the worker and the exporter answer."""
    paths = {
        site.receiver_port: "-/ready",
        site.worker_port: "metrics",
        site.exporter_port: "health",
    }
    return [_answers(f"http://127.0.0.1:{port}/{path}") for port, path in paths.items()]


def children(daemon: Daemon) -> dict[str, int]:
    """The pid of each program, by its command."""
    text = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text()
    commands = {}
    for pid in text.split():
        # What has died has no command line until its parent notices, and nothing at all then.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            commands |= {name: int(pid) for name in arguments[3:4]}
    return commands


def test_all_three_run_and_end_together(site: Site) -> None:
    together = start(site)
    pids = children(together)
    assert set(pids) == {"serve", "work", "export"}

    together.stop()

    assert answering(site) == [False, False, False]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


@pytest.mark.parametrize("program", ["serve", "work", "export"])
def test_what_dies_is_started_again(site: Site, program: str) -> None:
    together = start(site)
    before = children(together)

    os.kill(before[program], signal.SIGKILL)
    eventually(
        lambda: children(together).get(program, before[program]) != before[program],
        15,
        f"another {program}",
    )
    eventually(lambda: all(answering(site)), 15, "everything to answer again")

    others = {name: pid for name, pid in children(together).items() if name != program}
    assert others == {name: pid for name, pid in before.items() if name != program}


def test_they_die_with_their_parent(site: Site) -> None:
    together = start(site)
    pids = children(together).values()

    together.kill()

    eventually(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20, "all of them to end"
    )


def test_what_a_person_has_to_mend_ends_them_all(site: Site) -> None:
    (site.folder / "policy.yaml").write_text("mode: akt\n")
    together = Daemon(
        "run",
        [sys.executable, "-m", "remediator", "run"],
        site.stage.folder / "bad",
        environment=site.environment(),
    )
    together.launch()

    assert together.wait(30) == 1
    assert "policy.yaml:1:7: mode: unknown mode" in together.log_tail()
    assert answering(site) == [False, False, False]


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == requests.codes.ok
    except requests.RequestException:
        return False
