import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.notices import Letter, NoticeKind
from remediator.errors import JournalError, NotifyError
from remediator.journal.notices import NoticeRecord
from remediator.notifiers.mail import compose
from tests.builders import HOUR, MINUTE, SECOND
from tests.eventually import eventually
from tests.unit.engine_site import EngineSite, unwritable


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    yield site
    site.close()


def put(site: EngineSite, *recipients: str, notifier: str = "mail") -> None:
    letters = [
        Letter(NoticeKind.ACTED, notifier, to, f"to {to}", "It was stopped.") for to in recipients
    ]
    site.journal.notices.put(None, letters, site.clock.now())


def notice(site: EngineSite, number: int = 1) -> NoticeRecord:
    rows = site.journal.notices._records("WHERE id = ?", (number,))
    return rows[0]


def test_a_letter_is_sent_once_and_settled(site: EngineSite) -> None:
    put(site, "alice")
    site.send()
    site.clock.advance(HOUR)
    site.send()

    assert [envelope.letter.recipient for envelope in site.mail.sent] == ["alice"]
    sent = notice(site)
    assert (sent.state, sent.tries, sent.result) == ("sent", 1, "mail took it")
    assert site.metric("notices_total", notifier="mail", result="sent") == 1


def test_a_letter_goes_only_through_its_own_notifier(site: EngineSite) -> None:
    put(site, "alice", notifier="wall")
    site.send()

    assert (len(site.wall.sent), len(site.mail.sent)) == (1, 0)


def test_waits_grow_from_five_seconds_to_a_quarter_of_an_hour(site: EngineSite) -> None:
    put(site, "alice")
    waits: list[timedelta] = []
    for _ in range(12):
        site.mail.failures.append(NotifyError("mail server is down"))
        outbox = site.outboxes[0]
        began = site.clock.now()
        while not outbox.send_due():
            site.clock.advance(SECOND)
        waits.append(site.clock.now() - began)

    assert waits[:8] == [n * SECOND for n in (0, 5, 10, 20, 40, 80, 160, 320)]
    assert waits[8:] == [640 * SECOND, 15 * MINUTE, 15 * MINUTE, 15 * MINUTE]
    assert notice(site).result == "mail server is down"
    assert site.metric("notices_total", notifier="mail", result="retried") == 12


def test_a_letter_that_can_never_be_sent_is_not_tried_again(site: EngineSite) -> None:
    put(site, "nobody", "alice")
    site.mail.failures.append(NotifyError("no such user", permanent=True))
    site.send()
    site.clock.advance(HOUR)
    site.send()

    assert (notice(site, 1).state, notice(site, 1).result) == ("failed", "no such user")
    assert [envelope.letter.recipient for envelope in site.mail.sent] == ["alice"]
    assert site.journal.notices.waiting() == 0


def test_a_bug_in_a_notifier_delays_its_letter_and_no_other(site: EngineSite) -> None:
    put(site, "odd", "alice")
    site.mail.failures.append(ValueError("a secret, or a header with a line end"))
    site.send()
    site.clock.advance(MINUTE)
    site.send()

    assert [envelope.letter.recipient for envelope in site.mail.sent] == ["alice", "odd"]


def test_a_crash_between_the_try_and_its_settling_means_a_recognisable_second_copy(
    site: EngineSite,
) -> None:
    put(site, "alice")
    blocked = "BEFORE UPDATE OF state ON notice BEGIN SELECT RAISE(ABORT, 'power failure'); END"
    connection = sqlite3.connect(site.folder / "journal.db", isolation_level=None)
    connection.execute(f"CREATE TRIGGER crash {blocked}")
    with pytest.raises(JournalError):
        site.send()
    connection.execute("DROP TRIGGER crash")
    connection.close()

    site.send()
    assert len(site.mail.sent) == 1, "it was put off before it was tried"
    site.clock.advance(5 * SECOND)
    site.send()

    ids = [compose(envelope, "remediator@gpu1")["Message-ID"] for envelope in site.mail.sent]
    assert ids == [f"<notice-1.{site.journal.name[:12]}.remediator@gpu1>"] * 2


def test_nothing_is_sent_that_cannot_be_put_off_first(site: EngineSite) -> None:
    put(site, "alice")
    with unwritable(site.folder, "notice"), pytest.raises(JournalError):
        site.send()

    assert site.mail.sent == []


def test_dead_mail_does_not_delay_the_wall(site: EngineSite) -> None:
    site.mail.goes_on.clear()
    put(site, "alice")
    put(site, "alice", notifier="wall")
    for outbox in site.outboxes:
        outbox.start()

    eventually(lambda: site.wall.sent, 5, "the terminal is written to")
    assert site.mail.sent == []

    site.mail.goes_on.set()
    eventually(lambda: site.mail.sent, 5, "the mail is sent")
    for outbox in site.outboxes:
        outbox.stop(5 * SECOND)


def test_a_bug_does_not_end_the_thread(site: EngineSite) -> None:
    site.mail.failures.append(ValueError("odd"))
    put(site, "odd", "alice")
    outbox = site.outboxes[0]
    outbox.start()

    eventually(lambda: site.mail.sent, 5, "the other letter is sent")
    put(site, "bob")
    outbox.wake()
    eventually(lambda: len(site.mail.sent) == 2, 5, "the next one is sent")
    outbox.stop(5 * SECOND)


def test_a_stop_leaves_the_rest_for_the_next_start(site: EngineSite) -> None:
    put(site, "alice", "bob")
    outbox = site.outboxes[0]
    site.mail.before_send = lambda: outbox.stop(SECOND)
    outbox.send_due()

    assert [notice(site, n).state for n in (1, 2)] == ["sent", "pending"]
