"""The time of day and the time since boot, passed in wherever needed so that tests can set them."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from remediator.core.clock_steps import ClockMark

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the time as an aware UTC datetime."""
        ...

    def mark(self) -> ClockMark:
        """Return the time beside what nobody can set."""
        ...


class SystemClock:
    """The clock of this machine."""

    def __init__(self) -> None:
        # Where the kernel does not say, marks of an earlier run are compared by the time of day.
        self._boot = _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""

    def now(self) -> datetime:
        """Return the time as an aware UTC datetime."""
        return datetime.now(UTC)

    def mark(self) -> ClockMark:
        """Return the time beside the time since boot, which also runs while the machine sleeps."""
        uptime = timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
        return ClockMark(self._boot, uptime, self.now())
