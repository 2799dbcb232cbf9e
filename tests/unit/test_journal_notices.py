from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.core.notices import Letter, NoticeKind
from remediator.journal.journal import Journal
from remediator.journal.notices import NoticeRecord
from tests.builders import HOUR, MINUTE, NOON, an_alert


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal.for_worker(folder)
    opened.incidents.attach(
        an_alert(), subject="container:c", fault="f", delivery=1, at=NOON, receiver="r"
    )
    yield opened
    opened.close()


def a_letter(recipient: str = "a@example.org", notifier: str = "mail") -> Letter:
    return Letter(NoticeKind.WARNING, notifier, recipient, "subject", "body\nof two lines")


def due(journal: Journal, minute: int = 0, notifier: str = "mail") -> list[str]:
    records = journal.notices.due(notifier, NOON + minute * MINUTE)
    return [record.letter.recipient for record in records]


def test_a_letter_waits_to_be_sent_at_once(journal: Journal) -> None:
    journal.notices.put(1, [a_letter()], NOON)

    assert journal.notices.due("mail", NOON) == [
        NoticeRecord(1, 1, a_letter(), NOON, "pending", 0, None, None)
    ]
    assert journal.notices.waiting() == 1


def test_the_oldest_letter_is_sent_first(journal: Journal) -> None:
    journal.notices.put(1, [a_letter("a"), a_letter("b")], NOON + MINUTE)
    journal.notices.put(None, [a_letter("c")], NOON)

    assert due(journal, 1) == ["a", "b", "c"]
    assert [r.letter.recipient for r in journal.notices.due("mail", NOON + HOUR, most=2)] == [
        "a",
        "b",
    ]
    assert due(journal, 0) == ["c"]


def test_each_notifier_gets_its_own_letters(journal: Journal) -> None:
    journal.notices.put(1, [a_letter(), a_letter("alice", "wall")], NOON)

    assert due(journal) == ["a@example.org"]
    assert due(journal, notifier="wall") == ["alice"]
    assert due(journal, notifier="chat") == []


def test_a_letter_that_was_put_off_rests_and_holds_no_other_up(journal: Journal) -> None:
    journal.notices.put(1, [a_letter("a"), a_letter("b")], NOON)

    journal.notices.try_again([1], NOON + 5 * MINUTE, "no answer")
    journal.notices.note([1], "connection refused")

    assert due(journal) == ["b"]
    assert due(journal, 5) == ["a", "b"]
    (record, _) = journal.notices.of_incident(1)
    assert (record.state, record.tries, record.result) == ("pending", 1, "connection refused")
    assert journal.notices.waiting() == 2


def test_a_settled_letter_is_never_sent_again(journal: Journal) -> None:
    journal.notices.put(1, [a_letter("a"), a_letter("b")], NOON)

    journal.notices.sent([1], NOON + MINUTE, "250 OK")
    journal.notices.failed(2, "no such user")

    sent, failed = journal.notices.of_incident(1)
    assert (sent.state, sent.sent_at, sent.result) == ("sent", NOON + MINUTE, "250 OK")
    assert (failed.state, failed.sent_at, failed.result) == ("failed", None, "no such user")
    assert due(journal, 999) == []
    assert journal.notices.waiting() == 0


def test_nobody_to_tell_is_nothing_to_send(journal: Journal) -> None:
    journal.notices.put(1, [], NOON)

    assert journal.notices.of_incident(1) == []


def test_letters_are_written_with_what_they_announce_or_not_at_all(journal: Journal) -> None:
    def announce_and_fail() -> None:
        with journal.transaction():
            journal.incidents.settle(1, "done")
            journal.notices.put(1, [a_letter()], NOON)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        announce_and_fail()

    incident = journal.incidents.incident(1)
    assert incident is not None
    assert incident.outcome is None
    assert journal.notices.waiting() == 0
