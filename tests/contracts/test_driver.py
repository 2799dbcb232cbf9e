"""What the driver promises, kept by NVML with simulated GPUs and by the fake alike."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from remediator.core.gpus import LostReading, SlotReading
from remediator.errors import SourceError
from remediator.remediations.senses import Driver
from tests.contracts.nvml_server import RemoteDriver
from tests.eventually import eventually
from tests.fakes import FakeDriver, a_gpu, a_mig_device
from tests.peers.gpu.host import GpuHost


class Rig(Protocol):
    """A driver of a host with two GPUs, and what can happen to it."""

    @property
    def driver(self) -> Driver: ...
    def be_busy(self, gpu: int, percent: int) -> None: ...
    def start(self, gpu: int, percent: int) -> int: ...
    def end(self, pid: int) -> None: ...
    def lose(self, gpu: int) -> None: ...
    def unload(self) -> None: ...
    def cut(self, gpu: int) -> None: ...


class RealRig:
    def __init__(self, host: GpuHost) -> None:
        self._host = host
        self._ends: dict[int, Callable[[], None]] = {}
        self.driver = RemoteDriver(host)

    def be_busy(self, gpu: int, percent: int) -> None:
        self._host.set(gpu, util=percent)

    def start(self, gpu: int, percent: int) -> int:
        task = self._host.start_task(gpu, util=percent)

        def end() -> None:
            task.kill()
            task.wait()

        self._ends[task.pid] = end
        return task.pid

    def end(self, pid: int) -> None:
        self._ends[pid]()

    def lose(self, gpu: int) -> None:
        self._host.lose(gpu)

    def unload(self) -> None:
        self._host.unload_driver()

    def cut(self, gpu: int) -> None:
        self._host.partition(gpu, "1g.10gb")


class FakeRig:
    def __init__(self) -> None:
        self.driver = FakeDriver()
        for index in range(2):
            self.driver.add(a_gpu(index))

    def be_busy(self, gpu: int, percent: int) -> None:
        self.driver.utilization[f"GPU-{gpu}"] = percent

    def start(self, gpu: int, percent: int) -> int:
        self.driver.use(f"GPU-{gpu}", 4711)
        self.driver.shares[f"GPU-{gpu}"] = {4711: float(percent)}
        return 4711

    def end(self, pid: int) -> None:
        self.driver.forget(pid)

    def lose(self, gpu: int) -> None:
        self.driver.lost[f"GPU-{gpu}"] = "GPU is lost"

    def unload(self) -> None:
        self.driver.silent = "driver not loaded"

    def cut(self, gpu: int) -> None:
        self.driver.remove(f"GPU-{gpu}")
        self.driver.add(a_mig_device(gpu))


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.gpu])]
)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    with GpuHost(gpus=2) as host:
        real = RealRig(host)
        yield real
        real.driver.close()


def test_every_gpu_is_a_slot_with_a_reading(rig: Rig) -> None:
    rig.be_busy(1, 80)

    slots, readings = rig.driver.inventory(), rig.driver.readings()

    assert [slot.slot for slot in slots] == ["0", "1"]
    assert len({slot.uuid for slot in slots}) == 2
    assert [reading.slot for reading in readings] == list(slots)
    assert all(isinstance(reading, SlotReading) for reading in readings)
    assert [r.utilization_percent for r in readings if isinstance(r, SlotReading)] == [0, 80]


def pids(rig: Rig, gpu: int) -> list[int]:
    reading = rig.driver.readings()[gpu]
    assert isinstance(reading, SlotReading)
    return [process.pid for process in reading.processes]


def test_a_process_is_on_its_gpu_alone_until_it_ends(rig: Rig) -> None:
    pid = rig.start(1, 60)

    eventually(lambda: pids(rig, 1) == [pid], 5, "it is listed")
    assert pids(rig, 0) == []
    rig.end(pid)
    eventually(lambda: pids(rig, 1) == [], 5, "it is gone")


def test_the_share_of_a_process_is_told(rig: Rig) -> None:
    pid = rig.start(0, 60)
    eventually(lambda: pids(rig, 0) == [pid], 5, "it is listed")

    shares = rig.driver.process_utilization(rig.driver.inventory()[0])

    assert shares is not None
    assert shares[pid] == 60


def test_a_lost_gpu_is_a_value_with_a_reason_and_hides_no_other(rig: Rig) -> None:
    slots = rig.driver.inventory()
    rig.lose(0)

    lost, other = rig.driver.readings()

    assert isinstance(lost, LostReading)
    assert lost.slot == slots[0]
    assert lost.reason
    assert isinstance(other, SlotReading)


def test_without_a_driver_there_are_no_answers(rig: Rig) -> None:
    slot = rig.driver.inventory()[0]
    rig.unload()

    with pytest.raises(SourceError):
        rig.driver.inventory()
    with pytest.raises(SourceError):
        rig.driver.readings()
    with pytest.raises(SourceError):
        rig.driver.process_utilization(slot)


def test_a_mig_device_is_a_slot_of_its_gpu_and_tells_no_utilisation(rig: Rig) -> None:
    whole = rig.driver.inventory()[1]
    rig.cut(1)

    device = next(slot for slot in rig.driver.inventory() if slot.gpu == 1)
    reading = next(r for r in rig.driver.readings() if r.slot == device)

    assert device.slot == "1.0"
    assert device.parent_uuid == whole.uuid != device.uuid
    assert device.gpu_i_id != ""
    assert isinstance(reading, SlotReading)
    assert reading.utilization_percent is None
    assert rig.driver.process_utilization(device) is None
