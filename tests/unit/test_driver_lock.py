"""The lock by which a reset asks others to let the driver go, on real files."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.driver_lock import DriverLock
from remediator.errors import RefusedError
from remediator.exporter.yielding import Yielding
from tests.eventually import eventually

SOON = timedelta(milliseconds=200)
TAKE = """
import subprocess, sys, time
from datetime import timedelta
from pathlib import Path
from remediator.driver_lock import DriverLock

with DriverLock(Path(sys.argv[1])).taken(timedelta()) as lock:
    child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_others_see_that_it_is_taken_for_as_long_as_it_is(tmp_path: Path) -> None:
    lock, other = DriverLock(tmp_path), DriverLock(tmp_path)
    assert not other.is_taken()

    with lock.taken(SOON):
        assert other.is_taken()

    assert not other.is_taken()


def test_whoever_has_it_is_not_kept_off_by_it(tmp_path: Path) -> None:
    lock = DriverLock(tmp_path)

    with lock.taken(SOON):
        assert not lock.is_taken()


def test_two_resets_exclude_each_other(tmp_path: Path) -> None:
    with (
        DriverLock(tmp_path).taken(SOON),
        pytest.raises(RefusedError, match="another reset"),
        DriverLock(tmp_path).taken(SOON),
    ):
        raise AssertionError("both have it")


def test_looking_does_not_stand_in_the_way_of_a_reset(tmp_path: Path) -> None:
    lock, other = DriverLock(tmp_path), DriverLock(tmp_path)
    with lock.taken(SOON):
        assert other.is_taken()

    with other.taken(timedelta()):
        assert lock.is_taken()


def test_nobody_else_on_the_host_may_even_look(tmp_path: Path) -> None:
    with DriverLock(tmp_path).taken(SOON):
        assert (tmp_path / "driver.lock").stat().st_mode & 0o007 == 0


def test_a_folder_that_is_not_there_means_that_nobody_resets_and_nobody_can(
    tmp_path: Path,
) -> None:
    lock = DriverLock(tmp_path / "missing")

    assert not lock.is_taken()
    with pytest.raises(RefusedError), lock.taken(SOON):
        pass


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that has the lock, and the pid of its child, which has it too."""
    process = subprocess.Popen([sys.executable, "-c", TAKE, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.communicate()
    if Path(f"/proc/{child}").exists():
        os.kill(child, signal.SIGKILL)


def test_a_killed_worker_frees_it_once_its_nvidia_smi_has_ended(
    tmp_path: Path, taker: tuple[subprocess.Popen[bytes], int]
) -> None:
    process, child = taker
    lock = DriverLock(tmp_path)

    process.kill()
    process.wait()
    assert lock.is_taken()
    os.kill(child, signal.SIGKILL)

    eventually(lambda: not lock.is_taken(), 5, "the kernel has freed it")


class Driver:
    """The exporter's use of the driver; ``hangs`` while a question has not come back."""

    def __init__(self) -> None:
        self.is_open = True
        self.hangs = False
        self.resumed = 0

    def release(self) -> bool:
        self.is_open = self.hangs
        return not self.hangs

    def resume(self) -> None:
        self.is_open = True
        self.resumed += 1


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def yielding(tmp_path: Path, driver: Driver) -> Iterator[Yielding]:
    every = timedelta(milliseconds=10)
    lock = DriverLock(tmp_path)
    made = Yielding(lock.is_taken, driver.release, driver.resume, every)
    yield made
    made.stop()


def test_the_driver_is_let_go_during_a_reset_and_taken_up_after_it(
    tmp_path: Path, driver: Driver, yielding: Yielding
) -> None:
    yielding.start()
    assert driver.is_open

    with DriverLock(tmp_path).taken(SOON):
        eventually(lambda: not driver.is_open, 5, "it is let go")
        assert driver.resumed == 0

    eventually(lambda: driver.is_open, 5, "it is taken up")
    assert driver.resumed == 1


def test_one_that_starts_during_a_reset_does_not_open_the_driver(
    tmp_path: Path, driver: Driver, yielding: Yielding
) -> None:
    with DriverLock(tmp_path).taken(SOON):
        yielding.start()

        assert not driver.is_open


def test_a_driver_that_hangs_is_let_go_as_soon_as_it_does_not(
    tmp_path: Path, driver: Driver, yielding: Yielding
) -> None:
    driver.hangs = True
    with DriverLock(tmp_path).taken(SOON):
        yielding.start()
        assert driver.is_open

        driver.hangs = False

        eventually(lambda: not driver.is_open, 5, "it is let go")
