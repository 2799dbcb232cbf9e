"""Measure how long it took from an alert's start until something was done about it."""

from datetime import datetime

from remediator.core.attempts import AttemptState
from remediator.core.catalogue import offer_of
from remediator.core.tallies import Until
from remediator.journal.attempts import AttemptRecord
from remediator.journal.journal import Journal

Delay = tuple[Until, float]


def keep_delays(
    journal: Journal, record: AttemptRecord, state: AttemptState, now: datetime
) -> tuple[Delay, ...]:
    """Count the delays of an attempt that ends now, in the transaction that ends it; return them.

    In seconds, to the moment it began and, if it has succeeded, to its proven end. What only tells
    people is no action, and what was refused never began.
    """
    if state is AttemptState.REFUSED or record.started_at is None:
        return ()
    if not offer_of(record.remediation).acts:
        return ()
    alert_at = journal.months.alert_at(record.incident, record.started_at)
    if alert_at is None:
        return ()
    moments = {Until.BEGUN: record.started_at}
    if state is AttemptState.SUCCEEDED:
        moments[Until.PROVEN] = now
    # Prometheus's clock is not ours: what seems to come before its cause came at once.
    delays = [(until, max(0.0, (at - alert_at).total_seconds())) for until, at in moments.items()]
    for until, seconds in delays:
        journal.tallies.delay(until, seconds)
    return tuple(delays)
