"""Forget deliveries and commands that the worker has long taken.

The inbox is written by the network side alone, so it is the receiver that does this; how far the
worker has come stands in the journal.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from remediator.clock import Clock
from remediator.errors import StoreError
from remediator.inbox.store import Inbox

log = logging.getLogger(__name__)

_EVERY = timedelta(minutes=10)
_AT_A_TIME = 500


class Pruning:
    """Does it every ten minutes in a thread of its own, or when `step` is called.

    *taken* returns for which inbox the journal stands, and the last delivery and command taken.
    """

    def __init__(
        self,
        inbox: Inbox,
        taken: Callable[[], tuple[str, int, int]],
        clock: Clock,
        keep: timedelta,
    ) -> None:
        self._inbox = inbox
        self._taken = taken
        self._clock = clock
        self._keep = keep
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin; the thread ends with its process."""
        threading.Thread(target=self._run, name="prune", daemon=True).start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def step(self) -> int:
        """Forget what is taken and old; return how many rows. A journal of another inbox counts
        for nothing.
        """
        identity, delivery, command = self._taken()
        if identity != self._inbox.identity():
            return 0
        before = self._clock.now() - self._keep
        forgotten = 0
        while some := self._inbox.forget(delivery, command, before, _AT_A_TIME):
            forgotten += some
        return forgotten

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY.total_seconds()):
            try:
                forgotten = self.step()
            except StoreError as error:
                log.info("nothing is forgotten yet: %s", error)
                continue
            if forgotten:
                log.info("%s stored rows are forgotten: taken and older than kept", forgotten)
