"""What stops and starts a container like a service promises, kept by Docker and the fake alike."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from docker import DockerClient

from remediator.actuators.containers import ContainerActuator
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.quiesce.interface import Containers
from tests.builders import SECOND
from tests.eventually import eventually
from tests.fakes_services import FakeContainers
from tests.peers.dockerd import DockerEngine

ENDS_ON = 'trap "exit 0" {signal}; while :; do sleep 0.1; done'
IGNORES = 'trap "" TERM; while :; do sleep 0.1; done'


@dataclass
class Rig:
    """Containers, a way to have one called ``exporter``, and one whose engine is gone."""

    containers: Containers
    put: Callable[[str], str]
    deaf: Containers


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.docker])]
)
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "fake":
        return fake_rig()
    engine: DockerEngine = request.getfixturevalue("engine")
    client: DockerClient = request.getfixturevalue("docker_client")
    image: str = request.getfixturevalue("busybox")

    def put(habit: str) -> str:
        signal = "USR1" if habit == "own signal" else "TERM"
        script = IGNORES if habit == "ignores" else ENDS_ON.format(signal=signal)
        container = client.containers.run(
            image,
            ["sh", "-c", script],
            detach=True,
            name="exporter",
            network_mode="none",
            restart_policy={"Name": "always"},
            stop_signal=f"SIG{signal}",
        )
        eventually(lambda: len(container.top()["Processes"]) > 1, 10, "the trap is set")
        return str(container.id)

    return Rig(
        ContainerActuator(engine.url, 10 * SECOND),
        put,
        ContainerActuator("unix:///nonexistent/docker.sock", SECOND),
    )


def fake_rig() -> Rig:
    fake, deaf = FakeContainers(), FakeContainers()
    deaf.silent = "no such file"

    def put(habit: str) -> str:
        fake.put("exporter")
        fake.ignores_signals = habit == "ignores"
        return fake.ids["exporter"]

    return Rig(fake, put, deaf)


def is_running(rig: Rig) -> bool:
    found = rig.containers.look("exporter")
    assert found is not None
    return found.is_running


@pytest.mark.parametrize("habit", ["plain", "own signal"])
def test_it_is_stopped_stays_so_and_is_started_again(rig: Rig, habit: str) -> None:
    container_id = rig.put(habit)
    assert is_running(rig)

    rig.containers.stop_softly(container_id, 10 * SECOND)
    found = rig.containers.look("exporter")
    assert found is not None, "it is never removed"
    assert (found.id, found.is_running) == (container_id, False)

    rig.containers.start(container_id)
    assert is_running(rig)


def test_one_that_ignores_its_signal_is_never_ended_by_force(rig: Rig) -> None:
    container_id = rig.put("ignores")

    with pytest.raises(EffectUnknownError, match="takes too long to stop"):
        rig.containers.stop_softly(container_id, 0.5 * SECOND)

    assert is_running(rig)


def test_what_is_so_already_is_left_so(rig: Rig) -> None:
    container_id = rig.put("plain")

    rig.containers.start(container_id)
    rig.containers.stop_softly(container_id, 10 * SECOND)
    rig.containers.stop_softly(container_id, 10 * SECOND)

    assert not is_running(rig)


def test_one_that_is_not_there_is_nothing(rig: Rig) -> None:
    assert rig.containers.look("exporter") is None
    with pytest.raises(TargetGoneError):
        rig.containers.start("f" * 64)
    with pytest.raises(TargetGoneError):
        rig.containers.stop_softly("f" * 64, SECOND)


def test_a_silent_engine_says_nothing_and_does_nothing(rig: Rig) -> None:
    with pytest.raises(SourceError):
        rig.deaf.look("exporter")
    with pytest.raises(RefusedError):
        rig.deaf.stop_softly("f" * 64, SECOND)
    with pytest.raises(RefusedError):
        rig.deaf.start("f" * 64)
