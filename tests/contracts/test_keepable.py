"""What finds the container that somebody wants to keep promises, kept by Docker and the fake."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from docker import DockerClient

from remediator.core.extensions import Keepable
from remediator.core.lifecycle import is_infrastructure
from remediator.core.targets import Container
from remediator.engine.extending import Containers
from remediator.errors import RefusedError, SourceError, TargetGoneError
from remediator.remediations.keepable import KeepableContainers
from remediator.remediations.senses import Senses
from remediator.sources.accounts import Accounts
from remediator.sources.docker_engine import DockerSource
from remediator.sources.proc import ProcSource
from tests.builders import HOUR, SECOND
from tests.fakes import FakeDriver, FakeLimits, FakePrometheus
from tests.fakes_keeping import FakeKeepables
from tests.peers.dockerd import DockerEngine

Labels = dict[str, str]


@dataclass
class Rig:
    """Containers, a way to start one with a GPU, and an engine that does not answer."""

    containers: Containers
    put: Callable[[str, Labels], str]
    deaf: Containers

    def find(self, name: str) -> Keepable:
        return self.containers.find(name, datetime.now(UTC))


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.docker])]
)
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "fake":
        return fake_rig()
    engine: DockerEngine = request.getfixturevalue("engine")
    client: DockerClient = request.getfixturevalue("docker_client")
    image: str = request.getfixturevalue("busybox")

    def put(name: str, labels: Labels) -> str:
        container = client.containers.run(
            image,
            ["sleep", "1000"],
            detach=True,
            name=name,
            labels=labels,
            network_mode="none",
            environment={"NVIDIA_VISIBLE_DEVICES": "GPU-0"},
            stop_signal="SIGKILL",
        )
        return str(container.id)

    return Rig(keepable(engine.url), put, keepable("unix:///nonexistent/docker.sock"))


def keepable(url: str) -> KeepableContainers:
    docker = DockerSource(url, 10 * SECOND)
    senses = Senses(FakePrometheus(), docker, FakeDriver(), ProcSource(), Accounts())
    return KeepableContainers(senses, FakeLimits())


def fake_rig() -> Rig:
    fake, deaf = FakeKeepables(), FakeKeepables()
    deaf.refuses = SourceError("no answer")

    def put(name: str, labels: Labels) -> str:
        container_id = f"{len(name):x}{name.encode().hex()}".ljust(64, "0")
        kept = Keepable(Container(container_id, datetime.now(UTC)), name, 24 * HOUR)
        if is_infrastructure(labels):
            fake.refuses = RefusedError(f"{name} needs no extension: it is infrastructure")
        fake.known[name] = fake.known[container_id] = kept
        return container_id

    return Rig(fake, put, deaf)


def test_one_container_has_one_identity_by_name_and_by_id(rig: Rig) -> None:
    began = datetime.now(UTC)
    container_id = rig.put("train", {})

    found = rig.find("train")

    assert found == rig.find(container_id)
    assert (found.target.id, found.name, found.longest) == (container_id, "train", 24 * HOUR)
    assert began - SECOND <= found.target.started_at <= datetime.now(UTC) + SECOND


@pytest.mark.parametrize("name", ["train", "7", "0" * 64, "", "../x", "²"])
def test_what_is_not_there_is_gone(rig: Rig, name: str) -> None:
    rig.put("another", {})

    with pytest.raises(TargetGoneError, match="there is no container"):
        rig.find(name)


def test_what_nobody_would_stop_is_refused(rig: Rig) -> None:
    rig.put("exporter", {"ds01.monitoring": "true"})

    with pytest.raises(RefusedError, match="exporter needs no extension"):
        rig.find("exporter")


def test_without_an_answer_nobody_can_tell(rig: Rig) -> None:
    with pytest.raises(SourceError):
        rig.deaf.find("train", datetime.now(UTC))
