"""Take deliveries from the inbox into the journal, each exactly once."""

import logging

from remediator.core.alerts import Alert, Delivery
from remediator.core.targets import subject_of
from remediator.engine.parts import EngineParts
from remediator.errors import DeliveryError
from remediator.inbox.store import Inbox, Stored
from remediator.payload import parse_delivery

log = logging.getLogger(__name__)


class Intake:
    """Moves what the network side stored to where decisions are made.

    A delivery's number and all that follows from it are written in one transaction, so that a
    crash at any moment neither loses it nor takes it twice.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts

    def take_all(self, inbox: Inbox) -> int:
        """Take everything that is there; return how many deliveries that were."""
        taken = 0
        try:
            self.begin(inbox)
            # One at a time: a body may be large, and there may be many.
            while stored := inbox.after(self._parts.journal.intake.mark().last_delivery, most=1):
                self._take(stored[0])
                taken += 1
        finally:
            # Also where none can be taken: the oldest one's age is how that is noticed.
            self._measure(inbox)
        return taken

    def begin(self, inbox: Inbox) -> None:
        """Go on where the journal says, or from the beginning of an inbox that is a new one."""
        if self._parts.journal.intake.begin(inbox.identity()):
            log.warning("the inbox was made anew: it is read from its beginning")

    def _take(self, stored: Stored) -> None:
        metrics = self._parts.metrics
        try:
            delivery = parse_delivery(stored.body)
        except DeliveryError as error:
            # The receiver has checked it, so the inbox was written by something else.
            if self._parts.journal.intake.advance(stored.id, refused=True):
                metrics.refused.inc()
                log.error("delivery %s is not one: %s", stored.id, error)  # noqa: TRY400
            return
        # What a crash takes back is still in the inbox, and is taken once more.
        with self._parts.journal.transaction(waits=False):
            if not self._parts.journal.intake.advance(stored.id, truncated=delivery.truncated):
                return
            for alert in delivery.alerts:
                self._attach(alert, delivery, stored)
        metrics.taken.inc()
        metrics.truncated.inc(delivery.truncated)
        if delivery.truncated:
            log.error(
                "delivery %s left out %s alerts: remove max_alerts from the Alertmanager receiver",
                stored.id,
                delivery.truncated,
            )

    def _attach(self, alert: Alert, delivery: Delivery, stored: Stored) -> None:
        rule = self._parts.policy().rule_for(alert.labels)
        incident = self._parts.journal.incidents.attach(
            alert,
            subject=str(subject_of(alert.labels)),
            fault=rule.name if rule else alert.name,
            delivery=stored.id,
            at=stored.received_at,
            receiver=delivery.receiver,
        )
        log.debug("delivery %s: %s belongs to incident %s", stored.id, alert.firing, incident)

    def _measure(self, inbox: Inbox) -> None:
        mark = self._parts.journal.intake.mark().last_delivery
        waiting = inbox.after(mark, most=1)
        age = (self._parts.clock.now() - waiting[0].received_at) if waiting else None
        self._parts.metrics.backlog.set(max(0, inbox.newest() - mark) if waiting else 0)
        self._parts.metrics.oldest_seconds.set(age.total_seconds() if age else 0)
