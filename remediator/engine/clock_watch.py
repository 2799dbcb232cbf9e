"""Pause when the clock jumps, and go on by itself when it jumps back to where it was."""

import logging
import threading
from datetime import timedelta

from remediator.clock import Clock
from remediator.core.clock_steps import ClockMark, step_between
from remediator.core.durations import humanize
from remediator.journal.journal import Journal

log = logging.getLogger(__name__)

ACTOR = "remediator"
# More than any daemon sets at once that keeps a clock right, less than any notice period.
_TOLERANCE = timedelta(seconds=60)
_KEPT_EVERY = timedelta(minutes=1)


class ClockWatch:
    """Compares the clock with the time since boot; any thread may ask it to.

    The last mark is in the journal, so that a step while nothing ran is noticed as well.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._last: ClockMark | None = None
        self._kept: ClockMark | None = None

    def check(self) -> None:
        """Pause if the clock was set since the last time this was asked."""
        with self._lock:
            now = self._clock.mark()
            if self._last is not None and not (self._step(now) or self._is_old(now)):
                self._last = now
                return
        # Whoever claims an attempt asks this inside a transaction: its lock comes first, always.
        with self._journal.transaction(), self._lock:
            self._look()

    def _look(self) -> None:
        if self._last is None:
            self._last = self._kept = self._journal.operations.clock_mark()
        now = self._clock.mark()
        step = self._step(now)
        if step:
            self._note(step, now)
        elif self._is_old(now):
            self._keep(now)
        self._last = now

    def _step(self, now: ClockMark) -> timedelta:
        """Return by how much the clock was set since the last look, nothing if by little."""
        step = step_between(self._last, now) if self._last else timedelta()
        return step if abs(step) > _TOLERANCE else timedelta()

    def _is_old(self, now: ClockMark) -> bool:
        kept = self._kept
        return kept is None or kept.boot != now.boot or now.uptime - kept.uptime >= _KEPT_EVERY

    def _note(self, step: timedelta, now: ClockMark) -> None:
        operations = self._journal.operations
        pause = operations.pause_in_force()
        ours = pause is not None and pause.actor == ACTOR
        # Whoever resumed has taken the clock as it was then.
        offset = step + (operations.clock_offset() if ours else timedelta())
        self._keep(now, offset)
        way = "ahead" if step > timedelta() else "back"
        said = f"the clock was set {way} by {humanize(abs(step))}"
        if abs(offset) <= _TOLERANCE and ours:
            operations.resume(ACTOR, now.at)
            self._journal.incidents.look_at_all(now.at)
            log.warning("%s, to where it was: resumed", said)
        elif pause is None or ours:
            reason = f"{said}: notice periods and budgets can't be told; see that it is right"
            operations.pause(reason, ACTOR, now.at)
            log.error("paused: %s, then: remediator resume", reason)
        else:
            log.error("%s while paused by %s", said, pause.actor)

    def _keep(self, now: ClockMark, offset: timedelta | None = None) -> None:
        self._journal.operations.keep_clock(now, offset)
        self._kept = now
