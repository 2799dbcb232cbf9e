"""What the driver promises, kept by NVML with simulated GPUs and by the fake alike."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import pytest

from remediator.core.gpus import GpuGauges, GpuHealth, LostReading, RowRemapping, SlotReading
from remediator.errors import SourceError
from remediator.exporter.gpu_watch import GpuSource
from remediator.remediations.reset_senses import Driver as ResettingDriver
from remediator.remediations.senses import Driver
from tests.builders import SECOND
from tests.contracts.nvml_server import RemoteDriver
from tests.eventually import eventually
from tests.fakes import FakeDriver, a_gpu, a_mig_device
from tests.peers.gpu.host import GpuHost


class WholeDriver(Driver, GpuSource, ResettingDriver, Protocol):
    """What the remediations and the exporter ask of the driver."""


class Rig(Protocol):
    """A driver of a host with two GPUs, and what can happen to it."""

    @property
    def driver(self) -> WholeDriver: ...
    def be_busy(self, gpu: int, percent: int) -> None: ...
    def start(self, gpu: int, percent: int) -> int: ...
    def end(self, pid: int) -> None: ...
    def lose(self, gpu: int) -> None: ...
    def unload(self) -> None: ...
    def load(self) -> None: ...
    def restore(self, gpu: int) -> None: ...
    def cut(self, gpu: int) -> None: ...
    def fall_ill(self, gpu: int) -> None: ...
    def heat(self, gpu: int, celsius: int) -> None: ...
    def share(self, pid: int, gpu: int) -> None: ...
    def have_gpm(self, gpu: int, percent: int) -> None: ...
    def refuse_work(self, gpu: int) -> None: ...
    def link(self, *gpus: int, capability: str) -> None: ...
    def be_persistent(self, gpu: int, *, on: bool) -> None: ...
    def clients(self, gpu: int) -> int: ...


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

    def load(self) -> None:
        self._host.load_driver()

    def restore(self, gpu: int) -> None:
        self._host.restore(gpu)

    def cut(self, gpu: int) -> None:
        self._host.partition(gpu, "1g.10gb")

    def fall_ill(self, gpu: int) -> None:
        self._host.set(gpu, recovery_action=1, remap_pending=1)

    def heat(self, gpu: int, celsius: int) -> None:
        self._host.set(gpu, temp=celsius)

    def share(self, pid: int, gpu: int) -> None:
        self._host.add_process(gpu, pid)

    def have_gpm(self, gpu: int, percent: int) -> None:
        self._host.set(gpu, gpm=1, util=percent)

    def refuse_work(self, gpu: int) -> None:
        self._host.set(gpu, reset_required=1)

    def link(self, *gpus: int, capability: str) -> None:
        for gpu in gpus:
            others = ",".join(str(other) for other in gpus if other != gpu)
            self._host.set(gpu, nvlink=others, compute_capability=capability)

    def be_persistent(self, gpu: int, *, on: bool) -> None:
        self._host.set(gpu, persistence=on)

    def clients(self, gpu: int) -> int:
        return len(self._host.holders(gpu))


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

    def load(self) -> None:
        self.driver.silent = ""

    def restore(self, gpu: int) -> None:
        del self.driver.lost[f"GPU-{gpu}"]

    def cut(self, gpu: int) -> None:
        self.driver.remove(f"GPU-{gpu}")
        self.driver.add(a_mig_device(gpu))

    def fall_ill(self, gpu: int) -> None:
        rows = RowRemapping(pending=True, failed=False, uncorrectable=1)
        self.driver.health_of[f"GPU-{gpu}"] = GpuHealth(recovery_action=1, rows=rows)

    def heat(self, gpu: int, celsius: int) -> None:
        self.driver.gauges_of[f"GPU-{gpu}"] = GpuGauges(temperature_celsius=celsius)

    def share(self, pid: int, gpu: int) -> None:
        self.driver.use(f"GPU-{gpu}", pid)

    def have_gpm(self, gpu: int, percent: int) -> None:
        self.driver.engines |= {f"MIG-{gpu}-0": percent / 100}

    def refuse_work(self, gpu: int) -> None:
        self.driver.health_of[f"GPU-{gpu}"] = GpuHealth(recovery_action=1, reset_required=True)

    def link(self, *gpus: int, capability: str) -> None:
        if float(capability) < 8:
            group = tuple(f"GPU-{gpu}" for gpu in gpus)
            self.driver.groups |= dict.fromkeys(group, group)

    def be_persistent(self, gpu: int, *, on: bool) -> None:
        self.driver.persistent[f"GPU-{gpu}"] = on

    def clients(self, gpu: int) -> int:
        del gpu
        return 0 if self.driver.closed_because else 1


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
    with pytest.raises(SourceError):
        rig.driver.gpus()
    with pytest.raises(SourceError):
        rig.driver.reading(slot)
    with pytest.raises(SourceError):
        rig.driver.health(slot.parent_uuid)
    with pytest.raises(SourceError):
        rig.driver.gauges(slot.parent_uuid)
    rig.load()
    assert rig.driver.inventory()[0] == slot


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


def test_the_gpus_are_those_whose_slots_are_in_the_inventory(rig: Rig) -> None:
    rig.cut(1)

    gpus = rig.driver.gpus()

    assert [(gpu.index, gpu.mig_enabled, gpu.lost) for gpu in gpus] == [
        (0, False, None),
        (1, True, None),
    ]
    assert all(gpu.model and gpu.pci_bus_id for gpu in gpus)
    assert tuple(slot for gpu in gpus for slot in gpu.slots) == rig.driver.inventory()
    assert rig.driver.reading(gpus[0].slots[0]) == rig.driver.readings()[0]


def test_a_lost_gpu_is_listed_as_it_was_and_comes_back(rig: Rig) -> None:
    before = rig.driver.gpus()
    rig.lose(0)

    lost, other = rig.driver.gpus()

    assert lost.lost
    assert (replace(lost, lost=None), other) == before
    for ask in (rig.driver.health, rig.driver.gauges):
        with pytest.raises(SourceError):
            ask(lost.uuid)
        assert ask(other.uuid)
    rig.restore(0)
    assert rig.driver.gpus() == before


def test_the_drivers_advice_is_about_one_gpu(rig: Rig) -> None:
    sound, ill = (gpu.uuid for gpu in rig.driver.gpus())
    rig.fall_ill(1)

    health = rig.driver.health(ill)

    assert health.recovery_action == 1
    assert health.rows == RowRemapping(pending=True, failed=False, uncorrectable=1)
    assert rig.driver.health(sound).recovery_action == 0


def test_the_instruments_are_read(rig: Rig) -> None:
    cool, hot = (gpu.uuid for gpu in rig.driver.gpus())
    rig.heat(1, 91)

    assert rig.driver.gauges(hot).temperature_celsius == 91
    assert rig.driver.gauges(cool).temperature_celsius == 35


def test_a_process_on_two_gpus_is_on_both(rig: Rig) -> None:
    pid = rig.start(0, 0)
    rig.share(pid, 1)

    eventually(lambda: pids(rig, 0) == [pid] == pids(rig, 1), 5, "it is listed on both")
    rig.end(pid)
    eventually(lambda: pids(rig, 0) == [] == pids(rig, 1), 5, "it is gone from both")


def test_only_gpm_tells_how_busy_a_mig_device_is(rig: Rig) -> None:
    rig.cut(1)
    whole, device = rig.driver.inventory()
    assert rig.driver.engine_active(device) is None

    rig.have_gpm(1, 40)

    eventually(lambda: rig.driver.engine_active(device) == 0.4, 5, "two samples were compared")
    assert rig.driver.engine_active(whole) is None


def test_gpus_of_old_generations_are_reset_with_all_that_they_are_linked_to(rig: Rig) -> None:
    first, second = (gpu.uuid for gpu in rig.driver.gpus())
    assert rig.driver.reset_group(second) == (second,)

    rig.link(0, 1, capability="7.0")

    assert rig.driver.reset_group(second) == (first, second)


def test_newer_gpus_are_reset_alone_also_beside_a_lost_one(rig: Rig) -> None:
    _, second = (gpu.uuid for gpu in rig.driver.gpus())
    rig.link(0, 1, capability="8.0")
    rig.lose(0)

    assert rig.driver.reset_group(second) == (second,)


def test_whether_a_gpu_is_kept_ready_is_told(rig: Rig) -> None:
    first, second = (gpu.uuid for gpu in rig.driver.gpus())

    rig.be_persistent(1, on=False)

    assert rig.driver.is_persistent(first) is True
    assert rig.driver.is_persistent(second) is False


def test_a_gpu_that_refuses_to_work_says_so_and_still_answers(rig: Rig) -> None:
    sound, ill = (gpu.uuid for gpu in rig.driver.gpus())
    rig.refuse_work(1)

    assert rig.driver.health(ill).reset_required
    assert not rig.driver.health(sound).reset_required
    assert all(isinstance(reading, SlotReading) for reading in rig.driver.readings())


def test_a_closed_driver_is_held_by_nobody_of_us_and_opens_again(rig: Rig) -> None:
    before = rig.driver.gpus()
    assert rig.clients(0) == 1

    with rig.driver.closed("a GPU is being reset", 2 * SECOND):
        with pytest.raises(SourceError, match="a GPU is being reset"):
            rig.driver.gpus()
        with pytest.raises(SourceError, match="a GPU is being reset"):
            rig.driver.health(before[0].uuid)
        assert rig.clients(0) == 0

    assert rig.driver.gpus() == before
