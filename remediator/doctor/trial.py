"""Send an alert through the real Alertmanager, and see it arrive and be held.

Nothing can come of it: Prometheus has no such alert, so whatever the policy says it is held; it is
ended as soon as it has arrived, long before a person is told of it (`severity: info`).
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.config.policy import read_policy
from remediator.config.settings import Settings
from remediator.doctor.examination import AilmentError, CannotTellError, Check
from remediator.doctor.web import Web
from remediator.errors import InboxError, JournalError
from remediator.inbox.store import FILE, Inbox
from remediator.journal.journal import Journal

ALERTNAME = "RemediatorDoctorTest"
# It ends by itself should we be cut off before we end it, before Alertmanager tells people of it.
LASTS = timedelta(minutes=2)
_POLL_SECONDS = 0.05
_STATUS_GOOD = 200


class Trial:
    """A test alert; it is given *patience* to arrive and as long to be taken."""

    def __init__(
        self, settings: Settings, web: Web, patience: timedelta = timedelta(seconds=30)
    ) -> None:
        self._settings = settings
        self._web = web
        self._patience = patience.total_seconds()

    def checks(self) -> Iterator[Check]:
        """Return what there is to look at."""
        yield Check(
            "test alert",
            self.run,
            "see the log of Alertmanager: does its token equal the one in token_file?",
            needs=("state", "policy", "token", "worker", "route"),
        )

    def run(self) -> str:
        """Send it, and say how long it took."""
        number = secrets.token_hex(8)
        labels = {"alertname": ALERTNAME, "severity": "info", "doctor": number}
        rule = read_policy(self._settings.policy).rule_for(labels)
        if rule is not None:
            raise AilmentError(
                f'the policy rule "{rule.name}" is about any alert, also the test alert',
                f"have it match an alertname, or anything but {ALERTNAME}",
            )
        inbox = self._inbox()
        last, identity = inbox.newest(), inbox.identity()
        sent_at, begins_at = time.monotonic(), datetime.now(UTC)
        try:
            self._post(labels, begins_at, begins_at + LASTS)
            delivery = self._until(lambda: _find(inbox, last, number), "arrived")
            arrived = time.monotonic() - sent_at
            self._until(lambda: self._is_taken(identity, delivery), "been taken by the worker")
            taken = time.monotonic() - sent_at
        finally:
            inbox.close()
            # With the same beginning, so that it is the end of the same.
            self._post(labels, begins_at, datetime.now(UTC))
        return f"arrived after {arrived:.1f} s, taken and held after {taken:.1f} s"

    def _inbox(self) -> Inbox:
        folder = self._settings.inbox_dir
        try:
            (folder / FILE).stat()
        except PermissionError as error:
            raise CannotTellError(f"{folder} may not be read: run this as root") from error
        return Inbox.for_worker(folder)

    def _post(self, labels: Mapping[str, str], begins_at: datetime, ends_at: datetime) -> None:
        alert: dict[str, Any] = {
            "labels": labels,
            "annotations": {"summary": "A test of remediator doctor; nothing is wrong."},
            "startsAt": begins_at.isoformat(),
            "endsAt": ends_at.isoformat(),
        }
        answer = self._web.post(
            f"{self._settings.alertmanager_url}/api/v2/alerts", json.dumps([alert]).encode()
        )
        if answer.status != _STATUS_GOOD:
            raise AilmentError(
                f"Alertmanager does not take it: {answer.status} {answer.text[:200]}"
            )

    def _until(self, condition: Callable[[], int], what: str) -> int:
        deadline = time.monotonic() + self._patience
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise AilmentError(f"it has not {what} within {self._patience:g} s")
            time.sleep(_POLL_SECONDS)

    def _is_taken(self, inbox: str, delivery: int) -> int:
        try:
            journal = Journal.for_reading(self._settings.state_dir)
        except JournalError:
            return 0
        try:
            mark = journal.intake.mark()
        finally:
            journal.close()
        return int(mark.inbox == inbox and mark.last_delivery >= delivery)


def _find(inbox: Inbox, last: int, number: str) -> int:
    """Return the first delivery after *last* that is about the test alert, 0 without one."""
    try:
        while batch := inbox.after(last):
            for stored in batch:
                if number.encode() in stored.body:
                    return stored.id
            last = batch[-1].id
    except InboxError as error:
        raise AilmentError(str(error)) from error
    return 0
