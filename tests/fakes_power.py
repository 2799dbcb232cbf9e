"""What sets power limits, in memory: `FakeDriver` then tells them."""

from collections.abc import Callable
from dataclasses import replace

from remediator.errors import EffectUnknownError, RefusedError
from tests.fakes import FakeDriver


class FakePower:
    """The power limits of the GPUs of *driver*.

    ``calls`` lists what was set. It can refuse, lose its answer after it did as it was told, or
    hang, so that nothing is done and nobody knows. ``after_set`` happens when it was done and
    nobody has been told yet.
    """

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver
        self.calls: list[tuple[str, int]] = []
        self.refuses = ""
        self.loses_answers = False
        self.hangs = False
        self.after_set: Callable[[], None] = lambda: None

    def set_limit(self, gpu_uuid: str, milliwatts: int) -> None:
        if self.hangs:
            raise EffectUnknownError("the driver did not answer in time")
        if self._driver.silent or gpu_uuid in self._driver.lost:
            raise RefusedError("the driver does not answer")
        limits = self._driver.power_limits(gpu_uuid)
        if self.refuses or limits is None or limits.settable(milliwatts) != milliwatts:
            raise RefusedError(self.refuses or f"{milliwatts} mW cannot be set")
        self.calls.append((gpu_uuid, milliwatts))
        self._driver.power_of[gpu_uuid] = replace(limits, current=milliwatts, enforced=milliwatts)
        self.after_set()
        if self.loses_answers:
            raise EffectUnknownError("the driver's answer was lost")
