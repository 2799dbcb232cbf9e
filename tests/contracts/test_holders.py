"""Who holds a GPU, told by the driver with /proc, and by the fake alike."""

import subprocess
from collections.abc import Iterator
from typing import Protocol

import pytest

from remediator.core.holders import Holder, Via, describe
from remediator.errors import SourceError
from remediator.sources.holders import HolderSource
from remediator.sources.proc import ProcSource
from tests.contracts.nvml_server import RemoteDriver
from tests.eventually import eventually
from tests.fakes import FakeDriver, FakeKernel, FakeUsers, a_gpu
from tests.fakes_holders import FakeHolders
from tests.peers.gpu.host import GpuHost


class Holders(Protocol):
    """What is asked before a reset."""

    def holders(self, gpu_uuid: str, minor: int | None = None) -> tuple[Holder, ...]: ...
    def at_device(self, minor: int) -> tuple[Holder, ...]: ...


class Rig(Protocol):
    """A host with two GPUs, whose minor numbers no other test's GPUs have."""

    @property
    def source(self) -> Holders: ...
    def uuid(self, gpu: int) -> str: ...
    def minor(self, gpu: int) -> int: ...
    def start(self, gpu: int, *, client: bool = False, uid: int = 1001) -> int: ...
    def end(self, pid: int) -> None: ...
    def lose(self, gpu: int) -> None: ...
    def unload(self) -> None: ...
    def others(self, holders: tuple[Holder, ...]) -> tuple[Holder, ...]: ...


class RealRig:
    def __init__(self, host: GpuHost) -> None:
        self._host = host
        self._tasks: dict[int, subprocess.Popen[bytes]] = {}
        self.driver = RemoteDriver(host)
        users = FakeUsers({"alice": 1001})
        self.source = HolderSource(self.driver, ProcSource(), users)

    def uuid(self, gpu: int) -> str:
        return self._host.uuid(gpu)

    def minor(self, gpu: int) -> int:
        return int(self._host.get(gpu, "minor"))

    def start(self, gpu: int, *, client: bool = False, uid: int = 1001) -> int:
        task = self._host.start_task(gpu, task="client" if client else "idle", uid=uid)
        holds = lambda: task.pid in {holder.pid for holder in self._host.holders(gpu)}  # noqa: E731
        eventually(holds, 5, "it has the device open")
        self._tasks[task.pid] = task
        return task.pid

    def end(self, pid: int) -> None:
        self._tasks[pid].kill()
        self._tasks[pid].wait()

    def lose(self, gpu: int) -> None:
        self._host.lose(gpu)

    def unload(self) -> None:
        self._host.unload_driver()

    def others(self, holders: tuple[Holder, ...]) -> tuple[Holder, ...]:
        """Return *holders* without whoever asks the driver here: to ask is to hold."""
        return tuple(holder for holder in holders if holder.pid != self.driver.pid)


class FakeRig:
    def __init__(self) -> None:
        self._driver, self._kernel = FakeDriver(), FakeKernel()
        for index in range(2):
            self._driver.add(a_gpu(index))
        self.source = FakeHolders(self._driver, self._kernel, FakeUsers({"alice": 1001}))
        self._pids = iter(range(4000, 5000))

    def uuid(self, gpu: int) -> str:
        return f"GPU-{gpu}"

    def minor(self, gpu: int) -> int:
        return gpu

    def start(self, gpu: int, *, client: bool = False, uid: int = 1001) -> int:
        pid = next(self._pids)
        process = self._kernel.put(pid, None)
        process.uid, process.comm, process.command = uid, "gpu-task", "gpu-task idle"
        if client:
            self.source.open(gpu, pid)
        else:
            self._driver.use(f"GPU-{gpu}", pid)
        return pid

    def end(self, pid: int) -> None:
        self._kernel.forget(pid)

    def lose(self, gpu: int) -> None:
        self._driver.lost[f"GPU-{gpu}"] = "it fell off the bus"

    def unload(self) -> None:
        self._driver.silent = "the driver is not loaded"

    def others(self, holders: tuple[Holder, ...]) -> tuple[Holder, ...]:
        return holders


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.gpu])]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    with GpuHost(gpus=0) as host:
        for minor in (181, 182):
            host.add_gpu(minor=minor)
        real = RealRig(host)
        yield real
        real.driver.close()


def pids(holders: tuple[Holder, ...]) -> list[int]:
    return [holder.pid for holder in holders]


def test_users_and_mere_clients_of_one_gpu_are_its_holders(rig: Rig) -> None:
    user, client, other = rig.start(0), rig.start(0, client=True), rig.start(1)

    found = rig.others(rig.source.holders(rig.uuid(0)))

    assert pids(found) == [user, client]
    assert [holder.is_on_gpu for holder in found] == [True, False]
    assert found[0].via == {Via.COMPUTE, Via.OPEN}
    assert found[1].via == {Via.OPEN}
    assert pids(rig.others(rig.source.holders(rig.uuid(1)))) == [other]


def test_a_holder_is_named_exactly_and_for_people(rig: Rig) -> None:
    alices, nobodys = rig.start(0), rig.start(0, uid=4711)

    first, second = rig.others(rig.source.holders(rig.uuid(0)))

    assert (first.pid, first.uid, first.user, first.comm) == (alices, 1001, "alice", "gpu-task")
    assert first.start_ticks > 0
    assert first.container_id is None
    assert describe(first).startswith(f"pid {alices} ")
    assert describe(first).endswith(", alice")
    assert (second.pid, second.user) == (nobodys, "4711")


def test_nobody_holds_what_has_ended(rig: Rig) -> None:
    pid = rig.start(0)
    rig.end(pid)

    assert rig.others(rig.source.holders(rig.uuid(0))) == ()
    assert rig.others(rig.source.at_device(rig.minor(0))) == ()


def test_without_the_driver_the_device_tells(rig: Rig) -> None:
    user, client = rig.start(0), rig.start(0, client=True)
    rig.start(1)

    assert pids(rig.source.at_device(rig.minor(0))) == [user, client]


def test_where_the_driver_is_silent_it_cannot_be_told(rig: Rig) -> None:
    rig.start(0)
    rig.unload()

    with pytest.raises(SourceError):
        rig.source.holders(rig.uuid(0))


def test_who_holds_a_lost_gpu_cannot_be_told(rig: Rig) -> None:
    rig.source.holders(rig.uuid(0))
    rig.lose(0)

    with pytest.raises(SourceError):
        rig.source.holders(rig.uuid(0))
    assert rig.others(rig.source.holders(rig.uuid(1))) == ()


def test_a_gpu_that_is_not_there_has_no_holders_to_tell(rig: Rig) -> None:
    with pytest.raises(SourceError, match="which device"):
        rig.source.holders("GPU-of-another-machine")
