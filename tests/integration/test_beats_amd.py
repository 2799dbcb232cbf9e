"""AMD's flow of stopping services for a partitioning, and ours, on the same units.

Each test first shows what becomes of the services with AMD's (`tests.peers.amd_flow`), then with
ours.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.errors import EffectUnknownError, RefusedError
from tests.builders import SECOND
from tests.eventually import eventually
from tests.integration.test_quiesce import WITHIN, have_up, state
from tests.peers import units
from tests.peers.amd_flow import AmdFlow
from tests.peers.quiesce_child import a_quiesce
from tests.peers.systemd_host import SystemdHost

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.systemd]

CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('/run/socketed.sock')"


@pytest.fixture(scope="module")
def host(systemd_host: SystemdHost) -> Iterator[SystemdHost]:
    units.install(systemd_host)
    yield systemd_host
    units.remove(systemd_host)


def settled_down(host: SystemdHost, *services: str) -> set[str]:
    """Wait until systemd has done all its jobs; return what runs."""
    eventually(lambda: all(state(host, s).job == 0 for s in services), 20, "no job is left")
    return units.running(host)


def test_killed_on_the_way(host: SystemdHost, folder: Path) -> None:
    """Theirs: the state before was in its memory, and the services stay down for ever."""
    have_up(host, "good.service", "limited.service")
    amd = subprocess.Popen(
        [sys.executable, "-m", "tests.peers.amd_flow", host.bus_address, "good", "limited"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert amd.stdout is not None
    assert amd.stdout.readline() == b"stopped\n"
    amd.kill()
    amd.communicate()
    AmdFlow(host.bus_address, ["good", "limited"]).run(lambda: None)
    assert settled_down(host, "good", "limited") == set(), "also after it was started again"

    have_up(host, "good.service", "limited.service")
    moment_when_both_are_down = 7
    ours = subprocess.run(
        [
            *(sys.executable, "-m", "tests.peers.quiesce_child", host.bus_address, str(folder)),
            *(str(moment_when_both_are_down), "good", "limited"),
        ],
        check=False,
    )
    assert ours.returncode == -9
    assert units.running(host) == set()
    assert a_quiesce(host.bus_address, folder, ()).recover() == {}
    assert units.running(host) == {"good.service", "limited.service"}


def test_a_dependent(host: SystemdHost, folder: Path) -> None:
    """Theirs: systemd stops it with what it requires, and nobody starts it again."""
    up = {"good.service", "dependent.service"}
    have_up(host, *up)
    AmdFlow(host.bus_address, ["good"]).run(lambda: None)
    assert settled_down(host, "good", "dependent") == {"good.service"}

    have_up(host, *up)
    with a_quiesce(host.bus_address, folder, ("good",)).quiesced("a test", WITHIN):
        assert units.running(host) == set()
    assert units.running(host) == up


def test_a_socket(host: SystemdHost, folder: Path) -> None:
    """Theirs: the next client has the service active again in the middle of the work."""
    up = {"socketed.socket", "socketed.service"}
    have_up(host, *up)
    meanwhile: list[set[str]] = []

    def partition() -> None:
        settled_down(host, "socketed")
        assert host.run("python3", "-c", CONNECT)[0] == 0
        meanwhile.append(settled_down(host, "socketed"))

    AmdFlow(host.bus_address, ["socketed"]).run(partition)
    assert meanwhile == [up]

    have_up(host, *up)
    with a_quiesce(host.bus_address, folder, ("socketed",)).quiesced("a test", WITHIN):
        assert host.run("python3", "-c", CONNECT)[0] != 0
        assert units.running(host) == set()
    assert units.running(host) == up


def test_a_slow_stop(host: SystemdHost, folder: Path) -> None:
    """Theirs: the work begins while it still has the GPU open."""
    have_up(host, "slowstop.service")
    meanwhile: list[str] = []
    AmdFlow(host.bus_address, ["slowstop"]).run(
        lambda: meanwhile.append(state(host, "slowstop").active)
    )
    assert meanwhile == ["deactivating"]
    settled_down(host, "slowstop")

    have_up(host, "slowstop.service")
    with a_quiesce(host.bus_address, folder, ("slowstop",)).quiesced("a test", WITHIN):
        assert state(host, "slowstop").is_quiet
    assert units.running(host) == {"slowstop.service"}


def test_a_crash_loop(host: SystemdHost, folder: Path) -> None:
    """Theirs: it is not "active" between two tries, is left, and comes back meanwhile."""
    have_up(host, "crashloop.service")
    eventually(lambda: state(host, "crashloop").sub == "auto-restart", 10, "it waits for a try")
    runs: list[int] = []

    def partition() -> None:
        before = state(host, "crashloop").n_restarts
        eventually(lambda: state(host, "crashloop").n_restarts > before, 10, "it comes back")
        runs.append(state(host, "crashloop").n_restarts - before)

    AmdFlow(host.bus_address, ["crashloop"]).run(partition)
    assert runs == [1]

    have_up(host, "crashloop.service")
    with a_quiesce(host.bus_address, folder, ("crashloop",)).quiesced("a test", WITHIN):
        assert state(host, "crashloop").is_quiet
    assert state(host, "crashloop").is_running


def test_a_stop_that_fails(host: SystemdHost, folder: Path) -> None:
    """Theirs: a warning, and the work begins all the same."""
    have_up(host, "hungstop.service")
    worked: list[str] = []
    flow = AmdFlow(host.bus_address, ["hungstop"])
    flow.run(lambda: worked.append(state(host, "hungstop").active))
    assert worked == ["deactivating"]
    settled_down(host, "hungstop")

    have_up(host, "hungstop.service")
    quiesce = a_quiesce(host.bus_address, folder, ("hungstop",))
    with pytest.raises(RefusedError), quiesce.quiesced("a test", 1 * SECOND):
        pytest.fail("it was entered")
    assert units.running(host) == {"hungstop.service"}


def test_a_start_that_fails(host: SystemdHost, folder: Path) -> None:
    """Theirs: logged, and the record wiped, so that nobody ever tries again."""

    def mask() -> None:
        settled_down(host, "idle")
        host.run("ln", "-sf", "/dev/null", "/run/systemd/system/idle.service")
        host.run("mv", "/etc/systemd/system/idle.service", "/etc/idle.service")
        host.systemctl("daemon-reload")

    def unmask() -> None:
        host.run("rm", "/run/systemd/system/idle.service")
        host.run("mv", "/etc/idle.service", "/etc/systemd/system/idle.service")
        host.systemctl("daemon-reload")

    host.run("mkdir", "-p", "/run/systemd/system")
    have_up(host, "idle.service")
    flow = AmdFlow(host.bus_address, ["idle"])
    flow.run(mask)
    assert "StartUnit idle.service failed" in flow.log[-1]
    assert flow.pre_state == {}
    unmask()
    AmdFlow(host.bus_address, ["idle"]).run(lambda: None)
    assert settled_down(host, "idle") == set()

    have_up(host, "idle.service")
    quiesce = a_quiesce(host.bus_address, folder, ("idle",))
    with (
        pytest.raises(EffectUnknownError, match=r"not running again: idle\.service: .*masked"),
        quiesce.quiesced("a test", WITHIN),
    ):
        mask()
    unmask()
    assert quiesce.recover() == {}
    assert units.running(host) == {"idle.service"}


def test_what_its_admin_had_stopped(host: SystemdHost, folder: Path) -> None:
    """Theirs: started, because a service that it does restore wants it."""
    have_up(host, "wanting.service")
    AmdFlow(host.bus_address, ["wanting"]).run(lambda: settled_down(host, "wanting") and None)
    assert settled_down(host, "wanting", "wanted") == {"wanting.service", "wanted.service"}

    have_up(host, "wanting.service")
    with a_quiesce(host.bus_address, folder, ("wanting",)).quiesced("a test", WITHIN):
        pass
    assert units.running(host) == {"wanting.service"}
