"""Keep a GPU busy for a while, so that somebody can see how dashboards and alerts look.

torch or cupy does the work, whichever is installed; neither is a dependency. Nobody's GPU is
touched: one that anybody uses, or of which that cannot be told, is refused, and the load ends when
somebody comes. No test can run this on a GPU; it has never been run on one.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from remediator.core.gpus import Gpu, Reading, SlotReading
from remediator.errors import SetupError

# A share of such a period is work. Shorter than the sixth of a second over which the driver
# averages utilisation at the fastest (nvmlDeviceGetUtilizationRates).
_PERIOD_SECONDS = 0.1
_LOOK_EVERY_SECONDS = 1.0
_WHOLE = 100
# A matrix of 4096 x 4096 numbers of 4 bytes is 64 MiB; a product needs three.
_SIDE = 4096


class Backend(Protocol):
    """Something that can make a GPU work."""

    def work(self) -> None:
        """Do one small piece of work, and return when the GPU has done it."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """The clock that a load runs by: *now* in seconds that only grow, and a way to wait."""

    now: Callable[[], float]
    wait: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was done: seconds at work and in all, and who ended it early, if somebody did."""

    busy_seconds: float
    seconds: float
    interrupted: str | None = None


def keep_busy(
    backend: Backend,
    percent: int,
    duration: timedelta,
    pace: Pace,
    somebody: Callable[[], str | None],
) -> Loaded:
    """Have *backend* work for *percent* (1-100) of the time; end early once *somebody* is there."""
    begun = now = looked = pace.now()
    busy = 0.0
    while (left := begun + duration.total_seconds() - now) > 0:
        period = min(_PERIOD_SECONDS, left)
        start = now
        while now < start + period * percent / _WHOLE:
            backend.work()
            now = pace.now()
        busy += now - start
        if now < start + period:
            pace.wait(start + period - now)
            now = pace.now()
        if now >= looked + _LOOK_EVERY_SECONDS:
            looked = now
            who = somebody()
            if who is not None:
                return Loaded(busy, now - begun, who)
    return Loaded(busy, now - begun)


def why_not(gpu: Gpu, readings: Iterable[Reading], own_pid: int) -> str | None:
    """Return why *gpu* must be left alone, None if it is nobody's; what cannot be told counts."""
    if gpu.lost is not None:
        return f"the driver cannot talk to it: {gpu.lost}"
    if gpu.mig_enabled:
        return "it is in MIG mode, where the driver does not tell how busy it is"
    told = [one for one in readings if one.slot.parent_uuid == gpu.uuid]
    for reading in told:
        if not isinstance(reading, SlotReading):
            return f"the driver cannot talk to it: {reading.reason}"
        if reading.utilization_percent is None:
            return "the driver does not tell how busy it is"
        if reading.utilization_percent:
            return f"somebody uses it: it is {reading.utilization_percent:.0f} % busy"
    return who_else(gpu, told, own_pid) if told else "the driver says nothing about it"


def who_else(gpu: Gpu, readings: Iterable[Reading], own_pid: int) -> str | None:
    """Return which processes but our own the driver lists on *gpu*, None if there are none."""
    lists = [
        one.processes
        for one in readings
        if one.slot.parent_uuid == gpu.uuid and isinstance(one, SlotReading)
    ]
    others = [str(process.pid) for listed in lists for process in listed if process.pid != own_pid]
    return f"somebody uses it: process {', '.join(others)}" if others else None


def installed() -> list[str]:
    """Return which of the libraries are there, the one to use first."""
    return [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]


def backend_for(gpu_uuid: str) -> tuple[str, Backend]:
    """Return the first library that sees the GPU, by name; SetupError says why none does."""
    # CUDA counts GPUs in another order than the driver, but understands its UUIDs.
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu_uuid
    reasons = []
    for name in installed():
        try:
            return name, _BACKENDS[name](importlib.import_module(name))
        except Exception as error:  # noqa: BLE001  # whatever they raise is why they will not do
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise SetupError(f"no library can use GPU {gpu_uuid}: {'; '.join(reasons)}")


class _Torch:
    def __init__(self, torch: Any) -> None:
        if not torch.cuda.is_available():
            raise SetupError("it sees no GPU; is it a build without CUDA?")
        self._synchronize = torch.cuda.synchronize
        self._matrix = torch.rand((_SIDE, _SIDE), device="cuda:0")

    def work(self) -> None:
        self._matrix @ self._matrix
        self._synchronize()


class _Cupy:
    def __init__(self, cupy: Any) -> None:
        cupy.cuda.Device(0).use()
        self._synchronize = cupy.cuda.Device(0).synchronize
        self._matrix = cupy.random.rand(_SIDE, _SIDE, dtype=cupy.float32)

    def work(self) -> None:
        self._matrix @ self._matrix
        self._synchronize()


_BACKENDS: dict[str, Callable[[Any], Backend]] = {"torch": _Torch, "cupy": _Cupy}
