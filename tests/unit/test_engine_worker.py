import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.observation import Observation
from remediator.core.targets import Container
from remediator.errors import EffectUnknownError, InboxError
from remediator.inbox.store import Inbox
from remediator.remediations.interface import Steps
from tests.builders import HOUR, MINUTE, NOON, SECOND, a_policy, a_rule, an_alert
from tests.eventually import eventually
from tests.fakes import FakeRemediation, agreeing
from tests.unit.engine_site import EngineSite, body_of, hurried, unwritable


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    yield site
    site.close()


def about(letter: str) -> Alert:
    return an_alert({"container_id": letter * 64, "container": letter}, fingerprint=letter)


class Slow:
    """A remediation that takes its time with the container ``a``."""

    def __init__(self, name: str = "stop-container") -> None:
        self.name = name
        self.fake = FakeRemediation(name)
        self.goes_on = threading.Event()
        self.waiting = threading.Event()
        self.observe = self.fake.observe
        self.verify = self.fake.verify

    def execute(self, task: Task, steps: Steps) -> str:
        assert isinstance(task.target, Container)
        if task.target.id.startswith("a"):
            self.waiting.set()
            self.goes_on.wait(20)
        return self.fake.execute(task, steps)


SlowSite = tuple[EngineSite, Slow]


@pytest.fixture
def slow_site(folder: Path) -> Iterator[SlowSite]:
    slow = Slow()
    site = EngineSite(folder, remediations={slow.name: slow})
    yield site, slow
    slow.goes_on.set()
    site.close()


def settles(site: EngineSite, *states: str) -> None:
    eventually(lambda: site.states() == [*states], 10, f"attempts are {states}")


def running(site: EngineSite, remediation: str = "stop-container") -> float:
    return site.metric("attempts_running", remediation=remediation)


def test_a_stored_delivery_ends_as_a_settled_attempt_and_a_sent_notice(site: EngineSite) -> None:
    with site.working():
        site.store(body_of(about("c")))
        settles(site, "succeeded")
        eventually(lambda: site.mail.sent, 5, "the notice is sent")


def test_a_worker_that_starts_before_the_receiver_waits_for_its_inbox(site: EngineSite) -> None:
    missing = threading.Event()
    missing.set()
    asked: list[bool] = []

    def open_inbox() -> Inbox:
        asked.append(missing.is_set())
        if missing.is_set():
            raise InboxError("inbox.db does not exist yet")
        return Inbox.for_worker(site.folder)

    site.store(body_of(about("c")))
    with site.working(open_inbox):
        eventually(lambda: asked, 5, "the inbox is asked for")
        assert site.states() == []
        missing.clear()
        settles(site, "succeeded")


def test_a_broken_inbox_keeps_nothing_else_from_being_finished(site: EngineSite) -> None:
    site.deliver(about("c"))

    def broken() -> Inbox:
        raise InboxError("database disk image is malformed")

    with site.working(broken):
        settles(site, "succeeded")


def test_a_bug_in_one_look_stops_no_other_incident(site: EngineSite) -> None:
    def look(alert: Alert, now: datetime) -> Observation:
        if alert.labels["container"] == "a":
            raise ZeroDivisionError
        return agreeing()(alert, now)

    site.stop_container.looks[0] = look
    site.store(body_of(about("a"), about("b")))
    with site.working():
        settles(site, "succeeded")
        eventually(lambda: site.metric("errors_total") == 1, 5, "the bug is counted")

        site.stop_container.looks[0] = agreeing()
        site.clock.advance(2 * MINUTE)
        settles(site, "succeeded", "succeeded")


def test_a_container_that_takes_its_time_keeps_no_other_waiting(slow_site: SlowSite) -> None:
    site, slow = slow_site
    site.store(body_of(about("a")))
    with site.working():
        eventually(slow.waiting.is_set, 5, "one is being stopped")
        site.store(body_of(about("b")))
        settles(site, "running", "succeeded")
        slow.goes_on.set()
        settles(site, "succeeded", "succeeded")


def test_an_effect_that_is_not_proven_yet_keeps_no_hand(site: EngineSite) -> None:
    """With one hand only: the first is executed and looked for, and others take their turn."""
    site.policy = a_policy()
    verdicts = site.stop_container.verdicts
    verdicts[0] = Verification(Proof.UNKNOWN, "Docker is silent")
    with site.working(workers=1):
        site.store(body_of(about("a")))
        eventually(lambda: site.stop_container.verified > 2, 10, "it is looked for again")
        site.store(body_of(about("b")))
        eventually(lambda: len(site.stop_container.executed) == 2, 10, "the next has its turn")
        assert site.states() == ["running", "running"]
        # Each look counts it twice for a moment.
        eventually(lambda: running(site) == 2, 5, "both are in hand")
        verdicts[0] = Verification(Proof.PROVEN, "it is so")
        settles(site, "succeeded", "succeeded")
        eventually(lambda: running(site) == 0, 5, "nobody has it in hand")


