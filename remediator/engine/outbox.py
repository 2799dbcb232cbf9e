"""Send what waits in the outbox: one thread for each notifier, so that none waits for another.

A notice is put off before each try. A crash during the try therefore means a second copy, never
a lost one; a mail's second copy has the first one's Message-ID. Notices of one kind to one
recipient that wait together are sent as one digest, and are from then on one until they are sent.
"""

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta

from remediator.core.notices import Digest, Entry, Letter
from remediator.engine.parts import EngineParts
from remediator.errors import JournalError, NotifyError
from remediator.journal.notices import NoticeRecord
from remediator.notifiers.interface import Envelope, Notifier

log = logging.getLogger(__name__)

_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(minutes=15)
_LONGEST_SLEEP = timedelta(seconds=5)
_SHORT = 12


class Outbox:
    """Sends the letters of one notifier until stopped."""

    def __init__(self, notifier: Notifier, parts: EngineParts) -> None:
        self._notifier = notifier
        self._parts = parts
        self._notices = parts.journal.notices
        self._clock = parts.clock
        self._results = parts.metrics.notices
        # The start of a name is enough to tell two journals of one host apart.
        self._journal_name = parts.journal.name[:_SHORT]
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
        due = self._notices.due(self._notifier.name, self._clock.now())
        tried: set[int] = set()
        for notice in due:
            if self._stopping:
                break
            if notice.id not in tried:
                batch = self._together(notice)
                tried.update(one.id for one in batch)
                self._try(batch)
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

    def _together(self, notice: NoticeRecord) -> list[NoticeRecord]:
        """Return what is sent at once with *notice*, itself included."""
        if notice.digest is None and not notice.letter.patience:
            return [notice]
        found = self._notices.together_with(notice)
        enough = notice.digest is not None or len(found) >= self._parts.digest.at_least
        # More wait than go into one digest, and this one goes with a later one.
        return found if enough and notice in found else [notice]

    def _try(self, batch: Sequence[NoticeRecord]) -> None:
        name, ids = self._notifier.name, [notice.id for notice in batch]
        first, tries = batch[0], max(notice.tries for notice in batch)
        again_at = self._clock.now() + min(_FIRST_WAIT * 2 ** min(tries, 16), _LONGEST_WAIT)
        self._notices.try_again(ids, again_at, first.result or "being sent")
        try:
            result = self._notifier.send(self._envelope(batch))
        except NotifyError as error:
            self._not_sent(batch, error)
            return
        except Exception as error:
            # A letter that trips a notifier over must not keep the others from being sent.
            self._results.labels(name, "retried").inc(len(ids))
            self._notices.note(ids, f"an error nobody foresaw: {type(error).__name__}")
            log.exception("notice %s: a bug in %s; it is tried again later", first.id, name)
            return
        if len(ids) > 1:
            result = f"{result}, in a digest of {len(ids)}"
        self._results.labels(name, "sent").inc(len(ids))
        self._notices.sent(ids, self._clock.now(), result)
        log.info("notice %s sent by %s: %s", first.id, name, result)

    def _not_sent(self, batch: Sequence[NoticeRecord], error: NotifyError) -> None:
        name, ids, first = self._notifier.name, [notice.id for notice in batch], batch[0]
        if not error.permanent:
            self._results.labels(name, "retried").inc(len(ids))
            self._notices.note(ids, str(error))
            if first.tries == 0:
                log.warning("notice %s not sent by %s yet: %s", first.id, name, error)
        elif len(ids) > 1:
            # It may be the digest that is refused, for its size: each has its own chance.
            self._results.labels(name, "retried").inc(len(ids))
            self._notices.part(ids, self._clock.now(), str(error))
            log.warning("notice %s and more are sent one by one: %s", first.id, error)
        else:
            self._results.labels(name, "failed").inc()
            self._notices.failed(first.id, str(error))
            log.error("notice %s can never be sent by %s: %s", first.id, name, error)

    def _envelope(self, batch: Sequence[NoticeRecord]) -> Envelope:
        first, host = batch[0], self._parts.host
        if len(batch) == 1:
            thread = None if first.incident is None else self._called("incident", first.incident)
            return Envelope(self._called("notice", first.id), thread, host, first.letter)
        letter = first.letter
        entries = tuple(
            Entry(
                at=notice.created_at,
                subject=notice.letter.subject,
                why=notice.letter.why,
                advice=notice.letter.advice,
                incident=notice.incident,
            )
            for notice in batch
        )
        text = self._parts.wording.write_digest(Digest(letter.kind, host, entries))
        one = Letter(
            letter.kind, letter.notifier, letter.recipient, text.subject, text.body, text.html
        )
        return Envelope(self._called("digest", first.id), None, host, one)

    def _called(self, what: str, number: int) -> str:
        """Return a name that no other journal of this host gives: numbers begin anew with one."""
        return f"{what}-{number}.{self._journal_name}"
