"""Keep the newest view of the GPUs, asked for in a thread of its own: nobody waits for Prometheus.

The receiver answers everybody in one thread. A Prometheus that hangs must cost neither a delivery
nor a page more than a moment.
"""

import logging
import threading
import time
from collections.abc import Callable

from remediator.clock import Clock
from remediator.errors import SourceError
from remediator.web.gpus import NAMES, gpus_from
from remediator.web.prometheus import Sample
from remediator.web.shapes import Gpus

log = logging.getLogger(__name__)

_LASTS_SECONDS = 5.0
_PATIENCE_SECONDS = 0.25
_NOT_YET = Gpus((), None, "Prometheus is being asked")


class GpuWatch:
    """Asks only while somebody looks; what was seen last is shown until something newer comes."""

    def __init__(self, ask: Callable[..., list[Sample]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._newest = _NOT_YET
        self._asked_at = float("-inf")
        self._answered = threading.Event()
        self._answered.set()

    def newest(self) -> Gpus:
        """Return what Prometheus last told, and why it may be old; within a quarter of a second."""
        with self._lock:
            is_old = time.monotonic() - self._asked_at > _LASTS_SECONDS
            is_first = is_old and self._answered.is_set()
            if is_first:
                self._answered.clear()
                self._asked_at = time.monotonic()
                threading.Thread(target=self._look, name="gpus", daemon=True).start()
        if is_first:
            # Only the first is worth waiting for: a server that hangs would slow every page.
            self._answered.wait(_PATIENCE_SECONDS)
        with self._lock:
            return self._newest

    def _look(self) -> None:
        try:
            seen = Gpus(gpus_from(self._ask(*NAMES)), self._clock.now(), None)
        except SourceError as error:
            seen = Gpus(self._newest.gpus, self._newest.asked_at, str(error))
        except Exception:
            log.exception("a bug: what Prometheus tells of the GPUs cannot be read")
            seen = Gpus((), None, "what Prometheus tells cannot be read, see the receiver's log")
        with self._lock:
            self._newest = seen
            self._answered.set()
