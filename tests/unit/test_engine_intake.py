from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.errors import JournalError
from remediator.inbox.store import Inbox
from tests.builders import NOON, SECOND, an_alert
from tests.unit.engine_site import EngineSite, body_of, unwritable


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    yield site
    site.close()


@pytest.mark.parametrize(
    "poison",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": "4"}',
        b'{"version": "5", "groupKey": "", "alerts": []}',
        body_of(an_alert(fingerprint="")),
        body_of(an_alert({"a": "\ud800"})),
        body_of(an_alert(starts_at="2026-03-01T11:00:00Z")).replace(b"11:00:00Z", b"noon"),
    ],
    ids=range(8),
)
def test_a_poisoned_delivery_is_refused_counted_and_does_not_stop_the_next(
    site: EngineSite, poison: bytes
) -> None:
    site.store(poison)
    site.store(body_of(an_alert()))

    assert site.intake.take_all(site.inbox) == 2

    assert site.journal.intake.mark().refused == 1
    assert site.metric("deliveries_unreadable_total") == 1
    assert site.metric("deliveries_taken_total") == 1
    assert len(site.journal.incidents.latest(10)) == 1


@pytest.mark.parametrize("text", ["a\0b", "\x1b[31m", "é" * 100_000, "'; DROP TABLE firing; --"])
def test_odd_labels_are_kept_as_they_are(site: EngineSite, text: str) -> None:
    site.deliver(an_alert({"odd": text}))

    [record] = site.journal.incidents.firings(1)
    assert record.alert.labels["odd"] == text


def test_a_delivery_is_taken_once(site: EngineSite) -> None:
    site.deliver(an_alert())

    assert site.intake.take_all(site.inbox) == 0
    assert site.journal.incidents.firings(1)[0].deliveries == 1


def test_a_delivery_that_another_look_into_the_inbox_has_taken_is_left_out(
    site: EngineSite,
) -> None:
    site.store(body_of(an_alert()))
    [stored] = site.inbox.after(0)
    site.intake.take_all(site.inbox)

    site.intake._take(stored)

    assert site.journal.incidents.firings(1)[0].deliveries == 1


def test_many_deliveries_are_all_taken(site: EngineSite) -> None:
    for number in range(150):
        site.store(body_of(an_alert({"name": f"{number}"}, fingerprint=f"{number}")))

    assert site.intake.take_all(site.inbox) == 150
    assert len(site.journal.incidents.latest(1000)) == 150
    assert site.metric("backlog_deliveries") == 0


def test_alerts_that_alertmanager_left_out_are_counted(site: EngineSite) -> None:
    site.deliver(an_alert(), truncatedAlerts=4)

    assert site.metric("alerts_truncated_total") == 4
    assert site.journal.intake.mark().truncated == 4


def test_a_delivery_that_cannot_be_written_down_is_taken_later_as_a_whole(
    site: EngineSite,
) -> None:
    site.store(body_of(an_alert(fingerprint="a"), an_alert({"name": "b"}, fingerprint="b")))
    with unwritable(site.folder, "firing", "INSERT"), pytest.raises(JournalError):
        site.intake.take_all(site.inbox)
    assert site.journal.intake.mark().last_delivery == 0
    assert site.journal.incidents.latest(10) == []

    site.intake.take_all(site.inbox)

    assert len(site.journal.incidents.latest(10)) == 2


def test_what_waits_in_the_inbox_is_measured(site: EngineSite) -> None:
    site.deliver(an_alert())
    site.store(body_of(an_alert()))
    site.store(body_of(an_alert()))
    site.clock.advance(7 * SECOND)
    with unwritable(site.folder, "intake"), pytest.raises(JournalError):
        site.intake.take_all(site.inbox)

    site.intake._measure(site.inbox)

    assert site.metric("backlog_deliveries") == 2
    assert site.metric("oldest_delivery_seconds") == 7


def test_an_inbox_made_anew_is_read_from_its_beginning(site: EngineSite) -> None:
    for _ in range(3):
        site.deliver(an_alert())
    other = Inbox.for_receiver(site.folder / "other")
    other.store(body_of(an_alert({"name": "new"}, fingerprint="new")), "here", NOON)

    assert site.intake.take_all(other) == 1

    assert site.journal.intake.mark().last_delivery == 1
    assert len(site.journal.incidents.latest(10)) == 2
    other.close()
