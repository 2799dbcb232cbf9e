"""`remediator quiesce` and the worker's recovery, as programs, on a real systemd."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from tests.eventually import eventually
from tests.integration.test_quiesce import have_up
from tests.peers import units
from tests.peers.ports import free_port
from tests.peers.process import Daemon
from tests.peers.site import POLICY
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.systemd]

UP = {"good.service", "dependent.service", "socketed.socket"}
NAMES = "good,socketed,idle"


@pytest.fixture(scope="module")
def installed(systemd_host: SystemdHost) -> Iterator[SystemdHost]:
    units.install(systemd_host)
    yield systemd_host
    units.remove(systemd_host)


@pytest.fixture
def host(installed: SystemdHost) -> SystemdHost:
    have_up(installed, *UP)
    return installed


def arguments(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "remediator", "quiesce", "--state-dir", str(folder), *more]


def environment(host: SystemdHost) -> dict[str, str]:
    return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": host.bus_address}


def run(host: SystemdHost, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(folder, *more),
        env=environment(host),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def begin(host: SystemdHost, folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """Return a quiesce whose command has begun, and says so by making ``began``."""
    started = subprocess.Popen(
        arguments(folder, "--services", NAMES, "--", *command),
        env=environment(host),
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    eventually((folder / "began").exists, 30, "the command has begun")
    return started


def kill(started: subprocess.Popen[bytes]) -> None:
    """kill -9, without waiting for its command, which goes on."""
    started.kill()
    started.wait(timeout=10)
    assert started.stderr is not None
    started.stderr.close()


def shell(folder: Path, script: str) -> tuple[str, ...]:
    return ("sh", "-c", f'cd "{folder}"; {script}')


@pytest.mark.parametrize("status", [0, 7])
def test_the_command_finds_all_down_and_its_exit_status_is_ours(
    host: SystemdHost, folder: Path, status: int
) -> None:
    socket = host.bus_address.partition("=")[2]
    ask = f"busctl --address=unix:path={socket} list >/dev/null 2>&1; exit {status}"

    done = run(host, folder, "--services", NAMES, "--", "sh", "-c", f"echo $0 works; {ask}")

    assert done.returncode == status, done.stderr
    assert done.stdout == "sh works\n"
    stopped = "stopped: socketed.socket, dependent.service, good.service\n"
    assert f"remediator: {stopped}" in done.stderr
    assert done.stderr.endswith("remediator: all that ran runs again\n")
    assert units.running(host) == UP


def test_a_command_that_cannot_be_run_is_told_from_one_that_failed(
    host: SystemdHost, folder: Path
) -> None:
    (folder / "broken").write_bytes(b"\x7fELF")
    (folder / "broken").chmod(0o755)

    done = run(host, folder, "--services", NAMES, "--", str(folder / "broken"))

    assert done.returncode == 126
    assert "cannot be run: Exec format error; all that ran runs again" in done.stderr
    assert units.running(host) == UP


def test_what_does_not_come_back_is_said_and_can_be_seen_and_restored(
    host: SystemdHost, folder: Path
) -> None:
    """The command breaks a service: the container's file system is reached from here."""
    started = begin(
        host, folder, *shell(folder, "touch began; while [ ! -e go ]; do sleep 0.05; done")
    )
    host.add_unit("good.service", "[Service]\nExecStart=/nonexistent/program\n")
    (folder / "go").touch()
    _, said = started.communicate(timeout=60)

    assert started.returncode == 124, said
    assert b"not running again: " in said
    status = run(host, folder, "--status")
    assert status.returncode == 1
    assert "good.service, was active (running): does not run again: " in status.stdout

    units.install(host, ["good.service"])
    assert run(host, folder, "--restore").returncode == 0
    assert units.running(host) == UP
    assert run(host, folder, "--status").stdout == "Nothing is stopped.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_the_commands_and_all_is_restored(
    host: SystemdHost, folder: Path, number: signal.Signals
) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'touch got; exit 5' {name}; touch began; while :; do sleep 0.05; done"
    started = begin(host, folder, *shell(folder, script))
    assert units.running(host) == set()

    started.send_signal(number)
    started.communicate(timeout=60)

    assert started.returncode == 5
    assert (folder / "got").exists()
    assert units.running(host) == UP


