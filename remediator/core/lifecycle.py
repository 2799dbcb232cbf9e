"""The rules about a container's life that the exporter and the worker must agree on."""

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta

from remediator.core.limits import Limits, LimitsBook

_HANDS_OFF = ("ds01.monitoring", "ds01.protected")


class Overstay(enum.Enum):
    """What a container is said to have done for too long."""

    IDLE = "idle"
    RUNTIME = "runtime"
    NEVER_STARTED = "never started"
    STOPPED = "stopped"


# An alert of which only the name tells what it is about; a site's own alerts may go on after it.
_OVERSTAYS = (
    ("DS01ContainerIdle", Overstay.IDLE),
    ("DS01ContainerMaxRuntime", Overstay.RUNTIME),
    ("DS01ContainerNeverStarted", Overstay.NEVER_STARTED),
    ("DS01StoppedContainerHoldsGPU", Overstay.STOPPED),
)


def overstay_of(alertname: str) -> Overstay | None:
    """Return what an alert says of its container; None if that is nothing to be checked here."""
    return next((told for start, told in _OVERSTAYS if alertname.startswith(start)), None)


def is_infrastructure(labels: Mapping[str, str]) -> bool:
    """Tell whether a container is exempt from everything."""
    return any(labels.get(label, "").lower() == "true" for label in _HANDS_OFF)


def may_idle_because(limits: Limits) -> str | None:
    """Return why a container may idle for as long as it likes, None if it may not."""
    if limits.idle_timeout is not None:
        return None
    if limits.idle_exemption is not None:
        return str(limits.idle_exemption)
    return f"the limits of group {limits.group} let it idle"


def may_run_because(limits: Limits) -> str | None:
    """Return why a container may run for as long as it likes, None if it may not."""
    if limits.max_runtime is not None:
        return None
    if limits.runtime_exemption is not None:
        return str(limits.runtime_exemption)
    return f"the limits of group {limits.group} let it run"


def may_stay_because(overstay: Overstay, limits: Limits) -> str | None:
    """Return why a container that does not run may stay, None if it may not for ever."""
    if stay_of(overstay, limits) is not None:
        return None
    return f"the limits of group {limits.group} let it stay"


def stay_of(overstay: Overstay, limits: Limits) -> timedelta | None:
    """Return how long a container that does not run may stay; None if for ever."""
    never_ran = overstay is Overstay.NEVER_STARTED
    return limits.created_timeout if never_ran else limits.hold_after_stop


def keep_alive_helps(alertname: str) -> bool:
    """Tell whether a keep-alive ends what an alert is about: it keeps from the idle stop only."""
    return overstay_of(alertname) is Overstay.IDLE


def keep_alive_until(mtime: datetime, ctime: datetime, limits: Limits) -> datetime:
    """Return until when a keep-alive file protects.

    Anyone can give a file a modification time in the future; the kernel alone sets the change
    time, so the earlier of the two counts.
    """
    return min(mtime, ctime) + limits.keepalive_max


def idle_timeout_under_demand(
    limits: Limits, demand: float | None, book: LimitsBook
) -> timedelta | None:
    """Return the idle timeout while *demand* (0-1 of the GPUs) is allocated; None if exempt.

    An unknown demand shortens nothing.
    """
    if limits.idle_timeout is None or demand is None or demand < book.high_demand_threshold:
        return limits.idle_timeout
    return limits.idle_timeout * (1 - book.high_demand_idle_reduction)
