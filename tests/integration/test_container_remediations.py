"""stop-container and remove-container on a real Docker engine and the real kernel.

Who decides is not asked here: what is tested is what Docker does with each kind of container, and
that what is said of it afterwards is true.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container as RealContainer

from remediator.actuators.containers import ContainerActuator
from remediator.core.attempts import Proof, Task
from remediator.core.policy import Option
from remediator.core.targets import Container
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations.leftover_container import target_of
from remediator.remediations.remove_container import RemoveContainer
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from remediator.sources.docker_engine import DockerSource
from remediator.sources.proc import ProcSource
from tests.builders import SECOND
from tests.eventually import eventually
from tests.fakes import FakeDriver, FakeLimits, FakePrometheus, FakeUsers, MemorySteps, a_gpu
from tests.peers.dockerd import DockerEngine
from tests.peers.missing import PeerMissingError, require_tool

pytestmark = [pytest.mark.integration, pytest.mark.docker]

OBEYS = 'trap "exit 143" TERM; sleep 1000 & wait'
IGNORES = 'trap "" TERM; sleep 1000 & wait; sleep 1000'
WAIT = 10 * SECOND


class Rig:
    """Both remediations on one engine, and containers for them."""

    def __init__(self, engine: DockerEngine, client: DockerClient, image: str) -> None:
        self.client = client
        self._image = image
        self.docker = DockerSource(engine.url, WAIT)
        self.driver = FakeDriver()
        self.driver.add(a_gpu(0))
        senses = Senses(
            FakePrometheus(), self.docker, self.driver, ProcSource(), FakeUsers({"alice": 1001})
        )
        hands = ContainerActuator(engine.url, WAIT)
        self.stop = StopContainer(senses, hands, FakeLimits())
        self.remove = RemoveContainer(senses, hands, FakeLimits())

    def run(self, script: str = OBEYS, **options: Any) -> RealContainer:
        """Start a container, which is ready for its signal when this returns."""
        options.setdefault("command", ["sh", "-c", script])
        container: RealContainer = self.client.containers.run(
            self._image, detach=True, network_mode="none", **options
        )
        if script in {OBEYS, IGNORES}:
            eventually(lambda: len(container.top()["Processes"]) > 1, 10, "the trap is set")
        return container

    def create(self, **options: Any) -> RealContainer:
        """Make a container and do not start it."""
        made: RealContainer = self.client.containers.create(
            self._image, ["sleep", "1000"], network_mode="none", **options
        )
        return made

    def task(self, container: RealContainer, **options: Option) -> Task:
        target = target_of(self.docker.inspect(str(container.id)))
        context: dict[str, str | float] = {"gpus": "0", "grace_seconds": 5.0}
        return Task(target, timeout=WAIT, options=options, context=context)

    def state(self, container: RealContainer) -> str:
        """Docker's word for how it stands, or ``gone``."""
        try:
            return self.docker.inspect(str(container.id)).state
        except TargetGoneError:
            return "gone"