def test_unknown_effects_are_looked_for_without_a_hand(slow_site: SlowSite) -> None:
    site, slow = slow_site
    slow.fake.outcomes[0] = EffectUnknownError("no answer")
    slow.fake.verdicts.appendleft(Verification(Proof.UNKNOWN, "Docker is silent"))
    with site.working(workers=1):
        site.store(body_of(about("b")))
        settles(site, "unknown")
        site.store(body_of(about("a")))
        eventually(slow.waiting.is_set, 5, "the only hand is busy")
        site.clock.advance(30 * SECOND)
        settles(site, "succeeded", "running")


def test_kinds_that_are_short_never_wait_for_one_that_is_not(folder: Path) -> None:
    """Every hand of stop-container waits for a grace to end; people are told all the same."""
    slow, notify = Slow(), FakeRemediation("notify-only")
    told = a_rule(hurried("notify-only"), name="told", alertname="Told")
    policy = a_policy(a_rule(hurried()), told)
    site = EngineSite(folder, policy, {slow.name: slow, notify.name: notify})
    with site.working(workers=1):
        site.store(body_of(about("a")))
        eventually(slow.waiting.is_set, 5, "the only hand is busy")
        site.store(body_of(an_alert(name="Told", fingerprint="t")))
        settles(site, "running", "succeeded")
        slow.goes_on.set()
        settles(site, "succeeded", "succeeded")
    site.close()


def test_no_more_than_so_many_of_one_kind_run_at_once(folder: Path) -> None:
    slow = Slow()
    site = EngineSite(folder, remediations={slow.name: slow})
    with site.working(workers=1):
        site.store(body_of(about("a")))
        eventually(slow.waiting.is_set, 5, "the only hand is busy")
        site.store(body_of(about("b")))
        eventually(lambda: site.states() == ["running", "planned"], 5, "the other waits")
        slow.goes_on.set()
        settles(site, "succeeded", "succeeded")
    site.close()


def test_a_worker_that_stops_leaves_what_is_not_proven_to_the_next(site: EngineSite) -> None:
    site.policy = a_policy()
    site.stop_container.verdicts[0] = Verification(Proof.UNKNOWN, "Docker is silent")
    site.store(body_of(about("c")))
    with site.working() as worker:
        eventually(lambda: site.stop_container.verified > 1, 5, "it is looked for")

    assert worker.finished is True
    assert site.states() == ["unknown"]
    assert running(site) == 0


def test_what_a_crash_left_is_taken_up_at_the_start(site: EngineSite) -> None:
    site.deliver(about("c"))
    [attempt] = site.look()
    site.journal.attempts.claim(attempt, NOON)
    site.journal.attempts.begin_step(attempt, "do", "do it", NOON)
    again = EngineSite(site.folder, clock=site.clock)
    with again.working():
        settles(again, "succeeded")
    again.close()

    assert again.stop_container.executed == [{"do"}]


def test_an_unknown_effect_rests_before_it_is_verified_again(site: EngineSite) -> None:
    site.stop_container.verdicts.appendleft(Verification(Proof.UNKNOWN, "Docker is silent"))
    site.store(body_of(about("c")))
    with site.working(workers=1):
        settles(site, "unknown")
        # The only hand goes on to the next one when it has let go of this one.
        site.store(body_of(about("d")))
        settles(site, "unknown", "succeeded")
        site.clock.advance(29 * SECOND)
        site.store(body_of(about("e")))
        settles(site, "unknown", "succeeded", "succeeded")
        assert site.states() == ["unknown", "succeeded", "succeeded"]
        site.clock.advance(SECOND)
        settles(site, "succeeded", "succeeded", "succeeded")


def test_a_journal_that_fails_is_tried_again_and_not_in_a_circle(site: EngineSite) -> None:
    with unwritable(site.folder, "notice", "INSERT"), site.working():
        site.store(body_of(about("c")))
        eventually(lambda: site.metric("errors_total") > 0, 5, "the journal failed")
        # Its rest ends only when the clock goes on, which here it does not.
        before = len(site.stop_container.executed)
        site.deliver(about("e"))
        eventually(lambda: site.metric("errors_total") > 1, 5, "the other one failed too")
        assert before == 1
        assert len(site.stop_container.executed) == 2
    with site.working():
        site.clock.advance(MINUTE)
        settles(site, "succeeded", "succeeded")


