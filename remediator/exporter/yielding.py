"""Let the driver go while somebody resets a GPU, and take it up again when that is over."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

log = logging.getLogger(__name__)

_EVERY = timedelta(milliseconds=250)


class Yielding:
    """Looks all the time whether a reset wants the driver, in a thread of its own.

    *release* lets the driver go and says whether it did; *resume* takes it up again.
    """

    def __init__(
        self,
        is_wanted: Callable[[], bool],
        release: Callable[[], bool],
        resume: Callable[[], None],
        every: timedelta = _EVERY,
    ) -> None:
        self._is_wanted = is_wanted
        self._release = release
        self._resume = resume
        self._every = every.total_seconds()
        self._has_yielded = False
        self._is_closed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="yielding", daemon=True)

    def start(self) -> None:
        """Begin to look; once before this returns, so that nothing opens the driver mid-reset."""
        self._look()
        self._thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """Stop looking."""
        self._stopping.set()
        self._thread.join(within.total_seconds())

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._look()

    def _look(self) -> None:
        if not self._is_wanted():
            self._take_up()
        elif not self._is_closed:
            # Again and again: a question that hung in the driver may have come back since.
            self._let_go()

    def _let_go(self) -> None:
        first, self._has_yielded = not self._has_yielded, True
        self._is_closed = self._release()
        if self._is_closed:
            log.info("a GPU is being reset: the driver is let go until that is over")
        elif first:
            log.warning("a GPU is to be reset, but a question still hangs in the driver")

    def _take_up(self) -> None:
        if self._has_yielded:
            log.info("no GPU is being reset any more: the driver is asked again")
            self._has_yielded = self._is_closed = False
            self._resume()
