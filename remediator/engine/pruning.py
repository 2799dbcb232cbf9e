"""Forget what is older than anybody wants to read, a little at a time."""

import logging
from datetime import datetime, timedelta

from remediator.clock import Clock
from remediator.journal.journal import Journal

log = logging.getLogger(__name__)

_EVERY = timedelta(hours=1)
# So few that nothing else waits for long; what remains is for the next round.
_AT_A_TIME = 100


class Pruning:
    """Keeps the journal from growing for ever; *keep* counts from the closing of an incident."""

    def __init__(self, journal: Journal, clock: Clock, keep: timedelta) -> None:
        self._journal = journal
        self._clock = clock
        self._keep = keep
        self._next: datetime | None = None
        self._forgotten = 0

    def step(self) -> None:
        """Forget some incidents if it is time to."""
        now = self._clock.now()
        if self._next is not None and self._next - _EVERY <= now < self._next:
            return
        if self._journal.operations.pause_in_force() is not None:
            # It may be the clock that is wrong, and with it what is old.
            return
        forgotten = self._journal.forget(now - self._keep, _AT_A_TIME)
        self._forgotten += forgotten
        if forgotten == _AT_A_TIME:
            self._next = now
            return
        if self._forgotten:
            log.info("%s incidents are forgotten: closed for longer than kept", self._forgotten)
        self._forgotten = 0
        self._next = now + _EVERY
