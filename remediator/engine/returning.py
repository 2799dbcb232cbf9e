"""Count the GPU-hours that were given back, while the worker runs."""

from datetime import datetime, timedelta

from remediator.clock import Clock
from remediator.core.returned import hours_between, stretches
from remediator.journal.journal import Journal
from remediator.metrics import WorkerMetrics

_EVERY = timedelta(minutes=1)


class Returning:
    """Adds to a counter once a minute what has been returned since the last time.

    It starts at zero with the process, as counters do; the page counts from the journal instead,
    and so also what was returned while no worker ran.
    """

    def __init__(self, journal: Journal, clock: Clock, metrics: WorkerMetrics) -> None:
        self._journal = journal
        self._clock = clock
        self._counter = metrics.gpu_hours_returned
        self._counted_to: datetime | None = None

    def step(self) -> None:
        """Count, if it is time to."""
        now, since = self._clock.now(), self._counted_to
        if since is None or now < since:
            # A clock that was set back must not have hours counted twice: they are left out.
            self._counted_to = now
        elif now - since >= _EVERY:
            found = stretches(self._journal.board.stops(since))
            self._counter.inc(hours_between(found, since, now))
            self._counted_to = now
