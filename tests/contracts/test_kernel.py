"""What the kernel promises about processes, kept by /proc and by the fake alike."""

from collections.abc import Iterator
from typing import Protocol

import pytest
from docker import DockerClient

from remediator.remediations.senses import Kernel
from remediator.sources.proc import ProcSource
from tests.eventually import eventually
from tests.fakes import FakeKernel

NOBODY = 2**22 + 1  # above the largest pid there can be


class Rig(Protocol):
    """A kernel with processes of containers."""

    @property
    def kernel(self) -> Kernel: ...
    def run(self, *, host_network: bool = False) -> tuple[str, int]: ...
    def work(self, container_id: str, pid: int) -> None: ...
    def end(self, container_id: str, pid: int) -> None: ...


class RealRig:
    def __init__(self, client: DockerClient, image: str) -> None:
        self._client = client
        self._image = image
        self.kernel = ProcSource()

    def run(self, *, host_network: bool = False) -> tuple[str, int]:
        network = "host" if host_network else "none"
        container = self._client.containers.run(
            self._image, ["sleep", "1000"], detach=True, network_mode=network
        )
        container.reload()
        return str(container.id), int(container.attrs["State"]["Pid"])

    def work(self, container_id: str, pid: int) -> None:
        burn = ["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]
        self._client.containers.get(container_id).exec_run(burn)

    def end(self, container_id: str, pid: int) -> None:
        self._client.containers.get(container_id).remove(force=True)


class FakeRig:
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self._pids = iter(range(100, 200))

    def run(self, *, host_network: bool = False) -> tuple[str, int]:
        pid = next(self._pids)
        container_id = f"{pid:064x}"
        process = self.kernel.put(pid, container_id)
        process.uid = 0
        if host_network:
            process.network = None
        return container_id, pid

    def work(self, container_id: str, pid: int) -> None:
        self.kernel.processes[pid].cpu_seconds += 0.5

    def end(self, container_id: str, pid: int) -> None:
        self.kernel.forget(pid)


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.docker])]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    yield RealRig(request.getfixturevalue("docker_client"), request.getfixturevalue("busybox"))


def test_a_process_belongs_to_its_container_among_those_asked_about(rig: Rig) -> None:
    (container, pid), (other, _) = rig.run(), rig.run()

    assert rig.kernel.container_of(pid, [other, container]) == container
    assert rig.kernel.container_of(pid, {other}) is None
    assert rig.kernel.container_of(pid, ()) is None


def test_a_process_has_the_owner_that_the_host_sees(rig: Rig) -> None:
    _, pid = rig.run()

    assert rig.kernel.owner_uid(pid) == 0


def test_cpu_time_of_a_container_only_grows(rig: Rig) -> None:
    container, pid = rig.run()
    before = rig.kernel.cpu_seconds(pid, container)
    assert before is not None

    rig.work(container, pid)

    eventually(lambda: (rig.kernel.cpu_seconds(pid, container) or 0) > before, 5, "it has worked")


def test_another_containers_cpu_time_is_not_taken_for_its_own(rig: Rig) -> None:
    (_, pid), (other, _) = rig.run(), rig.run()

    assert rig.kernel.cpu_seconds(pid, other) is None


def test_traffic_is_counted_in_a_network_of_its_own_only(rig: Rig) -> None:
    (_, own), (_, hosts) = rig.run(), rig.run(host_network=True)

    counted = rig.kernel.network_bytes(own)

    assert counted is not None
    assert min(counted) >= 0
    assert rig.kernel.network_bytes(hosts) is None


def test_nothing_is_known_of_a_process_that_is_gone(rig: Rig) -> None:
    container, pid = rig.run()
    rig.end(container, pid)

    for gone in (pid, NOBODY):
        assert rig.kernel.container_of(gone, {container}) is None
        assert rig.kernel.owner_uid(gone) is None
        assert rig.kernel.cpu_seconds(gone, container) is None
        assert rig.kernel.network_bytes(gone) is None
