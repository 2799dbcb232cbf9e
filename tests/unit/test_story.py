from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.core.attempts import AttemptState
from remediator.core.case import Hold, HoldReason
from remediator.journal.journal import Journal
from remediator.journal.story import tell
from tests.builders import NOON, TARGET, a_plan, a_task, an_alert
from tests.unit.stories import TITLE, write_a_story

EXPECTED = f"""\
11:00:00 fired DS01ContainerIdle
  alertname=DS01ContainerIdle
  container={TITLE}
  fingerprint 60c6e0280cbb09d5, startsAt 2026-03-01T11:00:00Z
12:00:00 delivered DS01ContainerIdle to receiver remediator, 3 times (delivery 1 to 3)
12:00:01 decided hold, warned: the warning gives 5 min (policy rule "idle container"), 3 times \
until 12:00:03 UTC
  prometheus agrees: it says so
  docker agrees: it says so
  nvml agrees: it says so
12:05:00 decided remediate: stop-container: every guard passed (policy rule "idle container")
  prometheus agrees: it says so
  docker agrees: it says so
  nvml agrees: it says so
12:05:00 planned attempt 1: stop-container on {TARGET.key}
12:05:00 step stop: with 60 s of grace
  exit code 0 (1.50 s)
12:05:02 step remove: the container
  cut off: the worker died during this step
12:05:04 settled attempt 1: stop-container succeeded: it is gone
12:05:04 to tell acted by mail to bob@example.org is pending (1 tries, connection refused): it was \
stopped
12:05:04 to tell acted by wall to alice is pending (not tried yet): it was stopped
12:05:05 told acted by mail to alice@example.org: it was stopped
  250 OK
12:07:00 resolved DS01ContainerIdle
12:08:00 closed stop-container succeeded
"""


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal.for_worker(folder)
    yield opened
    opened.close()


def told(journal: Journal, incident: int = 1) -> str:
    story = tell(journal, incident)
    assert story is not None
    lines = []
    for event in story.events:
        lines.append(f"{event.at:%H:%M:%S} {event.what} {event.text}")
        lines += [f"  {detail}" for detail in event.details]
    return "\n".join(lines) + "\n"


def test_an_incident_is_told_in_the_order_of_time(journal: Journal) -> None:
    assert told(journal, write_a_story(journal)) == EXPECTED


def test_an_incident_that_is_not_there_has_no_story(journal: Journal) -> None:
    assert tell(journal, 1) is None


def test_a_step_under_way_is_not_called_cut_off(journal: Journal) -> None:
    alert = an_alert()
    journal.incidents.attach(
        alert, subject="container:c", fault="f", delivery=1, at=NOON, receiver="hook"
    )
    hold = Hold(HoldReason.NO_POLICY_RULE, "no policy rule matches its labels")
    journal.decisions.decided(1, alert, hold, None, NOON, None)
    attempt = journal.attempts.plan(1, a_plan(), a_task())
    assert attempt is not None
    journal.attempts.move(attempt, AttemptState.RUNNING, "", NOON)
    journal.attempts.begin_step(attempt, "stop", "now", NOON)

    text = told(journal)

    assert "delivered DS01ContainerIdle to receiver hook, once (delivery 1)\n" in text
    assert "decided hold, no_policy_rule: no policy rule matches its labels\n" in text
    assert "\n  under way, or cut off if the worker does not run\n" in text
    assert "settled" not in text
    assert "closed" not in text


def test_what_is_being_put_back_is_not_cut_off(journal: Journal) -> None:
    journal.incidents.attach(
        an_alert(), subject="gpu:g", fault="hot GPU", delivery=1, at=NOON, receiver="hook"
    )
    attempt = journal.attempts.plan(1, a_plan(), a_task())
    assert attempt is not None
    journal.lasting.begin(attempt, NOON)
    journal.attempts.move(attempt, AttemptState.RUNNING, "", NOON)
    journal.attempts.move(attempt, AttemptState.SUCCEEDED, "capped", NOON)
    journal.lasting.take(attempt, NOON)
    journal.attempts.begin_step(attempt, "restore", "from 280 W to 400 W", NOON)

    meanwhile = told(journal)
    journal.lasting.end(attempt, "400 W again", NOON)

    assert "\n  under way, or cut off if the worker does not run\n" in meanwhile
    assert "\n  cut off: the worker died during this step\n" in told(journal)
