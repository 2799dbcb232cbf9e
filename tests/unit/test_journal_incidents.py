from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.core.alerts import Alert, Status
from remediator.errors import JournalError
from remediator.journal.incidents import Incident
from remediator.journal.intake import IntakeMark
from remediator.journal.journal import Journal
from tests.builders import HOUR, MINUTE, NOON, an_alert


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal.for_worker(folder)
    yield opened
    opened.close()


def resolved(alert: Alert | None = None) -> Alert:
    firing = (alert or an_alert()).firing
    return an_alert(
        status=Status.RESOLVED, fingerprint=firing.fingerprint, starts_at=firing.starts_at
    )


class Mailbox:
    """Attaches alerts one delivery after the other, a minute apart."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.delivery = 0

    def take(
        self, alert: Alert, subject: str = "container:c", fault: str = "idle container"
    ) -> int | None:
        self.delivery += 1
        return self.journal.incidents.attach(
            alert,
            subject=subject,
            fault=fault,
            delivery=self.delivery,
            at=NOON + self.delivery * MINUTE,
            receiver="remediator",
        )

    def open(self, alert: Alert | None = None, subject: str = "container:c") -> int:
        incident = self.take(alert or an_alert(), subject)
        assert incident is not None
        return incident


@pytest.fixture
def mailbox(journal: Journal) -> Mailbox:
    return Mailbox(journal)


def test_the_first_delivery_of_a_firing_opens_an_incident(mailbox: Mailbox) -> None:
    number = mailbox.open(an_alert({"container": "train"}))

    incidents = mailbox.journal.incidents
    at = NOON + MINUTE
    assert incidents.incident(number) == Incident(
        number, "container:c", "idle container", "train", None, at, None, None, at
    )
    (record,) = incidents.firings(number)
    assert record.alert == an_alert({"container": "train"})
    assert (record.deliveries, record.first_delivery, record.last_delivery) == (1, 1, 1)
    assert record.receiver == "remediator"
    assert record.received_at == record.last_received_at == at
    assert record.resolved_at is None


def test_an_incident_without_a_container_is_called_after_its_subject(mailbox: Mailbox) -> None:
    incident = mailbox.journal.incidents.incident(mailbox.open())

    assert incident is not None
    assert incident.title == "container:c"


def test_a_duplicate_only_counts(mailbox: Mailbox) -> None:
    number = mailbox.open()

    assert mailbox.open() == number
    assert mailbox.open() == number

    (record,) = mailbox.journal.incidents.firings(number)
    assert (record.deliveries, record.first_delivery, record.last_delivery) == (3, 1, 3)
    assert record.received_at == NOON + MINUTE
    assert record.last_received_at == NOON + 3 * MINUTE
    assert len(mailbox.journal.incidents.latest(10)) == 1


def test_every_delivery_asks_for_a_look(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    number = mailbox.open()
    incidents.look_again(number, NOON + HOUR)

    mailbox.open()

    assert incidents.next_due() == NOON + 2 * MINUTE


def test_whoever_comes_first_under_a_name_that_is_not_its_own_takes_nothing_from_its_owner(
    mailbox: Mailbox,
) -> None:
    mailbox.take(an_alert({"container": "forged"}), "container:other", "nobody knows")
    genuine = an_alert({"container": "train"})
    number = mailbox.open(genuine)

    assert mailbox.open(genuine) == number
    [record] = mailbox.journal.incidents.firings(number)
    assert (record.alert.labels, record.deliveries) == (genuine.labels, 2)
    assert record.alert.firing.fingerprint.startswith(genuine.firing.fingerprint)
    assert [i.subject for i in mailbox.journal.incidents.latest(10)] == [
        "container:c",
        "container:other",
    ]


def test_an_end_under_the_name_of_another_alert_ends_nothing(mailbox: Mailbox) -> None:
    number = mailbox.open(an_alert({"container": "train"}))

    assert mailbox.take(an_alert({"container": "forged"}, status=Status.RESOLVED)) is None
    [record] = mailbox.journal.incidents.firings(number)
    assert record.alert.status is Status.FIRING


def test_a_resolution_belongs_to_its_firing(mailbox: Mailbox) -> None:
    number = mailbox.open()

    assert mailbox.take(resolved()) == number
    assert mailbox.take(resolved()) == number

    (record,) = mailbox.journal.incidents.firings(number)
    assert record.alert.status is Status.RESOLVED
    assert record.resolved_at == NOON + 2 * MINUTE
    assert record.deliveries == 3
    incident = mailbox.journal.incidents.incident(number)
    assert incident is not None
    assert incident.closed_at is None


def test_a_resolution_of_something_never_seen_firing_is_not_worth_an_incident(
    mailbox: Mailbox,
) -> None:
    assert mailbox.take(resolved()) is None
    assert mailbox.journal.incidents.latest(10) == []


def test_a_firing_after_its_own_resolution_fires_again(mailbox: Mailbox) -> None:
    """The other Alertmanager of a pair is late, or the alert went on: a look will tell."""
    number = mailbox.open()
    mailbox.take(resolved())

    assert mailbox.open() == number

    (record,) = mailbox.journal.incidents.firings(number)
    assert record.alert.status is Status.FIRING
    assert record.resolved_at is None


def test_a_resolution_that_overtook_its_firing_leaves_the_firing_to_be_looked_at(
    mailbox: Mailbox,
) -> None:
    assert mailbox.take(resolved()) is None

    number = mailbox.open()

    assert mailbox.journal.incidents.due(NOON + HOUR) == [number]


def test_two_alerts_on_one_subject_share_an_incident(mailbox: Mailbox) -> None:
    first = mailbox.open(an_alert(fingerprint="a"))
    second = mailbox.open(an_alert(fingerprint="b"))

    assert first == second
    records = mailbox.journal.incidents.firings(first)
    assert [record.alert.firing.fingerprint for record in records] == ["a", "b"]


def test_the_same_alert_fired_anew_joins_the_open_incident(mailbox: Mailbox) -> None:
    first = mailbox.open()

    assert mailbox.open(an_alert(starts_at="2026-03-01T11:30:00Z")) == first
    assert len(mailbox.journal.incidents.firings(first)) == 2


@pytest.mark.parametrize(
    ("subject", "fault"), [("container:d", "idle container"), ("container:c", "too hot")]
)
def test_another_subject_or_fault_is_another_incident(
    mailbox: Mailbox, subject: str, fault: str
) -> None:
    first = mailbox.open()

    second = mailbox.take(an_alert(fingerprint="b"), subject, fault)

    assert second != first
    assert len(mailbox.journal.incidents.latest(10)) == 2


def test_a_firing_that_goes_on_after_its_incident_was_closed_opens_another(
    mailbox: Mailbox,
) -> None:
    """Alertmanager resolves what it has not heard of for a while, and may then go on."""
    incidents = mailbox.journal.incidents
    first = mailbox.open()
    mailbox.take(resolved())
    incidents.close(first, NOON + HOUR, "resolved by itself")

    second = mailbox.open()

    assert second != first
    (record,) = incidents.firings(second)
    assert record.alert.status is Status.FIRING
    assert record.deliveries == 3
    assert [incident.id for incident in incidents.latest(10, only_open=True)] == [second]


def test_a_resolution_after_closing_changes_nothing_that_is_closed(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    number = mailbox.open()
    incidents.close(number, NOON + HOUR, "never confirmed")

    assert mailbox.take(resolved()) == number

    incident = incidents.incident(number)
    assert incident is not None
    assert incident.closed_at == NOON + HOUR
    assert incident.next_look_at is None
    assert incidents.due(NOON + 9 * HOUR) == []


def test_a_time_with_another_zone_is_told_in_utc(mailbox: Mailbox) -> None:
    alert = an_alert(starts_at="2026-03-01T13:00:00.5+02:00")

    (record,) = mailbox.journal.incidents.firings(mailbox.open(alert))

    assert record.alert.starts_at == datetime(2026, 3, 1, 11, 0, 0, 500000, UTC)
    assert record.alert.starts_at.tzinfo is UTC
    assert record.alert.firing == alert.firing


def test_incidents_are_looked_at_when_they_are_due_the_longest_first(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    first, second = mailbox.open(), mailbox.open(an_alert(fingerprint="b"), "container:d")
    third = mailbox.open(an_alert(fingerprint="c"), "container:e")
    incidents.look_again(first, NOON + 3 * HOUR)
    incidents.look_again(second, NOON + HOUR)
    incidents.look_again(third, NOON + 2 * HOUR)

    assert incidents.due(NOON + HOUR) == [second]
    assert incidents.due(NOON + 4 * HOUR) == [second, third, first]
    assert incidents.due(NOON + 4 * HOUR, most=2) == [second, third]
    assert incidents.due(NOON) == []
    assert incidents.next_due() == NOON + HOUR


def test_without_open_incidents_nothing_is_due(mailbox: Mailbox) -> None:
    assert mailbox.journal.incidents.next_due() is None
    number = mailbox.open()
    mailbox.journal.incidents.close(number, NOON, "x")
    mailbox.journal.incidents.look_again(number, NOON)
    mailbox.journal.incidents.take(number, NOON)

    assert mailbox.journal.incidents.next_due() is None


def test_a_look_that_ends_does_not_put_off_what_came_meanwhile(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    number = mailbox.open()
    lease = NOON + HOUR
    incidents.take(number, lease)
    mailbox.open()

    incidents.look_again(number, NOON + 2 * HOUR, lease)

    assert incidents.next_due() == NOON + 2 * MINUTE


def test_a_look_that_ends_undisturbed_says_when_the_next_one_is(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    number = mailbox.open()
    lease = NOON + HOUR
    incidents.take(number, lease)
    assert incidents.next_due() == lease

    incidents.look_again(number, NOON + 2 * HOUR, lease)

    assert incidents.next_due() == NOON + 2 * HOUR


def test_an_owner_once_known_is_not_forgotten(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    number = mailbox.open()
    incidents.name(number, "train", "alice")
    incidents.name(number, "train2", None)

    incident = incidents.incident(number)
    assert incident is not None
    assert (incident.title, incident.owner) == ("train2", "alice")


def test_an_outcome_that_was_settled_outlives_the_closing(mailbox: Mailbox) -> None:
    incidents = mailbox.journal.incidents
    settled, unsettled = mailbox.open(), mailbox.open(an_alert(fingerprint="b"), "container:d")
    incidents.settle(settled, "stop-container succeeded")
    incidents.close(settled, NOON, "resolved by itself")
    incidents.close(unsettled, NOON, "resolved by itself")

    outcomes = [incident.outcome for incident in incidents.latest(2)]
    assert outcomes == ["resolved by itself", "stop-container succeeded"]


def test_an_incident_that_is_not_there_is_none(journal: Journal) -> None:
    assert journal.incidents.incident(1) is None
    assert journal.incidents.firings(1) == []


def test_the_worker_never_takes_a_delivery_twice(journal: Journal) -> None:
    assert journal.intake.mark() == IntakeMark(0, 0, 0)

    assert journal.intake.advance(1, truncated=3)
    assert not journal.intake.advance(1, truncated=3)
    assert journal.intake.advance(5, refused=True)
    assert not journal.intake.advance(4)

    assert journal.intake.mark() == IntakeMark(5, 1, 3)


def test_what_follows_from_a_delivery_is_written_with_it_or_not_at_all(
    journal: Journal, mailbox: Mailbox
) -> None:
    def take_and_fail() -> None:
        with journal.transaction():
            journal.intake.advance(1)
            mailbox.open()
            raise JournalError("no room")

    with pytest.raises(JournalError):
        take_and_fail()

    assert journal.intake.mark().last_delivery == 0
    assert journal.incidents.latest(10) == []


def test_a_reader_sees_the_journal_and_cannot_write_it(journal: Journal, folder: Path) -> None:
    Mailbox(journal).open()
    reader = Journal.for_reading(folder)

    assert len(reader.incidents.latest(10)) == 1
    with pytest.raises(JournalError, match="readonly"):
        reader.intake.advance(1)
    reader.close()


def test_there_is_no_journal_before_the_worker_has_made_one(folder: Path) -> None:
    with pytest.raises(JournalError, match="does not exist yet"):
        Journal.for_reading(folder)
