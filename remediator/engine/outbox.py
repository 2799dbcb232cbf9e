"""Send what waits in the outbox: one thread for each notifier, so that none waits for another.

A notice is put off before each try. A crash during the try therefore means a second copy, never
a lost one; a mail's second copy has the first one's Message-ID.
"""

import logging
import threading
from datetime import timedelta

from remediator.clock import Clock
from remediator.errors import JournalError, NotifyError
from remediator.journal.journal import Journal
from remediator.journal.notices import NoticeRecord
from remediator.metrics import WorkerMetrics
from remediator.notifiers.interface import Envelope, Notifier

log = logging.getLogger(__name__)

_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(minutes=15)
_LONGEST_SLEEP = timedelta(seconds=5)


class Outbox:
    """Sends the letters of one notifier until stopped."""

    def __init__(
        self, notifier: Notifier, journal: Journal, clock: Clock, metrics: WorkerMetrics, host: str
    ) -> None:
        self._notifier = notifier
        self._journal = journal
        self._clock = clock
        self._results = metrics.notices
        self._host = host
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name=f"outbox-{notifier.name}", daemon=True
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new to send."""
        self._wake.set()

    def stop(self, within: timedelta) -> None:
        """Finish the letter at hand; what is left waits in the journal."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(within.total_seconds())

    def send_due(self) -> int:
        """Try everything that is due; return how many were tried."""
        due = self._journal.notices.due(self._notifier.name, self._clock.now())
        for notice in due:
            if self._stopping:
                break
            self._try(notice)
        return len(due)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                if self.send_due():
                    continue
            except JournalError as error:
                log.error("outbox %s cannot go on: %s", self._notifier.name, error)  # noqa: TRY400
            self._wake.wait(_LONGEST_SLEEP.total_seconds())

    def _try(self, notice: NoticeRecord) -> None:
        name = self._notifier.name
        again_at = self._clock.now() + min(_FIRST_WAIT * 2 ** min(notice.tries, 16), _LONGEST_WAIT)
        self._journal.notices.try_again(notice.id, again_at, notice.result or "being sent")
        envelope = Envelope(notice.id, notice.incident, self._host, notice.letter)
        try:
            result = self._notifier.send(envelope)
        except NotifyError as error:
            if error.permanent:
                self._results.labels(name, "failed").inc()
                self._journal.notices.failed(notice.id, str(error))
                log.error("notice %s can never be sent by %s: %s", notice.id, name, error)  # noqa: TRY400
                return
            self._results.labels(name, "retried").inc()
            self._journal.notices.note(notice.id, str(error))
            if notice.tries == 0:
                log.warning("notice %s not sent by %s yet: %s", notice.id, name, error)
            return
        except Exception as error:
            # A letter that trips a notifier over must not keep the others from being sent.
            self._results.labels(name, "retried").inc()
            self._journal.notices.note(
                notice.id, f"an error nobody foresaw: {type(error).__name__}"
            )
            log.exception("notice %s: a bug in %s; it is tried again later", notice.id, name)
            return
        self._results.labels(name, "sent").inc()
        self._journal.notices.sent(notice.id, self._clock.now(), result)
        log.info("notice %s sent by %s: %s", notice.id, name, result)