class BeforeStep(MemorySteps):
    """Steps before the first of which something happens."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self._happens = happens

    def step(
        self, name: str, detail: str, *, fresh: bool = False
    ) -> AbstractContextManager[Callable[[str], None]]:
        self._happens()
        return super().step(name, detail, fresh=fresh)


@pytest.fixture
def frozen() -> Iterator[Callable[[Path], Callable[[], None]]]:
    """Let nobody change a folder, not even root; call what is returned to let it be changed."""
    chattr = require_tool("chattr")
    left: list[Path] = []

    def freeze(folder: Path) -> Callable[[], None]:
        done = subprocess.run([chattr, "+i", folder], check=False, capture_output=True)
        if done.returncode:
            raise PeerMissingError("a file system on which chattr works")
        left.append(folder)
        return thaw

    def thaw() -> None:
        while left:
            subprocess.run([chattr, "-i", left.pop()], check=True)

    yield freeze
    thaw()


@pytest.fixture
def rig(engine: DockerEngine, docker_client: DockerClient, busybox: str) -> Iterator[Rig]:
    rig = Rig(engine, docker_client, busybox)
    yield rig
    rig.docker.close()


@pytest.mark.parametrize(
    ("script", "options", "code"),
    [
        pytest.param(OBEYS, {}, "143 after ", id="obeys"),
        pytest.param(IGNORES, {}, "137 (killed: it did not stop in its grace)", id="ignores"),
        pytest.param("exec sleep 1000", {"init": True}, "143 after ", id="init"),
        pytest.param("exec sleep 1000", {}, "137 (killed", id="a process 1 that hears nothing"),
        pytest.param(OBEYS, {"stop_signal": "SIGINT"}, "130 after", id="another stop signal"),
    ],
)
def test_a_container_is_stopped_and_removed_however_it_takes_its_signal(
    rig: Rig, script: str, options: dict[str, Any], code: str
) -> None:
    container, steps = rig.run(script, **options), MemorySteps()
    # Whoever obeys may take its time: the exit code says whether it was killed.
    task = rig.task(container, grace=SECOND if code.startswith("137") else 10 * SECOND)

    rig.stop.execute(task, steps)

    assert steps.said["stop"].startswith(f"stopped with exit code {code}")
    assert steps.said["remove"] == "removed"
    assert rig.stop.verify(task).proof is Proof.PROVEN
    assert rig.state(container) == "gone"


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
@pytest.mark.parametrize("script", [OBEYS, IGNORES], ids=["obeys", "ignores"])
def test_no_restart_policy_brings_a_stopped_container_back(
    rig: Rig, policy: str, script: str
) -> None:
    container = rig.run(script, restart_policy={"Name": policy})
    task = rig.task(container, grace=SECOND, remove=False)

    rig.stop.execute(task, MemorySteps())

    assert rig.stop.verify(task).proof is Proof.PROVEN
    until = time.monotonic() + 2
    eventually(lambda: time.monotonic() > until or rig.state(container) != "exited", 5, "2 s pass")
    assert rig.state(container) == "exited"
    assert rig.docker.inspect(str(container.id)).restart_count == 0


def test_a_paused_container_is_stopped(rig: Rig) -> None:
    container = rig.run()
    container.pause()
    task = rig.task(container, grace=SECOND)

    rig.stop.execute(task, MemorySteps())

    assert rig.stop.verify(task).proof is Proof.PROVEN


def test_a_container_that_restarts_all_the_time_is_brought_to_rest(rig: Rig) -> None:
    container = rig.run("exit 3", restart_policy={"Name": "always"})
    eventually(
        lambda: (
            rig.docker.inspect(str(container.id)).restart_count >= 4
            and rig.state(container) == "restarting"
        ),
        20,
        "it waits for its restart, and for longer than this test takes",
    )
    task = rig.task(container, grace=SECOND)

    rig.stop.execute(task, MemorySteps())

    assert rig.stop.verify(task).proof is Proof.PROVEN


def test_a_container_that_removes_itself_is_left_to_do_so(rig: Rig) -> None:
    container, steps = rig.run(auto_remove=True), MemorySteps()
    task = rig.task(container)

    rig.stop.execute(task, steps)

    eventually(lambda: rig.stop.verify(task).proof is Proof.PROVEN, 10, "it is gone")
    assert steps.names == ["stop", "remove", "check-gpu"]


def test_what_was_started_in_it_by_hand_ends_with_it(rig: Rig) -> None:
    container = rig.run()
    container.exec_run(["sleep", "1000"], detach=True)
    eventually(lambda: len(container.top()["Processes"]) > 2, 10, "it runs")
    pids = [int(row[1]) for row in container.top()["Processes"]]
    for pid in pids:
        rig.driver.use("GPU-0", pid)
    task = rig.task(container)

    rig.stop.execute(task, MemorySteps())

    assert len(pids) > 2
    eventually(lambda: rig.stop.verify(task).proof is Proof.PROVEN, 10, "all of it has ended")


def test_one_that_is_kept_is_there_and_can_be_removed_later(rig: Rig) -> None:
    container, steps = rig.run(), MemorySteps()
    task = rig.task(container, remove=False)

    rig.stop.execute(task, steps)

    assert rig.state(container) == "exited"
    assert steps.names == ["stop", "check-gpu"]
    later = rig.task(container)
    assert later.target == task.target
    rig.remove.execute(later, MemorySteps())
    assert rig.remove.verify(later).proof is Proof.PROVEN


def test_one_that_its_owner_has_stopped_is_theirs(rig: Rig) -> None:
    container, steps = rig.run(), MemorySteps()
    task = rig.task(container)
    container.stop(timeout=1)

    with pytest.raises(TargetGoneError, match="stopped by somebody else"):
        rig.stop.execute(task, steps)

    assert (steps.names, rig.state(container)) == ([], "exited")


def test_one_that_its_owner_has_restarted_is_another(rig: Rig) -> None:
    container, steps = rig.run(), MemorySteps()
    task = rig.task(container)
    container.restart(timeout=0)

    with pytest.raises(TargetGoneError, match="started anew"):
        rig.stop.execute(task, steps)

    assert (steps.names, rig.state(container)) == ([], "running")


def test_a_new_container_with_the_old_name_is_another(rig: Rig) -> None:
    old = rig.run(name="train")
    task = rig.task(old)
    old.remove(force=True)
    new = rig.run(name="train")

    for remediation in (rig.stop, rig.remove):
        with pytest.raises(TargetGoneError, match="no longer exists"):
            remediation.execute(task, MemorySteps())

    assert rig.state(new) == "running"


def test_volumes_stay(rig: Rig) -> None:
    volume = rig.client.volumes.create("of-remediator-test")
    try:
        container = rig.run(volumes={volume.name: {"bind": "/data", "mode": "rw"}})
        rig.stop.execute(rig.task(container), MemorySteps())

        assert rig.state(container) == "gone"
        assert rig.client.volumes.get(str(volume.name))
    finally:
        volume.remove()


def test_many_are_stopped_at_the_same_time(rig: Rig) -> None:
    """Each ignores its signal for a grace of 2 s: one after another they would take 16 s."""
    tasks = [rig.task(rig.run(IGNORES), grace=2 * SECOND) for _ in range(8)]
    began = threading.Barrier(len(tasks) + 1)

    def stop(task: Task) -> None:
        began.wait(10)
        rig.stop.execute(task, MemorySteps())

    threads = [threading.Thread(target=stop, args=[task]) for task in tasks]
    for thread in threads:
        thread.start()
    began.wait(10)
    eventually(lambda: not any(t.is_alive() for t in threads), 10, "all are stopped")

    assert {rig.stop.verify(task).proof for task in tasks} == {Proof.PROVEN}


@pytest.mark.parametrize("never_ran", [True, False], ids=["never started", "stopped"])
def test_one_that_does_not_run_is_removed(rig: Rig, never_ran: bool) -> None:
    container = rig.create() if never_ran else rig.run()
    if not never_ran:
        container.stop(timeout=0)
    task = rig.task(container)

    said = rig.remove.execute(task, MemorySteps())

    assert said == "it is removed"
    assert isinstance(task.target, Container) is not never_ran
    assert rig.remove.verify(task).proof is Proof.PROVEN
    with pytest.raises(TargetGoneError):
        rig.remove.execute(task, MemorySteps())
    assert "no longer exists" in rig.remove.execute(task, MemorySteps({"remove": SECOND}))


def test_one_that_could_not_be_started_counts_as_never_started(rig: Rig) -> None:
    container = rig.create(entrypoint="/no/such/program")
    with pytest.raises(Exception, match="no such"):
        container.start()
    task = rig.task(container)

    assert not isinstance(task.target, Container)
    rig.remove.execute(task, MemorySteps())
    assert rig.remove.verify(task).proof is Proof.PROVEN


@pytest.mark.parametrize("never_ran", [True, False], ids=["never started", "stopped"])
def test_one_that_was_started_meanwhile_is_not_removed(rig: Rig, never_ran: bool) -> None:
    container, steps = rig.create() if never_ran else rig.run(), MemorySteps()
    if not never_ran:
        container.stop(timeout=0)
    task = rig.task(container)
    container.start()

    with pytest.raises(TargetGoneError, match="started since"):
        rig.remove.execute(task, steps)

    assert (steps.names, rig.state(container)) == ([], "running")
    assert rig.remove.verify(task).proof is Proof.DISPROVEN


def test_docker_itself_refuses_one_that_was_started_in_the_last_moment(rig: Rig) -> None:
    container = rig.run()
    container.stop(timeout=0)
    task = rig.task(container)
    steps = BeforeStep(container.start)

    with pytest.raises(RefusedError, match="running container"):
        rig.remove.execute(task, steps)

    assert rig.state(container) == "running"
    assert rig.remove.verify(task).proof is Proof.DISPROVEN


def test_a_removal_that_fails_in_docker_is_verified_and_can_be_repeated(
    rig: Rig, engine: DockerEngine, frozen: Callable[[Path], Callable[[], None]]
) -> None:
    """A folder of Docker's own that cannot be changed keeps the container from being removed."""
    container = rig.run()
    container.stop(timeout=0)
    task = rig.task(container)
    thaw = frozen(engine.folder / "data" / "containers" / str(container.id) / "mounts")

    with pytest.raises((EffectUnknownError, RefusedError)):
        rig.remove.execute(task, MemorySteps())
    assert rig.remove.verify(task).proof is not Proof.PROVEN
    thaw()

    again = rig.task(container)
    assert again.target == task.target
    rig.remove.execute(again, MemorySteps({"remove": timedelta(seconds=1)}))
    assert rig.remove.verify(again).proof is Proof.PROVEN
