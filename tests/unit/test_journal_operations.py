"""Pauses, the breaker, approvals and commands in the journal, migrated from its first version."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.core.approvals import Answer, Approval
from remediator.core.case import Breaker
from remediator.journal.journal import Journal
from remediator.journal.operations import CommandRecord
from remediator.journal.story import tell
from tests.builders import HOUR, MINUTE, NOON, RULE, TARGET, a_plan, a_task, an_alert


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.for_worker(tmp_path)
    yield journal
    journal.close()


def an_incident(journal: Journal) -> int:
    number = journal.incidents.attach(
        an_alert(), subject="container:c", fault=RULE, delivery=1, at=NOON, receiver="remediator"
    )
    assert number is not None
    return number


def a_question(minutes: int = 60) -> Approval:
    return Approval(RULE, 0, TARGET.key, NOON, NOON + minutes * MINUTE)


def test_a_breaker_opens_once_and_is_closed_with_a_name_and_a_reason(journal: Journal) -> None:
    operations = journal.operations
    assert operations.breaker() == Breaker()

    assert operations.open_breaker("too much", NOON)
    assert not operations.open_breaker("much more", NOON + MINUTE)
    assert operations.breaker() == Breaker("too much", None)
    assert operations.close_breaker("carol", "all is well", NOON + HOUR)
    assert not operations.close_breaker("carol", "again", NOON + HOUR)

    assert operations.breaker() == Breaker(None, NOON + HOUR)
    assert operations.open_breaker("again", NOON + 2 * HOUR)
    assert operations.breaker() == Breaker("again", NOON + HOUR)


def test_pause_and_breaker_outlive_a_restart(journal: Journal, tmp_path: Path) -> None:
    journal.operations.pause("driver update", "bob", NOON)
    journal.operations.open_breaker("too much", NOON)
    journal.close()

    again = Journal.for_worker(tmp_path)

    assert again.operations.pause_reason() == "driver update (bob)"
    assert again.operations.breaker().open_because == "too much"
    again.close()


def test_a_resumption_without_a_pause_is_none(journal: Journal) -> None:
    assert not journal.operations.resume("bob", NOON)


def test_a_question_is_answered_once(journal: Journal) -> None:
    incident = an_incident(journal)
    number = journal.approvals.ask(incident, "stop-container", a_question())

    assert journal.approvals.answer(number, Answer.REJECTED, "eve", "no", NOON)
    assert not journal.approvals.answer(number, Answer.APPROVED, "mallory", "yes", NOON)

    (record,) = journal.approvals.of_incident(incident)
    assert (record.approval.answer, record.approval.actor) == (Answer.REJECTED, "eve")


@pytest.mark.parametrize(("after", "waits"), [(0, True), (59, True), (60, False)])
def test_a_question_waits_until_it_expires(journal: Journal, after: int, waits: bool) -> None:
    incident = an_incident(journal)
    journal.approvals.ask(incident, "stop-container", a_question())

    found = journal.approvals.waiting(incident, NOON + timedelta(minutes=after))

    assert (found is not None) is waits


def test_an_approval_that_was_used_is_only_there_for_its_own_attempt(journal: Journal) -> None:
    incident = an_incident(journal)
    number = journal.approvals.ask(incident, "stop-container", a_question())
    journal.approvals.answer(number, Answer.APPROVED, "eve", "", NOON)
    attempt = journal.attempts.plan(incident, a_plan(), a_task())
    assert attempt is not None
    assert len(journal.approvals.usable(incident)) == 1

    journal.approvals.use(incident, attempt, a_plan())

    assert journal.approvals.usable(incident) == ()
    assert len(journal.approvals.usable(incident, attempt)) == 1


def test_a_story_tells_questions_and_commands(journal: Journal) -> None:
    incident = an_incident(journal)
    journal.approvals.ask(incident, "stop-container", a_question())
    journal.operations.keep(
        "box",
        1,
        CommandRecord(
            "eve",
            "reject",
            {"reason": "a demo"},
            NOON,
            NOON,
            accepted=True,
            answer="so be it",
            incident=incident,
        ),
    )

    story = tell(journal, incident)

    assert story is not None
    texts = {event.what: event.text for event in story.events}
    assert texts["asked"].startswith("may stop-container be done?")
    assert texts["command"] == 'reject by eve ("a demo"), followed: so be it'


def test_the_list_begins_with_what_keeps_everything_from_being_done(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal.operations.pause("driver\x1b[31m update", "bob", NOON)
    journal.operations.open_breaker("10 destructive attempts within 1 h", NOON)

    assert main(["incidents", "list", "--state-dir", str(tmp_path)]) == 0

    assert capsys.readouterr().out.splitlines()[:2] == [
        "Paused since 2026-03-01 12:00:00 UTC by bob: driver[31m update",
        "The breaker is open since 2026-03-01 12:00:00 UTC: 10 destructive attempts within 1 h",
    ]
