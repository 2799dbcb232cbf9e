"""A living container's process is never signalled, whatever alerts say and whatever changes.

Hundreds of processes of containers and of the host hold the GPUs while containers start and die,
programs are started in them, and numbers of dead processes are used again. Meanwhile alerts, most
of them lies, are carried out without a decision before, so that nothing but kill-orphan itself
stands between them and the processes. Each process of a container writes down every signal.
"""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container

from remediator.actuators.processes import HeldProcess, ProcessActuator
from remediator.core.attempts import Proof
from remediator.core.targets import Process
from remediator.errors import RemediationError
from remediator.remediations.kill_orphan import KillOrphan
from tests.fakes import MemorySteps
from tests.integration.orphan_machine import ALICE, BOB, CGROUPS, OrphanMachine
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu import build
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.pids import aim_at, spawn_as

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

SECONDS = 25.0
# A busy machine gets so much longer to come to this many ends.
MORE_SECONDS = 60.0
ENDS = 20
HANDS = 3
CONTAINERS = 5
PER_CONTAINER = 15
ORPHANS = 60
WELCOME = 50
# Holds the GPU in so many processes, each of which writes down the signals that it gets.
RECORDER = """
record() {
    trap 'echo TERM >> /record/signals' TERM
    exec 3<>/dev/nvidia0
    while :; do sleep 1000 3<&- & wait $!; done
}
"""
MANY = f"for i in $(seq {PER_CONTAINER}); do record & done; record"


class Recorded:
    """`ProcessActuator`, with every signal that it sends written down before."""

    def __init__(self, hands: ProcessActuator, sent: list[Process]) -> None:
        self._hands = hands
        self._sent = sent

    @contextmanager
    def hold(self, target: Process) -> Iterator["RecordedHeld"]:
        with self._hands.hold(target) as process:
            yield RecordedHeld(process, target, self._sent)

    def has_ended(self, target: Process) -> bool:
        return self._hands.has_ended(target)


class RecordedHeld:
    """One process that is held."""

    def __init__(self, process: HeldProcess, target: Process, sent: list[Process]) -> None:
        self._process = process
        self._target = target
        self._sent = sent

    def send(self, number: signal.Signals, check: Callable[[], object]) -> None:
        check()
        self._sent.append(self._target)
        self._process.send(number, lambda: None)

    def ends_within(self, time: timedelta) -> bool:
        return self._process.ends_within(time)


class Crowd:
    """The processes of the machine, and what becomes of them.

    ``orphans`` are all that ever were, ``others`` those of the host that may be there.
    """

    def __init__(self, machine: OrphanMachine, folder: Path, seed: int) -> None:
        self._machine = machine
        self._folder = folder
        self._chance = random.Random(seed)  # noqa: S311 - not a secret
        self.seed = seed
        self.signals = folder / "signals"
        self._lock = threading.Lock()
        self._children: dict[Process, subprocess.Popen[bytes]] = {}
        self._containers: dict[str, tuple[Container, set[Process]]] = {}
        self._past: list[Process] = []
        self.orphans: set[Process] = set()
        self.reused = 0
        self.containers = 0
        self.execs = 0

    def fill(self) -> None:
        for _ in range(ORPHANS):
            self.start_on_host(ALICE)
        for _ in range(WELCOME):
            self.start_on_host(self._chance.choice([0, BOB]))
        for _ in range(CONTAINERS):
            self.start_container()

    def change(self) -> None:
        """Let something happen."""
        changes: list[Callable[[], None]] = [
            self.start_container,
            self.end_container,
            self.exec,
            self.reuse_a_number,
            lambda: self.start_on_host(ALICE),
        ]
        happens = self._chance.choices(changes, weights=[2, 2, 4, 5, 4])
        # A container may end while something is started in it.
        with contextlib.suppress(APIError):
            happens[0]()

    def start_on_host(self, uid: int) -> None:
        task, gpu = self._chance.choice(["idle", "stubborn"]), self._chance.choice([0, 1])
        self._keep(self._machine.host.start_task(gpu, task=task, uid=uid), uid)

    def reuse_a_number(self) -> None:
        """Let a process end, and another kind of process have its number."""
        with self._lock:
            dying = self._chance.choice(list(self._children))
            child = self._children.pop(dying)
            self._past.append(dying)
        child.kill()
        child.wait()
        uid = BOB if dying in self.orphans else ALICE
        node = str(self._machine.host.device(self._chance.choice([0, 1])))
        command = ["setpriv", f"--reuid={uid}", str(build.task()), "stubborn", node]
        # Where somebody was faster, the number is used again all the same.
        with contextlib.suppress(AssertionError):
            self._keep(spawn_as(dying.pid, command, after=dying.start_ticks, within=1), uid)
            self.reused += 1

    def start_container(self) -> None:
        self.containers += 1
        container = run_gpu_container(
            self._machine.client,
            self._machine.host,
            f"crowd-{self.containers}",
            command=["sh", "-c", RECORDER + MANY],
            volumes={str(self._folder): {"bind": "/record", "mode": "rw"}},
            pid_mode=self._chance.choice([None, "host"]),
            user=self._chance.choice(["0", str(ALICE)]),
        )
        with self._lock:
            self._containers[str(container.id)] = (container, set())
        self.see_containers()

    def end_container(self) -> None:
        """End one at once: nobody in it is asked to."""
        with self._lock:
            if len(self._containers) <= CONTAINERS // 2:
                return
            chosen = self._chance.choice(list(self._containers))
            container, processes = self._containers.pop(chosen)
            self._past += processes
        container.remove(force=True)

    def exec(self) -> None:
        """Start a program in a container, with a dead one's number if that can be had."""
        with self._lock:
            container, _ = self._containers[self._chance.choice(list(self._containers))]
            past = self._chance.choice(self._past) if self._past else None
        if past is not None:
            # The engine starts some programs of its own first.
            aim_at(past.pid - self._chance.randint(0, 12))
        user = self._chance.choice(["0", str(ALICE)])
        container.exec_run(["sh", "-c", f"{RECORDER}record"], detach=True, user=user)
        self.execs += 1
        self.see_containers()

    def see_containers(self) -> None:
        """Learn which processes the containers have now."""
        with self._lock:
            for container_id, (_, processes) in self._containers.items():
                group = CGROUPS / "docker" / container_id / "cgroup.procs"
                with contextlib.suppress(OSError):
                    pids = [int(line) for line in group.read_text().split()]
                    processes |= {self._machine.target(pid) for pid in pids}

    def a_target(self) -> Process:
        """Return what an alert names: an orphan, or one that is none, or what never was."""
        with self._lock:
            orphans = [p for p in self._children if p in self.orphans]
            others = [p for p in self._children if p not in self.orphans]
            others += [*self.of_containers(), *self._past]
        chosen = self._chance.choice(self._chance.choice([orphans or others, others]))
        lie = self._chance.random()
        if lie < 0.15:
            return Process(chosen.pid, self._chance.choice(others).start_ticks, chosen.boot_id)
        if lie < 0.2:
            return self._machine.target(self._chance.choice([1, os.getpid(), os.getppid()]))
        if lie < 0.25:
            return Process(self._chance.choice([0, -1, -chosen.pid]), 0, chosen.boot_id)
        return chosen

    def of_containers(self) -> set[Process]:
        """Return all processes that were seen in the containers that are there."""
        return {process for _, found in self._containers.values() for process in found}

    def stopped_containers(self) -> list[str]:
        """Return the containers that are there, and do not run."""
        found = [container for container, _ in self._containers.values()]
        for container in found:
            container.reload()
        return [str(container.name) for container in found if container.status != "running"]

    def close(self) -> None:
        for child in self._children.values():
            child.kill()
            child.wait()

    def _keep(self, child: subprocess.Popen[bytes], uid: int) -> None:
        target = self._machine.target(child.pid)
        with self._lock:
            self._children[target] = child
            if uid == ALICE:
                self.orphans.add(target)


