"""Services as systemd sees them: what state a unit is in, and which units hang together.

Nothing here asks systemd. The names are systemd's own (``org.freedesktop.systemd1``, 252).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

_UP = frozenset({"active", "reloading", "activating", "maintenance", "refreshing"})
_DOWN = frozenset({"inactive", "failed"})
_SUFFIXES = frozenset(
    {
        *("service", "socket", "target", "timer", "path", "mount"),
        *("automount", "swap", "device", "slice", "scope"),
    }
)
# Jobs that end with the unit running, and those that end with it stopped.
_JOBS_UP = frozenset({"start", "restart", "try-restart", "reload-or-start"})
_JOBS_DOWN = frozenset({"stop"})


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit at one moment; ``job`` is the number of what systemd has yet to do, 0 for nothing.

    ``load`` is ``loaded``, ``not-found``, ``masked`` or another word for a broken unit file.
    ``active_since`` is when it last became active (UTC), None if it never was. ``stop_timeout`` is
    how long systemd waits for it to stop, None for ever; then it kills, if ``sends_sigkill``.
    """

    name: str
    load: str = "loaded"
    active: str = "inactive"
    sub: str = "dead"
    job: int = 0
    job_type: str = ""
    kind: str = ""
    restart: str = "no"
    result: str = "success"
    invocation_id: str = ""
    n_restarts: int = 0
    active_since: datetime | None = None
    can_start: bool = True
    can_stop: bool = True
    is_transient: bool = False
    stop_timeout: timedelta | None = None
    sends_sigkill: bool = True

    @property
    def is_running(self) -> bool:
        """Whether it runs, or is about to without anybody's doing.

        A unit between two tries of a crash loop is ``activating``; one whose process has ended by
        itself is ``deactivating`` and comes back where ``Restart=`` says so. One that was told to
        stop does not count, even while it still takes its time.
        """
        if self.job_type in _JOBS_DOWN:
            return False
        if self.job_type in _JOBS_UP or self.active in _UP:
            return True
        return self.active == "deactivating" and self.restart != "no"

    @property
    def is_quiet(self) -> bool:
        """Whether it is down and nothing is left to be done about it."""
        return self.active in _DOWN and self.job == 0

    @property
    def has_done_its_work(self) -> bool:
        """Whether it is of the kind that runs once and ends, and has ended well."""
        return self.kind == "oneshot" and self.active == "inactive" and self.result == "success"

    def __str__(self) -> str:
        if self.load != "loaded":
            return f"{self.load}, {self.active}"
        text = f"{self.active} ({self.sub})"
        if self.active == "failed" and self.result != "success":
            text = f"failed ({self.result})"
        return f"{text}, {self.job_type or 'a'} job waiting" if self.job else text


@dataclass(frozen=True, slots=True)
class UnitLinks:
    """The units one hangs together with.

    ``started_by``: sockets, timers, paths and others that would start it again by themselves.
    ``takes_down``: those that systemd stops along with it. ``pulls_in``: those that systemd
    starts along with it. ``starts``: what it starts by itself, if it is a socket or the like.
    """

    started_by: tuple[str, ...] = ()
    takes_down: tuple[str, ...] = ()
    pulls_in: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()


def unit_name(text: str) -> str:
    """Return the full name of a unit: what names no kind of unit is a service."""
    return text if text.rpartition(".")[2] in _SUFFIXES else f"{text}.service"


def unsettled(before: UnitState, now: UnitState) -> str | None:
    """Return why a unit that was started has not stayed up since *before*; None if it has."""
    if now.has_done_its_work:
        return None
    if now.active not in _UP or now.sub == "auto-restart":
        return f"it is {now}"
    if now.job:
        return f"it is {now}"
    if now.invocation_id != before.invocation_id or now.n_restarts != before.n_restarts:
        return "it was started anew meanwhile"
    if now.active == "activating":
        return f"it is still {now}"
    return None
