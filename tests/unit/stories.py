"""An incident with everything in it, as a worker would have written it."""

from dataclasses import replace
from datetime import timedelta

from remediator.core.alerts import Status
from remediator.core.attempts import AttemptState
from remediator.core.case import Hold, HoldReason, Remediate
from remediator.core.notices import Letter, NoticeKind
from remediator.journal.journal import Journal
from tests.builders import (
    MINUTE,
    NOON,
    RULE,
    SECOND,
    a_plan,
    a_rung,
    a_task,
    an_alert,
    an_observation,
)

TITLE = "train\x1b[2J"


def write_a_story(journal: Journal) -> int:
    """Write: fired, held, decided, done in two steps, told, failed to tell, resolved, closed."""
    alert = an_alert({"container": TITLE})
    incidents, attempts, outbox = journal.incidents, journal.attempts, journal.notices
    incident = 1
    for delivery in (1, 2):
        incidents.attach(
            alert,
            subject="container:c",
            fault=RULE,
            delivery=delivery,
            at=NOON,
            receiver="remediator",
        )
    incidents.name(incident, TITLE, "alice")
    seen = an_observation()
    hold = Hold(HoldReason.WARNED, "the warning gives 5 min", until=NOON + 5 * MINUTE)
    for second in (1, 2, 3):
        journal.decisions.decided(incident, alert, hold, seen, NOON + second * SECOND, RULE)
    act = Remediate(RULE, 0, a_rung())
    at = NOON + 5 * MINUTE
    journal.decisions.decided(incident, alert, act, seen, at, RULE)
    task = replace(a_task(), context={"gpus": "0", "gpu_shares": "1"})
    attempt = attempts.plan(incident, a_plan(planned_at=at), task)
    assert attempt is not None
    attempts.claim(attempt, at)
    stop = attempts.begin_step(attempt, "stop", "with 60 s of grace", at)
    attempts.end_step(stop, "exit code 0", at + timedelta(seconds=1.5))
    attempts.begin_step(attempt, "remove", "the container", at + 2 * SECOND)
    attempts.move(attempt, AttemptState.UNKNOWN, "no answer", at + 3 * SECOND)
    attempts.move(attempt, AttemptState.SUCCEEDED, "it is gone", at + 4 * SECOND)
    letters = [
        Letter(NoticeKind.ACTED, "mail", "alice@example.org", "it was stopped", "…"),
        Letter(NoticeKind.ACTED, "mail", "bob@example.org", "it was stopped", "…"),
        Letter(NoticeKind.ACTED, "wall", "alice", "it was stopped", "…"),
    ]
    outbox.put(incident, letters, at + 4 * SECOND)
    outbox.sent([1], at + 5 * SECOND, "250 OK")
    outbox.try_again([2], at + MINUTE, "being sent")
    outbox.note([2], "connection refused")
    incidents.settle(incident, "stop-container succeeded")
    gone = an_alert({"container": TITLE}, status=Status.RESOLVED)
    incidents.attach(
        gone,
        subject="container:c",
        fault=RULE,
        delivery=3,
        at=at + 2 * MINUTE,
        receiver="remediator",
    )
    incidents.close(incident, at + 3 * MINUTE, "resolved by itself")
    return incident