def test_ctrl_c_in_a_terminal_reaches_the_command_once(host: SystemdHost, folder: Path) -> None:
    script = "trap 'echo INT >>got' INT; touch began; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done"
    command = shell(folder, script)
    child, terminal = pty.fork()
    if child == 0:
        os.execve(  # noqa: S606
            sys.executable,
            arguments(folder, "--services", NAMES, "--", *command),
            environment(host),
        )
    eventually((folder / "began").exists, 30, "the command has begun")
    os.write(terminal, b"\x03")

    status = eventually(lambda: ended(child, terminal), 60, "it has ended")

    assert os.waitstatus_to_exitcode(status[0]) == 0
    assert (folder / "got").read_text() == "INT\n"
    assert units.running(host) == UP


def ended(child: int, terminal: int) -> tuple[int, ...]:
    """Return the status of a child that has ended; what it prints is read away."""
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        os.close(terminal)
        return (status,)
    return ()


def test_interrupted_while_it_stops_nothing_is_run_and_all_is_restored(
    host: SystemdHost, folder: Path
) -> None:
    have_up(host, "good.service", "slowstop.service")
    started = subprocess.Popen(
        arguments(folder, "--services", "good,slowstop", "--", "touch", str(folder / "ran")),
        env=environment(host),
        stderr=subprocess.PIPE,
    )
    eventually(lambda: "good.service" not in units.running(host), 30, "it is stopping")

    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)

    assert started.returncode == 130
    assert b"interrupted before the command was run" in said
    assert not (folder / "ran").exists()
    assert units.running(host) == {"good.service", "slowstop.service"}


def test_killed_nothing_is_started_before_the_command_has_ended(
    host: SystemdHost, folder: Path
) -> None:
    """A repartition that goes on must not find the exporter back on its GPU."""
    started = begin(
        host, folder, *shell(folder, "touch began; while [ ! -e go ]; do sleep 0.05; done")
    )
    kill(started)

    assert run(host, folder, "--restore").returncode == 1
    assert units.running(host) == set()
    (folder / "go").touch()

    eventually(lambda: run(host, folder, "--restore").returncode == 0, 30, "it is restored")
    assert units.running(host) == UP


def test_the_worker_restores_before_anything_else_and_says_what_is_stopped(
    host: SystemdHost, folder: Path, stage: Stage
) -> None:
    started = begin(
        host, folder, *shell(folder, "touch began; while [ ! -e go ]; do sleep 0.05; done")
    )
    kill(started)
    assert units.running(host) == set()
    worker = a_worker(host, folder, stage)
    assert metric(worker) == 3, "its command goes on"
    worker.daemon.stop()
    (folder / "go").touch()
    eventually(lambda: "Under" not in run(host, folder, "--status").stdout, 10, "it has ended")

    worker.daemon.start()

    assert metric(worker) == 0
    assert units.running(host) == UP
    log = worker.daemon.log.read_text()
    assert log.index("good.service is started again") < log.rindex("worker started")


class RunningWorker:
    """A worker that nobody delivers to."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self.port = port


def a_worker(host: SystemdHost, folder: Path, stage: Stage) -> RunningWorker:
    port = free_port()
    settings = {
        "state_dir": str(folder),
        "policy": str(folder / "policy.yaml"),
        "worker_listen": f"127.0.0.1:{port}",
        "dbus_address": host.bus_address,
        "wall": "off",
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    command = ["-m", "remediator", "work", "--settings", str(folder / "settings.yaml")]
    daemon = stage.daemon(
        "work", [sys.executable, *command], ready=lambda: answers(port), ready_within=30
    )
    return RunningWorker(daemon, port)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).ok
    except requests.RequestException:
        return False


def metric(worker: RunningWorker) -> float:
    text = requests.get(f"http://127.0.0.1:{worker.port}/metrics", timeout=10).text
    [line] = [row for row in text.splitlines() if row.startswith("remediator_quiesced_services ")]
    return float(line.split()[1])