@pytest.fixture
def machine(engine: DockerEngine, docker_client: DockerClient) -> Iterator[OrphanMachine]:
    with GpuHost(2) as host:
        made = OrphanMachine(host, docker_client, engine.url, timedelta(milliseconds=50))
        yield made
        host.end_tasks()
        made.close()


@pytest.fixture
def crowd(machine: OrphanMachine, folder: Path) -> Iterator[Crowd]:
    record = folder / "record"
    record.mkdir()
    record.chmod(0o777)
    seed = int(os.environ.get("REMEDIATOR_TEST_SEED") or time.time_ns() % 10**6)
    made = Crowd(machine, record, seed)
    yield made
    made.close()


def test_no_process_of_a_living_container_is_ever_signalled(
    machine: OrphanMachine, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[Process] = []
    ended: list[Process] = []
    tried = itertools.count()
    crowd.fill()
    until = time.monotonic() + SECONDS

    def goes_on() -> bool:
        limit = until if len(ended) >= ENDS else until + MORE_SECONDS
        return time.monotonic() < limit

    def carry_out_alerts(kill: KillOrphan) -> None:
        while goes_on():
            target = crowd.a_target()
            task = machine.task(target, next(tried) % 2, wait=timedelta(milliseconds=100))
            with contextlib.suppress(RemediationError):
                kill.execute(task, MemorySteps())
                if kill.verify(task).proof is Proof.PROVEN:
                    ended.append(target)

    def change() -> None:
        while goes_on():
            crowd.change()

    hands = [Recorded(ProcessActuator(machine.kernel), sent) for _ in range(HANDS)]
    kills = [machine.remediation(recorded) for recorded in hands]
    with ThreadPoolExecutor(HANDS + 1) as pool:
        working = [pool.submit(carry_out_alerts, kill) for kill in kills]
        for future in [*working, pool.submit(change)]:
            future.result()
    crowd.see_containers()
    alive = sum(machine.lives(process) for process in crowd.of_containers())
    recorded = crowd.signals.read_text() if crowd.signals.exists() else ""
    with capsys.disabled():
        print(  # noqa: T201 - the numbers are the point
            f"\nseed {crowd.seed}: {next(tried)} alerts carried out, {crowd.containers} containers"
            f" started, {crowd.execs} programs in them, {alive} of their processes left,"
            f" {crowd.reused} numbers used again: {len(set(sent))} orphans signalled,"
            f" {len(ended)} ended, {recorded.count('TERM')} signals to containers"
        )

    assert recorded == ""
    assert set(sent) - crowd.orphans == set()
    assert crowd.stopped_containers() == []
    assert alive > PER_CONTAINER
    assert crowd.reused > 1
    assert len(ended) >= ENDS
    assert not [target for target in ended if machine.lives(target)]