def test_a_journal_that_fails_before_the_claim_leaves_the_machine_alone(site: EngineSite) -> None:
    with unwritable(site.folder, "attempt"), site.working():
        site.store(body_of(about("c")))
        eventually(lambda: site.metric("errors_total") > 0, 5, "the journal failed")
        assert site.stop_container.executed == []
    site.clock.advance(MINUTE)

    def is_made_again() -> bool:
        *given_up, last = site.states()
        if last == "refused":
            # The next one may be begun already, and is refused if the clock goes on meanwhile.
            site.clock.advance(MINUTE)
        assert set(given_up) <= {"refused"}
        return bool(given_up) and last == "succeeded"

    with site.working():
        eventually(is_made_again, 10, "it is given up, and made again")


def test_an_unwritable_journal_takes_no_delivery_and_loses_none(site: EngineSite) -> None:
    with unwritable(site.folder, "intake"), site.working():
        site.store(body_of(about("c")))
        eventually(lambda: site.metric("errors_total") > 0, 5, "the journal failed")
        assert site.journal.incidents.latest(1) == []
    with site.working():
        settles(site, "succeeded")


def test_the_age_of_a_delivery_that_cannot_be_taken_is_known(site: EngineSite) -> None:
    site.store(body_of(about("c")))
    site.clock.advance(2 * MINUTE)
    with unwritable(site.folder, "intake"), site.working():
        eventually(lambda: site.metric("errors_total") > 0, 5, "the journal failed")
        assert site.metric("oldest_delivery_seconds") == 120
        assert site.metric("backlog_deliveries") == 1
    with site.working():
        eventually(lambda: site.metric("oldest_delivery_seconds") == 0, 5, "it was taken")


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_in_hand(slow_site: SlowSite) -> None:
    site, slow = slow_site
    site.store(body_of(about("a")))
    with site.working(grace=10 * SECOND) as worker:
        eventually(slow.waiting.is_set, 5, "one is being stopped")
        worker.ask_to_stop()
        # A round that had begun may take what is stored meanwhile.
        eventually(lambda: not lookers(), 5, "the last round is over")
        site.store(body_of(about("b")))
        slow.goes_on.set()

    assert worker.finished is True
    assert site.states() == ["succeeded"]
    assert len(site.journal.incidents.latest(10)) == 1


def lookers() -> list[str]:
    """The worker's threads that look; they end with its last round."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("look")]


def test_a_worker_that_cannot_finish_says_so_and_the_journal_knows(slow_site: SlowSite) -> None:
    site, slow = slow_site
    site.store(body_of(about("a")))
    with site.working(grace=SECOND / 5) as worker:
        eventually(slow.waiting.is_set, 5, "one is being stopped")

    assert worker.finished is False
    assert site.states() == ["running"]
    slow.goes_on.set()
    settles(site, "succeeded")


def test_an_incident_is_looked_at_by_one_thread_at_a_time(site: EngineSite) -> None:
    looks: list[str] = []
    goes_on = threading.Event()

    def look(alert: Alert, now: datetime) -> Observation:
        looks.append(alert.name)
        goes_on.wait(20)
        return replace(agreeing()(alert, now), exempt="for the test")

    site.stop_container.looks[0] = look
    site.store(body_of(about("c")))
    with site.working():
        eventually(lambda: looks, 5, "it is looked at")
        site.clock.advance(HOUR)
        site.store(body_of(about("c")))
        eventually(lambda: site.metric("deliveries_taken_total") == 2, 5, "it is delivered again")
        site.store(body_of(about("d")))
        eventually(lambda: len(looks) == 2, 5, "another one is looked at meanwhile")
        goes_on.set()
        # What came during the look is looked at after it.
        eventually(lambda: len(looks) == 3, 5, "it is looked at again")


def test_a_clock_that_is_set_back_stops_nothing(site: EngineSite) -> None:
    with site.working():
        site.store(body_of(about("c")))
        settles(site, "succeeded")
        site.clock.advance(-10 * HOUR)
        site.store(body_of(about("d")))
        settles(site, "succeeded", "succeeded")


def test_what_is_being_carried_out_is_counted_by_remediation(slow_site: SlowSite) -> None:
    site, slow = slow_site
    site.store(body_of(about("a")))
    with site.working():
        eventually(slow.waiting.is_set, 5, "one is being stopped")
        assert running(site) == 1
        assert running(site, "notify-only") == 0
        slow.goes_on.set()
        eventually(lambda: running(site) == 0, 5, "it has been carried out")
