"""A thread that stores: while the disk is waited for, what comes next is read and checked."""

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence

from remediator.web.taking import Offer, Reply

log = logging.getLogger(__name__)


class Storer:
    """Stores one batch at a time; its file descriptor becomes readable when that is done."""

    def __init__(self, store: Callable[[Sequence[Offer]], list[Reply]]) -> None:
        self._store = store
        self._batches: queue.SimpleQueue[Sequence[Offer]] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[list[Reply]] = queue.SimpleQueue()
        self._done = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    def fileno(self) -> int:
        """Return the file descriptor, which is what selectors ask for."""
        return self._done

    def begin(self, offers: Sequence[Offer]) -> None:
        """Have *offers* stored; nothing may be in hand."""
        if self._thread is None:
            # Not before it is needed: a program is forked without its threads.
            self._thread = threading.Thread(target=self._run, name="store", daemon=True)
            self._thread.start()
        self._batches.put(offers)

    def end(self) -> list[Reply]:
        """Return the answers to what was begun, waiting for them."""
        replies = self._replies.get()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._done)
        return replies

    def store(self, offers: Sequence[Offer]) -> list[Reply]:
        """Store *offers* now, in this thread."""
        try:
            return self._store(offers)
        except Exception:
            log.exception("a bug, please report it: %s deliveries are not stored", len(offers))
            return [Reply(500, {"error": "not stored, send it again"})] * len(offers)

    def _run(self) -> None:
        while True:
            replies = self.store(self._batches.get())
            # In this order: who has the replies has no notice of them still to come.
            os.eventfd_write(self._done, 1)
            self._replies.put(replies)
