"""Quiesce and restore on a real systemd, with every habit a service may have."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.actuators.services import Services
from remediator.core.services import UnitState
from remediator.errors import EffectUnknownError, RefusedError
from remediator.quiesce.quiesce import Quiesce
from remediator.quiesce.record import Record
from remediator.system_bus import SystemBus
from tests.builders import SECOND
from tests.eventually import eventually
from tests.peers import units
from tests.peers.quiesce_child import a_quiesce
from tests.peers.systemd_host import SystemdHost

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.systemd]

SETTINGS = (
    *("good", "slowstop", "hungstop", "crashloop", "limited", "socketed", "timed", "wanting"),
    *("remains", "oneshot", "failing", "noprogram", "idle", "masked", "nosuch"),
)
UP = {
    *("good.service", "dependent.service", "slowstop.service", "hungstop.service"),
    *("crashloop.service", "limited.service", "socketed.socket", "socketed.service"),
    *("timed.timer", "wanting.service", "remains.service"),
}
WITHIN = 30 * SECOND


@pytest.fixture(scope="module")
def host(systemd_host: SystemdHost) -> Iterator[SystemdHost]:
    units.install(systemd_host)
    yield systemd_host
    units.remove(systemd_host)


def services_of(host: SystemdHost) -> Services:
    return Services(SystemBus(host.bus_address, 10 * SECOND))


def state(host: SystemdHost, unit: str) -> UnitState:
    return services_of(host).states([unit])[unit]


def have_up(host: SystemdHost, *names: str) -> None:
    """Have exactly these units running, a wanted one stopped by its admin."""
    sockets_first = sorted(names, key=lambda name: name.endswith(".service"))
    units.reset(host, sockets_first)
    if "wanting.service" in names:
        host.systemctl("stop", "wanted.service")
    eventually(lambda: units.running(host) == set(names), 10, "they are up")


def test_whatever_habits_they_have_exactly_what_ran_runs_again(
    host: SystemdHost, folder: Path
) -> None:
    have_up(host, *UP)
    host.systemctl("start", "failing.service")
    quiesce = a_quiesce(host.bus_address, folder, SETTINGS)

    with quiesce.quiesced("a test", WITHIN) as names:
        assert set(names) == UP
        assert units.running(host) == set()

    assert units.running(host) == UP
    assert state(host, "failing").active == "failed", "it had failed, and nobody started it"
    assert Record.for_reading(folder).unfinished() == ()


def test_a_stop_that_hangs_has_all_brought_back(host: SystemdHost, folder: Path) -> None:
    have_up(host, "good.service", "dependent.service", "hungstop.service")
    quiesce = a_quiesce(host.bus_address, folder, ("good", "hungstop"))

    with (
        pytest.raises(RefusedError, match=r"hungstop\.service takes too long.* runs again"),
        quiesce.quiesced("a test", 1.5 * SECOND),
    ):
        pytest.fail("it was entered")

    assert units.running(host) == {"good.service", "dependent.service", "hungstop.service"}


def test_a_service_whose_program_is_gone_is_named_until_it_is_back(
    host: SystemdHost, folder: Path
) -> None:
    """A driver update that forgets to bring the exporter with it."""
    have_up(host, "idle.service", "good.service")
    host.run("cp", "/bin/sleep", "/bin/exporter")
    host.add_unit("idle.service", "[Service]\nExecStart=/bin/exporter infinity\n")
    host.systemctl("restart", "idle.service")
    quiesce = a_quiesce(host.bus_address, folder, ("idle", "good"))

    with (
        pytest.raises(EffectUnknownError, match=r"not running again: idle\.service: .*exit-code"),
        quiesce.quiesced("a test", WITHIN),
    ):
        host.run("rm", "/bin/exporter")
    assert units.running(host) == {"good.service"}
    assert list(quiesce.recover() or {}) == ["idle.service"]

    host.run("cp", "/bin/sleep", "/bin/exporter")
    assert quiesce.recover() == {}
    assert units.running(host) == {"idle.service", "good.service"}
    units.install(host, ["idle.service"])


def restart_bus(host: SystemdHost) -> None:
    host.systemctl("reset-failed", "dbus.service", "dbus.socket")
    host.systemctl("restart", "dbus.service")


def restart_bus_amid_a_stop(host: SystemdHost) -> None:
    eventually(
        lambda: units.running(host) < {"slowstop.service", "good.service"},
        30,
        "something is being stopped",
    )
    restart_bus(host)


def test_a_bus_that_is_restarted_on_the_way_changes_nothing(
    host: SystemdHost, folder: Path
) -> None:
    have_up(host, "slowstop.service", "good.service")
    quiesce = a_quiesce(host.bus_address, folder, ("good", "slowstop"))
    in_the_middle = threading.Thread(target=restart_bus_amid_a_stop, args=[host])
    in_the_middle.start()

    with quiesce.quiesced("a test", WITHIN):
        in_the_middle.join()
        assert units.running(host) == set()
        restart_bus(host)

    assert units.running(host) == {"slowstop.service", "good.service"}


def test_a_bus_that_is_gone_is_waited_for(host: SystemdHost, folder: Path) -> None:
    have_up(host, "good.service")
    quiesce = a_quiesce(host.bus_address, folder, ("good",))

    with (
        pytest.raises(EffectUnknownError, match="not running again: good"),
        quiesce.quiesced("a test", WITHIN),
    ):
        host.systemctl("stop", "dbus.service", "dbus.socket")
    host.systemctl("reset-failed", "dbus.service", "dbus.socket")
    host.systemctl("start", "dbus.socket")

    assert quiesce.recover() == {}
    assert units.running(host) == {"good.service"}


def test_whenever_it_is_killed_exactly_what_ran_is_brought_back(
    host: SystemdHost, folder: Path
) -> None:
    """kill -9 before every change of the machine and every write to the record, one by one."""
    before = {
        *("good.service", "dependent.service", "timed.timer"),
        *("socketed.socket", "socketed.service", "wanting.service"),
    }
    have_up(host, *before)
    asked = ("good", "socketed", "timed", "wanting")
    down: set[str] = set()
    moment = 0
    while kill_at(host, folder, moment, asked):
        down |= before - units.running(host)
        quiesce: Quiesce = a_quiesce(host.bus_address, folder, asked)

        assert quiesce.recover() == {}, f"killed at {moment}"
        assert units.running(host) == before, f"killed at {moment}"
        moment += 1

    assert down == before, "each was down at some moment"
    assert moment == 2 + 5 * len(before), "no change of machine or record was left out"


def test_what_is_still_stopping_when_it_is_killed_is_brought_back(
    host: SystemdHost, folder: Path
) -> None:
    have_up(host, "slowstop.service")
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.peers.quiesce_child", host.bus_address, str(folder)),
            *("1000", "slowstop"),
        ]
    )
    try:
        eventually(lambda: state(host, "slowstop").active == "deactivating", 10, "it is stopping")
    finally:
        child.kill()
        child.wait()

    assert a_quiesce(host.bus_address, folder, ("slowstop",)).recover() == {}

    assert state(host, "slowstop").active == "active"
    assert units.running(host) == {"slowstop.service"}


def kill_at(host: SystemdHost, folder: Path, moment: int, asked: tuple[str, ...]) -> bool:
    """Quiesce in a child that dies at that moment; return False if it came to its end."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.peers.quiesce_child"),
            *(host.bus_address, str(folder), str(moment), *asked),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, -9}, done.stderr
    return done.returncode == -9


def test_whoever_may_only_look_changes_nothing(host: SystemdHost) -> None:
    """The bus lets everybody ask, and systemd only root act."""
    have_up(host, "good.service")
    script = (
        # The folder it is in is root's alone.
        "import os, sys; os.chdir(sys.argv[1]); os.setuid(65534);"
        "from datetime import timedelta;"
        "from remediator.actuators.services import Services;"
        "from remediator.system_bus import SystemBus;"
        "from remediator.errors import RefusedError;"
        "services = Services(SystemBus('unix:path=system_bus_socket', timedelta(seconds=5)));"
        "print(services.states(['good'])['good'].active)\n"
        "try:\n    services.stop('good', timedelta(seconds=5))\n"
        "except RefusedError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(host.bus_address.partition("=")[2]).parent)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "systemd refused to stop good.service" in done.stdout, done.stderr
    assert units.running(host) == {"good.service"}
