"""What the engine and the hands promise, kept by Docker and by the fake alike."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest
from docker import DockerClient
from docker.errors import NotFound

from remediator.actuators.containers import ContainerActuator
from remediator.core.gpu_claims import GpuClaims
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations import container_restart, orphan_senses, senses, stop_container
from remediator.sources.docker_engine import DockerSource
from tests.builders import MINUTE, SECOND
from tests.eventually import eventually
from tests.fakes import FakeHost, HandClock
from tests.peers.dockerd import DockerEngine

OBEYS = 'trap "exit 143" TERM; sleep 1000 & wait'
IGNORES = 'trap "" TERM; sleep 1000 & wait; sleep 1000'
WAIT = 10 * SECOND


class Engine(senses.Engine, orphan_senses.Engine, Protocol):
    """What all remediations ask of Docker."""


class Hands(stop_container.Hands, container_restart.Hands, Protocol):
    """All that is done with a container."""


class Rig(Protocol):
    """An engine with hands, and what a test needs to bring about."""

    @property
    def engine(self) -> Engine: ...
    @property
    def hands(self) -> Hands: ...
    def run(self, *, ignores_sigterm: bool = False, auto_remove: bool = False) -> str: ...
    def create(self) -> str: ...
    def end(self, container_id: str) -> None: ...
    def restart(self, container_id: str) -> None: ...
    def touch_keep_alive(self, container_id: str, at: datetime | None = None) -> None: ...
    def now(self) -> datetime: ...
    def fall_silent(self) -> tuple[Engine, Hands]: ...
    def labels_of(self, container_id: str) -> Mapping[str, str]: ...


@dataclass
class RealRig:
    engine: DockerSource
    hands: ContainerActuator
    client: DockerClient
    image: str

    def run(self, *, ignores_sigterm: bool = False, auto_remove: bool = False) -> str:
        options: dict[str, Any] = {"network_mode": "none", "auto_remove": auto_remove}
        command = ["sh", "-c", IGNORES if ignores_sigterm else OBEYS]
        environment = ["NVIDIA_VISIBLE_DEVICES=GPU-0"]
        options["labels"] = {"ds01.user": "alice"}
        container = self.client.containers.run(
            self.image, command, detach=True, environment=environment, **options
        )
        # The shell has set its trap when its sleep runs.
        eventually(lambda: len(container.top()["Processes"]) > 1, 10, "the trap is set")
        return str(container.id)

    def create(self) -> str:
        environment = ["NVIDIA_VISIBLE_DEVICES=GPU-0"]
        made = self.client.containers.create(self.image, ["sleep", "9"], environment=environment)
        return str(made.id)

    def end(self, container_id: str) -> None:
        container = self.client.containers.get(container_id)
        container.kill("TERM")
        # One that is removed when it ends may be gone before anybody waits for its end.
        with contextlib.suppress(NotFound):
            container.wait()

    def restart(self, container_id: str) -> None:
        self.client.containers.get(container_id).restart(timeout=0)

    def touch_keep_alive(self, container_id: str, at: datetime | None = None) -> None:
        date = f"-d @{at.timestamp():.0f} " if at else ""
        script = f"mkdir -p /workspace; touch {date}/workspace/.keep-alive"
        self.client.containers.get(container_id).exec_run(["sh", "-c", script])

    def now(self) -> datetime:
        return datetime.now(UTC)

    def labels_of(self, container_id: str) -> Mapping[str, str]:
        return dict(self.client.containers.get(container_id).labels)

    def fall_silent(self) -> tuple[Engine, Hands]:
        nowhere = "unix:///nonexistent/docker.sock"
        return DockerSource(nowhere, SECOND), ContainerActuator(nowhere, SECOND)


class FakeRig:
    def __init__(self) -> None:
        self._clock = HandClock()
        self._host = FakeHost(self._clock)
        self._names = iter("abcdefghij")
        self.engine = self._host.docker
        self.hands = self._host.docker

    def run(self, *, ignores_sigterm: bool = False, auto_remove: bool = False) -> str:
        container = self._host.run(next(self._names), age=SECOND)
        container.ignores_sigterm = ignores_sigterm
        container.auto_remove = auto_remove
        return container.facts.id

    def create(self) -> str:
        return self._host.create(next(self._names)).facts.id

    def end(self, container_id: str) -> None:
        self.engine.end(container_id, 143)

    def restart(self, container_id: str) -> None:
        self.engine.restart(container_id, self._host.a_process(container_id))

    def touch_keep_alive(self, container_id: str, at: datetime | None = None) -> None:
        now = self._clock.now()
        self.engine.get(container_id).keep_alive = (at or now, now)

    def now(self) -> datetime:
        return self._clock.now()

    def labels_of(self, container_id: str) -> Mapping[str, str]:
        return self.engine.get(container_id).facts.labels

    def fall_silent(self) -> tuple[Engine, Hands]:
        self.engine.silent = "no such file or directory"
        return self.engine, self.hands


@pytest.fixture(
    params=[
        "fake",
        pytest.param("real", marks=[pytest.mark.integration, pytest.mark.docker]),
    ]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    engine: DockerEngine = request.getfixturevalue("engine")
    client: DockerClient = request.getfixturevalue("docker_client")
    source = DockerSource(engine.url, WAIT)
    yield RealRig(
        source,
        ContainerActuator(engine.url, WAIT),
        client,
        request.getfixturevalue("busybox"),
    )
    source.close()


def gone(ask: Callable[[str], object], container_id: str) -> bool:
    try:
        ask(container_id)
    except TargetGoneError:
        return True
    return False


def test_a_running_container_is_described_with_this_run_and_its_claims(rig: Rig) -> None:
    facts = rig.engine.inspect(rig.run())

    assert (facts.state, facts.is_running, facts.exit_code) == ("running", True, None)
    assert facts.pid > 1
    assert facts.claims == GpuClaims(ids=("GPU-0",))
    assert facts.started_at is not None
    assert facts.started_at.tzinfo is UTC
    assert abs(rig.now() - facts.started_at) < MINUTE


@pytest.mark.parametrize("verb", ["inspect", "stop", "stop_softly", "start", "remove"])
def test_an_unknown_container_is_gone(rig: Rig, verb: str) -> None:
    unknown = "0" * 64
    asks: dict[str, Callable[[str], object]] = {
        "inspect": rig.engine.inspect,
        "stop": lambda container_id: rig.hands.stop(container_id, SECOND, WAIT),
        "stop_softly": lambda container_id: rig.hands.stop_softly(container_id, WAIT),
        "start": rig.hands.start,
        "remove": rig.hands.remove,
    }

    with pytest.raises(TargetGoneError):
        asks[verb](unknown)


@pytest.mark.parametrize(
    ("ignores", "exit_code"), [(False, 143), (True, 137)], ids=["obeys", "ignores the signal"]
)
def test_a_stopped_container_tells_how_it_ended(rig: Rig, ignores: bool, exit_code: int) -> None:
    container = rig.run(ignores_sigterm=ignores)

    rig.hands.stop(container, SECOND, WAIT)

    facts = rig.engine.inspect(container)
    assert (facts.state, facts.exit_code, facts.pid) == ("exited", exit_code, 0)
    assert facts.finished_at is not None


def test_a_container_that_is_stopped_already_can_be_stopped(rig: Rig) -> None:
    container = rig.run()
    rig.end(container)

    rig.hands.stop(container, SECOND, WAIT)

    assert rig.engine.inspect(container).exit_code == 143


def test_a_container_that_is_asked_to_end_does_so_and_can_be_started_anew(rig: Rig) -> None:
    container = rig.run()
    before = rig.engine.inspect(container)

    rig.hands.stop_softly(container, WAIT)
    rig.hands.stop_softly(container, WAIT)
    assert rig.engine.inspect(container).exit_code == 143
    rig.hands.start(container)
    rig.hands.start(container)

    after = rig.engine.inspect(container)
    assert (after.id, after.state, after.exit_code) == (before.id, "running", None)
    assert after.started_at != before.started_at


def test_a_container_that_does_not_end_when_asked_runs_on(rig: Rig) -> None:
    container = rig.run(ignores_sigterm=True)
    before = rig.engine.inspect(container)

    with pytest.raises(EffectUnknownError, match="takes too long to stop"):
        rig.hands.stop_softly(container, 0.5 * SECOND)

    assert rig.engine.inspect(container) == before


def test_a_container_is_found_by_its_name_and_by_the_beginning_of_its_id(rig: Rig) -> None:
    facts = rig.engine.inspect(rig.run())

    assert rig.engine.inspect(facts.name).id == facts.id
    assert rig.engine.inspect(facts.id[:12]).id == facts.id


def test_a_stopped_container_can_be_removed_once(rig: Rig) -> None:
    container = rig.run()
    rig.hands.stop(container, SECOND, WAIT)

    rig.hands.remove(container)

    assert gone(rig.engine.inspect, container)
    with pytest.raises(TargetGoneError):
        rig.hands.remove(container)


def test_a_container_that_was_never_started_has_no_run_and_can_be_removed(rig: Rig) -> None:
    container = rig.create()

    facts = rig.engine.inspect(container)
    rig.hands.remove(container)

    assert (facts.state, facts.is_running, facts.pid) == ("created", False, 0)
    assert (facts.started_at, facts.finished_at) == (None, None)
    assert facts.claims == GpuClaims(ids=("GPU-0",))
    assert gone(rig.engine.inspect, container)


def test_a_running_container_is_not_removed(rig: Rig) -> None:
    container = rig.run()

    with pytest.raises(RefusedError):
        rig.hands.remove(container)

    assert rig.engine.inspect(container).is_running


def test_a_container_that_removes_itself_is_gone_after_its_stop(rig: Rig) -> None:
    container = rig.run(auto_remove=True)

    rig.hands.stop(container, SECOND, WAIT)

    eventually(lambda: gone(rig.engine.inspect, container), 10, "it is gone")
    assert gone(rig.hands.remove, container)


def test_a_restarted_container_is_another_run(rig: Rig) -> None:
    container = rig.run()
    before = rig.engine.inspect(container)

    rig.restart(container)

    after = rig.engine.inspect(container)
    assert (after.id, after.state) == (before.id, "running")
    assert before.started_at is not None
    assert after.started_at is not None
    assert after.started_at > before.started_at


def test_a_container_without_a_keep_alive_file_has_no_times(rig: Rig) -> None:
    assert rig.engine.keep_alive_at(rig.engine.inspect(rig.run())) is None


@pytest.mark.parametrize("ahead", [False, True], ids=["touched", "dated ahead"])
def test_a_keep_alive_file_has_a_time_that_no_owner_can_set_ahead(rig: Rig, ahead: bool) -> None:
    container = rig.run()
    rig.touch_keep_alive(container, rig.now() + 1000 * 60 * MINUTE if ahead else None)

    times = rig.engine.keep_alive_at(rig.engine.inspect(container))

    assert times is not None
    assert (times[0] > rig.now() + MINUTE) is ahead
    assert abs(rig.now() - min(times)) < MINUTE


def test_the_keep_alive_file_of_a_container_that_is_gone_is_gone(rig: Rig) -> None:
    container = rig.run()
    rig.touch_keep_alive(container)
    facts = rig.engine.inspect(container)
    rig.hands.stop(container, SECOND, WAIT)
    rig.hands.remove(container)

    assert rig.engine.keep_alive_at(facts) is None


def test_a_silent_engine_knows_nothing_and_was_told_nothing(rig: Rig) -> None:
    container = rig.run()
    engine, hands = rig.fall_silent()

    with pytest.raises(SourceError):
        engine.inspect(container)
    with pytest.raises(RefusedError, match="cannot be reached"):
        hands.stop(container, timedelta(), WAIT)
    with pytest.raises(RefusedError):
        hands.remove(container)
    with pytest.raises(RefusedError):
        hands.stop_softly(container, WAIT)
    with pytest.raises(RefusedError):
        hands.start(container)


def test_all_containers_are_listed_with_their_state(rig: Rig) -> None:
    running, stopped, removed = rig.run(), rig.run(), rig.run()
    rig.end(stopped)
    rig.end(removed)
    rig.hands.remove(removed)

    listed = {found.id: found.is_running for found in rig.engine.list()}

    assert listed[running] is True
    assert listed[stopped] is False
    assert removed not in listed


def test_the_labels_of_a_removed_container_are_remembered_and_of_no_other(rig: Rig) -> None:
    running, stopped, removed, automatic = (
        rig.run(),
        rig.run(),
        rig.run(),
        rig.run(auto_remove=True),
    )
    labels = rig.labels_of(removed)
    for container_id in (stopped, removed, automatic):
        rig.end(container_id)
    rig.hands.remove(removed)

    remembered = rig.engine.labels_of_removed(removed)

    assert remembered is not None
    assert labels
    assert labels.items() <= remembered.items()
    assert rig.engine.labels_of_removed(running) is None
    assert rig.engine.labels_of_removed(stopped) is None
    assert rig.engine.labels_of_removed("f" * 64) is None
    eventually(lambda: rig.engine.labels_of_removed(automatic), 10, "it removed itself")


def test_a_silent_engine_neither_lists_nor_remembers(rig: Rig) -> None:
    engine, _ = rig.fall_silent()

    with pytest.raises(SourceError):
        engine.list()
    with pytest.raises(SourceError):
        engine.labels_of_removed("f" * 64)
