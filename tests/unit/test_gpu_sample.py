"""Taking a sample of the GPUs, and letting the driver go for a while."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from remediator.core.gpus import GpuHealth
from remediator.errors import SourceError
from remediator.exporter.gpu_watch import GpuSample, GpuWatch, take_sample
from tests.eventually import eventually
from tests.fakes import FakeDriver, a_gpu, a_mig_device
from tests.unit.gpu_views import GPUS

SHORT = timedelta(milliseconds=20)
LONG = timedelta(seconds=5)


def nobody(uid: int) -> None:
    """Know no account."""


def closing(closed: list[timedelta]) -> Callable[[timedelta], bool]:
    """Return what closes a driver and notes that it was told to."""

    def close(within: timedelta) -> bool:
        closed.append(within)
        return True

    return close


@pytest.fixture
def driver() -> FakeDriver:
    """Return a driver with a whole GPU and one MIG device."""
    driver = FakeDriver()
    driver.add(a_gpu(0))
    driver.add(a_mig_device(1))
    return driver


class Processes:
    """Every process is container a's and runs; some are hidden, some ended."""

    def __init__(self) -> None:
        self.ended: set[int] = set()
        self.hidden: set[int] = set()
        self.asked: list[int] = []

    def container_id_in_cgroup(self, pid: int) -> str | None:
        return "a" * 64

    def start_ticks(self, pid: int) -> int | None:
        self.asked.append(pid)
        if pid in self.hidden:
            raise SourceError(f"cannot read /proc/{pid}/stat: Permission denied")
        return None if pid in self.ended else 70

    def owner_uid(self, pid: int) -> int | None:
        return 1001

    def comm(self, pid: int) -> str | None:
        return "python"


def test_a_lost_gpu_lacks_only_its_own_readings(driver: FakeDriver) -> None:
    driver.lost["GPU-1"] = "GPU is lost"

    sample = take_sample(driver, Processes(), nobody)

    assert [reading.slot.slot for reading in sample.readings] == ["0"]
    assert [slot.slot for slot in sample.slots] == ["0", "1.0"]
    assert set(sample.health) == set(sample.gauges) == {"GPU-0"}


class LosesMeanwhile(FakeDriver):
    """A GPU falls off the bus after it was listed."""

    def health(self, gpu_uuid: str) -> GpuHealth:
        if gpu_uuid == "GPU-1":
            raise SourceError("GPU is lost")
        return super().health(gpu_uuid)


def test_a_gpu_lost_while_it_is_asked_costs_only_its_own_values() -> None:
    driver = LosesMeanwhile()
    for index in range(2):
        driver.add(a_gpu(index))

    sample = take_sample(driver, Processes(), nobody)

    assert set(sample.health) == {"GPU-0"}
    assert set(sample.gauges) == {"GPU-0", "GPU-1"}


def test_instruments_are_read_only_where_they_are_wanted(driver: FakeDriver) -> None:
    driver.engines["MIG-1-0"] = 0.5

    wanted = take_sample(driver, Processes(), nobody)
    unwanted = take_sample(driver, Processes(), nobody, instruments=False)

    assert (set(wanted.gauges), wanted.engines) == ({"GPU-0", "GPU-1"}, {"MIG-1-0": 0.5})
    assert (unwanted.gauges, unwanted.engines) == ({}, {})
    assert unwanted.health == wanted.health


def test_processes_are_identified_once_wherever_they_are(driver: FakeDriver) -> None:
    processes = Processes()
    for uuid in ("GPU-0", "MIG-1-0"):
        driver.use(uuid, 7)

    sample = take_sample(driver, processes, lambda _: "alice")

    assert [(p.slot.slot, p.pid, p.start_ticks, p.user, p.uid) for p in sample.processes] == [
        ("0", 7, 70, "alice", 1001),
        ("1.0", 7, 70, "alice", 1001),
    ]
    assert processes.asked == [7]


def test_a_process_that_ended_or_is_hidden_hides_no_other(driver: FakeDriver) -> None:
    processes = Processes()
    processes.ended, processes.hidden = {7}, {8}
    for pid in (7, 8, 9):
        driver.use("GPU-0", pid)

    sample = take_sample(driver, processes, nobody)

    assert [(p.pid, p.user) for p in sample.processes] == [(9, "1001")]


class Watched:
    """A watch whose samples wait for `goes_on`; the first one sets `begun`."""

    def __init__(
        self, close: Callable[[timedelta], bool] = lambda _: True, patience: timedelta = LONG
    ) -> None:
        self.begun = threading.Event()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.taken = 0
        self.watch = GpuWatch(self._sample, close, patience=patience)
        self.watch.start()

    def _sample(self) -> GpuSample:
        self.begun.set()
        self.goes_on.wait(10)
        self.taken += 1
        return GpuSample(GPUS)


def test_a_released_driver_is_left_alone_until_it_is_resumed() -> None:
    closed: list[timedelta] = []
    watched = Watched(closing(closed))
    watched.watch.latest()

    assert watched.watch.release(LONG)
    before = watched.taken
    assert watched.watch.latest().gpus == GPUS, "the last sample is still served"
    assert (watched.taken, len(closed)) == (before, 1)
    watched.watch.resume()
    watched.watch.latest()
    eventually(lambda: watched.taken > before, 5, "it is asked again")
    watched.watch.stop()


def test_a_driver_that_hangs_is_not_said_to_be_released() -> None:
    closed: list[timedelta] = []
    watched = Watched(closing(closed), patience=SHORT)
    watched.goes_on.clear()
    with pytest.raises(SourceError):
        watched.watch.latest()
    eventually(watched.begun.is_set, 5, "the driver is asked")

    assert not watched.watch.release(SHORT)
    assert closed == []
    watched.goes_on.set()
    assert watched.watch.release(LONG)
    assert len(closed) == 1
    watched.watch.stop()


def test_a_driver_that_cannot_be_closed_is_not_said_to_be_released() -> None:
    watched = Watched(lambda _: False)

    assert not watched.watch.release(LONG)
    watched.watch.stop()


def test_a_released_driver_is_unknown_once_the_last_sample_is_too_old() -> None:
    watch = GpuWatch(lambda: GpuSample(GPUS), patience=LONG, keep_for=timedelta(minutes=1))
    watch.start()
    watch.latest()
    watch.release(LONG)

    watch._taken_at -= 61
    with pytest.raises(SourceError, match="has not answered"):
        watch.latest()
    watch.stop()


def test_a_bug_in_a_sample_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([ZeroDivisionError("a bug"), None])

    def sample() -> GpuSample:
        error = next(answers)
        if error is not None:
            raise error
        return GpuSample(GPUS)

    watch = GpuWatch(sample, patience=LONG)
    watch.start()

    with pytest.raises(SourceError, match="a bug"):
        watch.latest()
    assert watch.latest().gpus == GPUS
    assert "could not be sampled" in caplog.text
    watch.stop()
