"""Count the GPU-hours that were given back, and the energy that was not wasted in them."""

from datetime import datetime, timedelta

from remediator.clock import Clock
from remediator.core.returned import energy_between, hours_between, stretches
from remediator.journal.journal import Journal
from remediator.metrics import WorkerMetrics

_EVERY = timedelta(minutes=1)
_JOULES = 3.6e6


class Returning:
    """Adds once a minute what has been returned since the last time.

    The journal keeps the sums and up to when they are counted, so that what was returned while no
    worker ran is added by the next one.
    """

    def __init__(self, journal: Journal, clock: Clock, metrics: WorkerMetrics) -> None:
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._counted_to: datetime | None = None

    def step(self) -> None:
        """Count, if it is time to."""
        now = self._clock.now()
        since = self._counted_to or self._journal.tallies.counted_to()
        if since is None or now < since:
            # A clock that was set back must not have hours counted twice: they are left out.
            self._count(0.0, 0.0, now)
        elif now - since >= _EVERY:
            found = stretches(self._journal.board.stops(since))
            energy = energy_between(found, since, now)
            self._count(hours_between(found, since, now), energy.kilowatt_hours * _JOULES, now)
        else:
            self._counted_to = since

    def _count(self, gpu_hours: float, joules: float, now: datetime) -> None:
        self._journal.tallies.returned(gpu_hours, joules, now)
        self._metrics.gpu_hours_returned.inc(gpu_hours)
        self._metrics.energy_not_wasted.inc(joules)
        self._counted_to = now
