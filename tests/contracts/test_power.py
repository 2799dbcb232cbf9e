"""What setting a power limit promises, kept by NVML with simulated GPUs and by the fake alike."""

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

import pytest

from remediator.actuators.power import PowerActuator
from remediator.core.gpus import PowerLimits
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.cap_power import Hands
from remediator.remediations.hot_gpu import Driver
from tests.contracts.nvml_server import RemoteDriver
from tests.fakes import FakeDriver, a_gpu
from tests.fakes_power import FakePower
from tests.peers.gpu.host import GpuHost

ANSWERS = timedelta(seconds=10)
NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, LOST, UNKNOWN = 3, 4, 10, 15, 999
SET = "nvmlDeviceSetPowerManagementLimit"


class Rig(Protocol):
    """Two GPUs of 400 W that can be limited to 100 W, and what can happen to them."""

    @property
    def driver(self) -> Driver: ...
    @property
    def power(self) -> Hands: ...
    def lose(self, gpu: int) -> None: ...
    def unload(self) -> None: ...
    def refuse(self) -> None: ...
    def hang(self) -> None: ...
    def lack_limits(self) -> None: ...


class RealRig:
    def __init__(self, host: GpuHost) -> None:
        self.host = host
        self.driver = RemoteDriver(host)
        self.power = self.actuator(ANSWERS)

    def actuator(self, timeout: timedelta) -> PowerActuator:
        return PowerActuator(timeout, {**os.environ, **self.host.environment})

    def lose(self, gpu: int) -> None:
        self.host.lose(gpu)

    def unload(self) -> None:
        self.host.unload_driver()

    def refuse(self) -> None:
        self.host.set(0, refuse=f"{SET}={NO_PERMISSION}")

    def hang(self) -> None:
        self.power = self.actuator(timedelta(seconds=0.8))
        self.host.set(0, hang=30)

    def lack_limits(self) -> None:
        self.host.set(0, refuse=f"nvmlDeviceGetPowerManagementLimit={NOT_SUPPORTED}")


class FakeRig:
    def __init__(self) -> None:
        self.driver = FakeDriver()
        for index in range(2):
            self.driver.add(a_gpu(index))
        self.power = FakePower(self.driver)

    def lose(self, gpu: int) -> None:
        self.driver.lost[f"GPU-{gpu}"] = "GPU is lost"

    def unload(self) -> None:
        self.driver.silent = "driver not loaded"

    def refuse(self) -> None:
        self.power.refuses = "Insufficient Permissions"

    def hang(self) -> None:
        self.power.hangs = True

    def lack_limits(self) -> None:
        self.driver.power_of["GPU-0"] = None


REAL = pytest.param("real", marks=[pytest.mark.integration, pytest.mark.gpu])


@pytest.fixture(params=["fake", REAL])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    with GpuHost(gpus=2) as host:
        real = RealRig(host)
        yield real
        real.driver.close()


@pytest.fixture
def real() -> Iterator[RealRig]:
    with GpuHost(gpus=2) as host:
        found = RealRig(host)
        yield found
        found.driver.close()


def uuids(rig: Rig) -> list[str]:
    return [gpu.uuid for gpu in rig.driver.gpus()]


def limit(rig: Rig, uuid: str) -> int:
    limits = rig.driver.power_limits(uuid)
    assert limits is not None
    return limits.current


def test_a_gpu_tells_its_limits(rig: Rig) -> None:
    first, _ = uuids(rig)

    limits = rig.driver.power_limits(first)

    assert limits == PowerLimits(400_000, 400_000, 400_000, 100_000, 400_000)


def test_what_is_set_is_so_on_that_gpu_alone(rig: Rig) -> None:
    first, second = uuids(rig)

    rig.power.set_limit(first, 280_000)

    limits = rig.driver.power_limits(first)
    assert limits is not None
    assert (limits.current, limits.enforced, limits.default) == (280_000, 280_000, 400_000)
    assert limit(rig, second) == 400_000


@pytest.mark.parametrize("milliwatts", [99_000, 401_000])
def test_what_cannot_be_set_is_refused(rig: Rig, milliwatts: int) -> None:
    first, _ = uuids(rig)

    with pytest.raises(RefusedError):
        rig.power.set_limit(first, milliwatts)

    assert limit(rig, first) == 400_000


def test_without_the_right_to_it_is_refused(rig: Rig) -> None:
    first, _ = uuids(rig)
    rig.refuse()

    with pytest.raises(RefusedError, match="Insufficient Permissions"):
        rig.power.set_limit(first, 280_000)

    assert limit(rig, first) == 400_000


def test_a_gpu_that_is_not_there_is_gone(rig: Rig) -> None:
    with pytest.raises(TargetGoneError):
        rig.power.set_limit("GPU-nobody", 280_000)
    with pytest.raises(TargetGoneError):
        rig.driver.power_limits("GPU-nobody")


def test_a_lost_gpu_neither_tells_nor_takes_anything(rig: Rig) -> None:
    first, _ = uuids(rig)
    rig.lose(0)

    with pytest.raises(SourceError):
        rig.driver.power_limits(first)
    with pytest.raises(RefusedError):
        rig.power.set_limit(first, 280_000)


def test_without_a_driver_nothing_is_told_or_set(rig: Rig) -> None:
    first, _ = uuids(rig)
    rig.unload()

    with pytest.raises(SourceError):
        rig.driver.power_limits(first)
    with pytest.raises(RefusedError):
        rig.power.set_limit(first, 280_000)


def test_of_a_driver_that_hangs_nobody_knows_what_it_did(rig: Rig) -> None:
    first, _ = uuids(rig)
    rig.hang()

    with pytest.raises(EffectUnknownError):
        rig.power.set_limit(first, 280_000)


def test_a_gpu_without_limits_says_so(rig: Rig) -> None:
    first, _ = uuids(rig)
    rig.lack_limits()

    assert rig.driver.power_limits(first) is None


@pytest.mark.integration
@pytest.mark.gpu
@pytest.mark.parametrize("code", [UNKNOWN, TIMEOUT, LOST])
def test_an_error_in_the_middle_leaves_the_effect_unknown(real: RealRig, code: int) -> None:
    first, _ = uuids(real)
    real.host.set(0, refuse=f"{SET}={code}")

    with pytest.raises(EffectUnknownError):
        real.power.set_limit(first, 280_000)


@pytest.mark.integration
@pytest.mark.gpu
def test_a_gpu_that_knows_no_limits_refuses(real: RealRig) -> None:
    first, _ = uuids(real)
    real.host.set(0, refuse=f"{SET}={NOT_SUPPORTED}")

    with pytest.raises(RefusedError, match="Not Supported"):
        real.power.set_limit(first, 280_000)


@pytest.mark.integration
@pytest.mark.gpu
def test_a_hung_call_is_ended_and_does_nothing_later(real: RealRig) -> None:
    first, _ = uuids(real)
    real.hang()
    with pytest.raises(EffectUnknownError, match="in time"):
        real.power.set_limit(first, 280_000)

    real.host.set(0, hang=0)

    real.actuator(ANSWERS).set_limit(first, 300_000)
    assert limit(real, first) == 300_000
