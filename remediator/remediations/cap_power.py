"""cap-power: lower the power limit of a GPU that is too hot, and put it back when it has cooled.

Less power is less heat, and costs whoever uses the GPU some speed and nothing else. The limit is
the whole GPU's: on a MIG GPU all instances are slowed.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Stack, Task, Verification
from remediator.core.gpus import PowerLimits, is_same_limit
from remediator.core.observation import Fact, Observation
from remediator.core.policy import Options
from remediator.core.targets import PhysicalGpu
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.hot_gpu import Confirming, Driver, HotGpu, watts
from remediator.remediations.interface import Steps

# An interrupted attempt is brought to its end only while what it was decided from is still true.
_STILL_FRESH = timedelta(seconds=30)


class Hands(Protocol):
    """What changes a GPU."""

    def set_limit(self, gpu_uuid: str, milliwatts: int) -> None:
        """Set its power limit."""
        ...


class CapPower:
    """Limits a hot GPU to a share of its default power."""

    name = "cap-power"

    def __init__(self, prometheus: Confirming, driver: Driver, hands: Hands) -> None:
        self._eyes = HotGpu(prometheus, driver)
        self._driver = driver
        self._hands = hands

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what Prometheus and NVML say of the GPU the alert names."""
        return self._eyes.observe(alert, now, options)

    def execute(self, task: Task, steps: Steps) -> str:
        """Set the limit, unless it is another one by now than when it was decided."""
        uuid = _uuid(task)
        before, wanted = _before(task), _set_to(task)
        try:
            limits = self._limits(uuid)
        except SourceError as error:
            kind = EffectUnknownError if steps.before else RefusedError
            raise kind(str(error)) from error
        if limits.is_at(wanted) and "cap" in steps.before:
            return f"{_changed(task)}; it had been set before the interruption"
        if not limits.is_at(before):
            says = f"its power limit is {watts(limits.current)} by now: somebody has changed it"
            raise RefusedError(says)
        age = steps.age_of("cap")
        if age is not None and not timedelta() <= age <= _STILL_FRESH:
            raise RefusedError("its power limit had not been set before the interruption")
        says = f"power limit of GPU {uuid} from {watts(before)} to {watts(wanted)}"
        with steps.step("cap", says) as say:
            self._hands.set_limit(uuid, wanted)
            say("set")
        return _changed(task)

    def verify(self, task: Task) -> Verification:
        """Return whether the GPU keeps to the limit; it need not have cooled down yet."""
        uuid, wanted = _uuid(task), _set_to(task)
        try:
            limits = self._limits(uuid)
        except TargetGoneError as error:
            return Verification(Proof.DISPROVEN, str(error))
        except (SourceError, RefusedError) as error:
            return Verification(Proof.UNKNOWN, str(error))
        says = f"the limit in force is {watts(limits.enforced)}{self._heat(uuid)}"
        kept = limits.is_at(wanted) and limits.is_kept
        return Verification(Proof.PROVEN if kept else Proof.DISPROVEN, says)

    def undo(self, task: Task, steps: Steps, stack: Stack) -> str:
        """Put the limit back, unless somebody else has changed it since or another needs it low."""
        uuid = _uuid(task)
        try:
            limits = self._limits(uuid)
        except TargetGoneError:
            return "the GPU is not there any more, and its limit with it"
        ours = [_set_to(each) for each in stack.began]
        before = _before_all(stack, ours)
        if limits.is_at(before):
            return f"its power limit is {watts(limits.current)}, as it was before"
        if not any(limits.is_at(milliwatts) for milliwatts in ours):
            current = watts(limits.current)
            return f"its power limit is left at {current}: it was changed by somebody else"
        back = limits.settable(min([before, *(_set_to(each) for each in stack.remaining)]))
        if back <= limits.current:
            return f"its power limit stays at {watts(limits.current)} for another incident"
        says = f"power limit of GPU {uuid} from {watts(limits.current)} to {watts(back)}"
        with steps.step("restore", says) as say:
            self._hands.set_limit(uuid, back)
            now = self._limits(uuid)
            if not now.is_at(back):
                raise EffectUnknownError(f"its power limit is {watts(now.current)} all the same")
            say("set")
        as_before = "as before" if not stack.remaining else "as another incident needs it"
        return f"its power limit is {watts(back)} again, {as_before}"

    def _limits(self, uuid: str) -> PowerLimits:
        limits = self._driver.power_limits(uuid)
        if limits is None:
            raise RefusedError(f"GPU {uuid} does not tell its power limit")
        return limits

    def _heat(self, uuid: str) -> str:
        try:
            celsius = self._driver.gauges(uuid).temperature_celsius
        except SourceError:
            return ""
        return "" if celsius is None else f", it is at {celsius:g} °C"


def _uuid(task: Task) -> str:
    if not isinstance(task.target, PhysicalGpu):
        raise RefusedError(f"{task.target.key} is not a GPU")
    return task.target.uuid


def _before(task: Task) -> int:
    return _milliwatts(task.context, "limit_before_mw")


def _set_to(task: Task) -> int:
    return _milliwatts(task.context, "limit_mw")


def _milliwatts(context: Mapping[str, Fact], name: str) -> int:
    value = context.get(name)
    if not isinstance(value, int):
        raise RefusedError("it is not known what power limit it had when this was decided")
    return value


def _before_all(stack: Stack, ours: list[int]) -> int:
    """Return the last limit that was not one of *ours*: what a later one found is often our doing.

    It is the one from before the first, unless an administrator has chosen another meanwhile.
    """
    found = [_before(task) for task in stack.began]
    for limit in reversed(found[1:]):
        if not any(is_same_limit(limit, own) for own in ours):
            return limit
    return found[0]


def _changed(task: Task) -> str:
    says = f"its power limit is {watts(_set_to(task))} instead of {watts(_before(task))}"
    devices = task.context.get("mig_devices")
    slowed = f", which slows all {devices} of its MIG devices" if devices else ""
    return f"{says}{slowed}, until the alert resolves"
