"""What is forgotten, what never is, and that no number is given twice."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.settings import read_settings
from remediator.core.alerts import Status
from remediator.core.notices import DigestRule
from remediator.errors import ConfigError, JournalError
from remediator.inbox.pruning import Pruning as InboxPruning
from remediator.inbox.store import Inbox
from tests.builders import DAY, HOUR, MINUTE, a_policy, a_rule, an_alert
from tests.fakes import HandClock
from tests.unit.engine_site import EngineSite, hurried

TABLES = ("incident", "firing", "decision", "warning", "attempt", "step", "notice", "approval")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EngineSite]:
    at_once = DigestRule(within=timedelta())
    site = EngineSite(tmp_path, a_policy(a_rule(hurried())), digest=at_once)
    yield site
    site.close()


def a_whole_story(site: EngineSite, name: str) -> None:
    """Let an alert fire, be remediated, told of and resolve."""
    labels = {"container_id": name * 64}
    site.deliver(an_alert(labels, fingerprint=name))
    site.round()
    site.send()
    site.deliver(an_alert(labels, fingerprint=name, status=Status.RESOLVED))
    site.round()


def count(site: EngineSite, table: str) -> int:
    return int(site.ask(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608


def test_an_old_incident_is_forgotten_with_all_that_hangs_on_it(site: EngineSite) -> None:
    a_whole_story(site, "a")
    site.clock.advance(10 * DAY)
    a_whole_story(site, "b")

    forgotten = site.journal.forget(site.clock.now() - DAY, 100)

    assert forgotten == 1
    assert [incident.id for incident in site.journal.incidents.latest(9)] == [2]
    assert {table: count(site, table) for table in ("incident", "firing", "attempt")} == {
        "incident": 1,
        "firing": 1,
        "attempt": 1,
    }
    # Foreign keys are on: nothing can be left over. And no number comes back.
    a_whole_story(site, "c")
    assert site.journal.incidents.latest(1)[0].id == 3


def test_nothing_of_a_forgotten_incident_is_left(site: EngineSite) -> None:
    a_whole_story(site, "a")

    site.journal.forget(site.clock.now() + MINUTE, 100)

    assert {count(site, table) for table in TABLES} == {0}


def test_what_is_open_or_waits_to_be_told_is_kept(site: EngineSite) -> None:
    site.deliver(an_alert({"container_id": "a" * 64}, fingerprint="a"))
    site.round()
    a_whole_story(site, "b")
    site.deliver(an_alert({"container_id": "c" * 64}, fingerprint="c"))
    site.round()
    site.deliver(an_alert({"container_id": "c" * 64}, fingerprint="c", status=Status.RESOLVED))
    site.round()

    site.journal.forget(site.clock.now() + 1000 * DAY, 100)

    assert [incident.id for incident in site.journal.incidents.latest(9)] == [3, 1]


def test_forgetting_goes_in_small_steps(site: EngineSite) -> None:
    for name in "abcde":
        a_whole_story(site, name)

    assert [site.journal.forget(site.clock.now() + MINUTE, 2) for _ in range(4)] == [2, 2, 1, 0]


def test_the_worker_forgets_by_itself_but_never_while_paused(site: EngineSite) -> None:
    a_whole_story(site, "a")
    site.journal.operations.pause("the clock was set ahead", "remediator", site.clock.now())
    site.clock.advance(500 * DAY)
    with site.working() as worker:
        del worker
    assert count(site, "incident") == 1
    site.journal.operations.resume("carol", site.clock.now())

    from tests.eventually import eventually  # noqa: PLC0415

    with site.working():
        eventually(lambda: count(site, "incident") == 0, 5, "it is forgotten")


def test_the_inbox_forgets_what_is_taken_and_old(tmp_path: Path) -> None:
    clock = HandClock()
    inbox = Inbox.for_receiver(tmp_path)
    for _ in range(3):
        inbox.store(b"x", "me", clock.now())
        inbox.give(b"{}", "me", clock.now())
        clock.advance(DAY)
    taken = (inbox.identity(), 2, 1)
    pruning = InboxPruning(inbox, lambda: taken, clock, timedelta(hours=1))

    assert pruning.step() == 3

    assert [stored.id for stored in inbox.after(0)] == [3]
    assert [stored.id for stored in inbox.commands_after(0)] == [2, 3]
    assert inbox.store(b"x", "me", clock.now()) == 4
    inbox.close()


def test_the_journal_of_another_inbox_says_nothing_about_this_one(tmp_path: Path) -> None:
    clock = HandClock()
    inbox = Inbox.for_receiver(tmp_path)
    inbox.store(b"x", "me", clock.now())
    clock.advance(DAY)

    assert InboxPruning(inbox, lambda: ("another", 9, 9), clock, HOUR).step() == 0
    inbox.close()


def test_without_a_journal_nothing_is_forgotten(tmp_path: Path) -> None:
    def no_journal() -> tuple[str, int, int]:
        raise JournalError("does not exist yet")

    inbox = Inbox.for_receiver(tmp_path)
    with pytest.raises(JournalError):
        InboxPruning(inbox, no_journal, HandClock(), HOUR).step()
    inbox.close()


def test_incidents_cannot_be_forgotten_while_attempts_count(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("keep_incidents: 30d\n")

    with pytest.raises(ConfigError, match="must be at least 60d"):
        read_settings(path, {})
