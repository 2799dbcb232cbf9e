"""Go on with what a process that died has left stopped: at the start, and every minute."""

import logging
import threading
from datetime import timedelta

from remediator.errors import RemediatorError
from remediator.quiesce.quiesce import Quiesce
from remediator.quiesce.record import Record

log = logging.getLogger(__name__)

_EVERY = timedelta(minutes=1)


class Recovery:
    """Restores what is outstanding and nobody is about; never raises."""

    def __init__(self, quiesce: Quiesce, record: Record, every: timedelta = _EVERY) -> None:
        self._quiesce = quiesce
        self._record = record
        self._every = every
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)

    def start(self) -> None:
        """Restore now, before anything else is done, and from now on each minute."""
        self.run_once()
        self._thread.start()

    def stop(self) -> None:
        """Do not begin again; what goes on is taken up at the next start."""
        self._stopping.set()

    def run_once(self) -> bool:
        """Restore once; return whether nothing is left to be restored."""
        try:
            troubles = self._quiesce.recover()
        except RemediatorError as error:
            log.error("stopped services cannot be restored: %s", error)  # noqa: TRY400
            return False
        if troubles is None:
            return False
        for name, why in troubles.items():
            log.error(
                "%s was stopped by us and does not run again: %s; it is tried again in a minute",
                name,
                why,
            )
        return not troubles

    def stopped_count(self) -> float:
        """Return how many services are stopped by us, for a metric; not a number if unknown."""
        try:
            return self._record.stopped_count()
        except RemediatorError:
            return float("nan")

    def _run(self) -> None:
        while not self._stopping.wait(self._every.total_seconds()):
            try:
                self.run_once()
            except Exception:
                # Whatever it is, the services still are to be brought back.
                log.exception("a bug; restoring is tried again")
