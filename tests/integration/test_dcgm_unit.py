"""The shipped unit of the DCGM exporter: never a SIGKILL, and each start is a new run.

It runs under a real systemd, with a stand-in for the docker program whose containers are
units of their own, so that they are outside of the exporter unit's control group as real ones are.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.actuators.services import Services
from remediator.core.attempts import Proof, Task
from remediator.core.targets import Service
from remediator.remediations.restart_dcgm import LEAST_STOP
from remediator.remediations.unit_restart import UnitRestart
from remediator.system_bus import SystemBus
from tests.builders import SECOND
from tests.eventually import eventually
from tests.fakes import MemorySteps
from tests.peers.dcgm_host import address_of, answers, put_program
from tests.peers.dockerd import DockerEngine
from tests.peers.systemd_host import SystemdHost

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.systemd]

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "compose" / "systemd" / "ds01-dcgm-exporter.service"
NAME = "ds01-dcgm-exporter"
CONTAINER = "container.service"
CALLS = "/run/docker-calls"
OPTIONS = "/run/docker-options"
DOCKER = f"""\
#!/bin/sh
echo "$*" >>{CALLS}
case $1 in
start)
    [ "$2 $3" = "--attach {NAME}" ] || exit 2
    systemctl is-active --quiet {CONTAINER} ||
        systemd-run --quiet --collect --unit={CONTAINER} --property=SendSIGKILL=no \\
            /usr/bin/python3 /opt/dcgm_program.py 9400 $(cat {OPTIONS}) GPU-0 || exit 1
    trap 'systemctl kill --kill-who=main --signal=TERM {CONTAINER}' TERM
    while systemctl is-active --quiet {CONTAINER}; do sleep 0.1; done ;;
kill) [ "$2 $3" = "--signal=SIGTERM {NAME}" ] &&
    systemctl kill --kill-who=main --signal=TERM {CONTAINER} ;;
wait) while systemctl is-active --quiet {CONTAINER}; do sleep 0.1; done ;;
*) exit 2 ;;
esac
"""


class Exporter:
    """The unit on a systemd, with its stand-in for docker."""

    def __init__(self, host: SystemdHost, address: str) -> None:
        self.host = host
        self.address = address

    def install(self, options: str = "") -> None:
        put_program(self.host.container)
        self._write("/usr/bin/docker", DOCKER)
        self._write(OPTIONS, options)
        self.host.run("chmod", "755", "/usr/bin/docker")
        self.host.run("rm", "-f", CALLS)
        self.host.add_unit("docker.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        self.host.add_unit(UNIT.name, UNIT.read_text())

    def start(self) -> None:
        self.host.systemctl("start", NAME)
        eventually(lambda: answers(self.address), 10, "the exporter answers")

    def property(self, name: str) -> str:
        return self.host.systemctl("show", "--value", f"--property={name}", UNIT.name)

    def pid(self) -> str:
        return self.host.systemctl("show", "--value", "--property=MainPID", CONTAINER)

    def calls(self) -> list[str]:
        return self.host.run("cat", CALLS)[1].splitlines()

    def remove(self) -> None:
        self.host.add_unit(UNIT.name, "[Service]\nExecStart=/bin/true\nTimeoutStopSec=1\n")
        self.host.remove_unit(UNIT.name)
        self.host.systemctl("kill", "--signal=KILL", CONTAINER)
        self.host.remove_unit("docker.service")
        self.host.run("rm", "-f", "/usr/bin/docker")

    def _write(self, path: str, text: str) -> None:
        assert self.host.run("sh", "-c", 'printf %s "$1" >"$2"', "sh", text, path)[0] == 0


@pytest.fixture
def exporter(engine: DockerEngine, systemd_host: SystemdHost) -> Iterator[Exporter]:
    made = Exporter(systemd_host, address_of(engine, systemd_host.container))
    made.install()
    yield made
    made.remove()


def test_systemd_finds_no_fault_with_it(exporter: Exporter) -> None:
    status, output = exporter.host.run("systemd-analyze", "--man=no", "verify", UNIT.name)

    assert (status, output) == (0, "")


def test_it_is_stopped_gently_and_limited_in_its_starts(exporter: Exporter) -> None:
    names = ("TimeoutStopUSec", "SendSIGKILL", "StartLimitBurst", "StartLimitIntervalUSec")

    assert [exporter.property(name) for name in names] == ["45s", "no", "5", "10min"]


def test_a_stop_asks_the_container_to_end_and_waits_for_it(exporter: Exporter) -> None:
    exporter.start()

    exporter.host.systemctl("stop", NAME)

    end = [f"kill --signal=SIGTERM {NAME}", f"wait {NAME}"]
    assert exporter.calls() == [*end, f"start --attach {NAME}", *end]
    assert exporter.property("ActiveState") == "inactive"
    assert not answers(exporter.address)


def test_a_container_that_outlives_its_client_ends_before_the_next_start(
    exporter: Exporter,
) -> None:
    exporter.host.add_unit(UNIT.name, UNIT.read_text().replace("=10s", "=1s"))
    exporter.start()
    before = exporter.pid()

    exporter.host.systemctl("kill", "--kill-who=main", "--signal=KILL", NAME)

    eventually(lambda: exporter.property("NRestarts") == "1", 10, "systemd starts it anew")
    eventually(lambda: exporter.pid() not in {before, "0", ""}, 10, "a new one runs")


def test_one_that_does_not_end_is_left_alive(exporter: Exporter) -> None:
    exporter.install("--ignores-term")
    hurried = UNIT.read_text().replace("TimeoutStopSec=45s", "TimeoutStopSec=1s")
    exporter.host.add_unit(UNIT.name, hurried)
    exporter.start()
    before = exporter.pid()

    exporter.host.systemctl("stop", NAME)

    assert exporter.property("ActiveState") == "failed"
    assert exporter.property("Result") == "timeout"
    assert exporter.pid() == before
    assert answers(exporter.address)


def test_remediator_restarts_it_and_has_nothing_to_say_against_it(
    exporter: Exporter,
) -> None:
    exporter.start()
    before = exporter.pid()
    services = Services(SystemBus(exporter.host.bus_address, 5 * SECOND))
    restart = UnitRestart(services, SECOND, 0.5 * SECOND, LEAST_STOP)
    invocation = services.states([UNIT.name])[UNIT.name].invocation_id
    task = Task(
        Service(UNIT.name, "gpu-host"),
        timeout=20 * SECOND,
        context={"invocation_id": invocation},
    )

    said = restart.restart(task, MemorySteps())

    assert said == f"{UNIT.name} was restarted"
    assert restart.verify(task).proof is Proof.PROVEN
    eventually(lambda: answers(exporter.address), 5, "it answers")
    assert exporter.pid() not in {before, "0"}
