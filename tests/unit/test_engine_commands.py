"""Operators' commands: what each does, what is refused, and that each is followed exactly once."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.notices import NoticeKind
from remediator.core.policy import Limit, Mode
from remediator.journal.journal import ACTOR
from tests.builders import DAY, HOUR, MINUTE, NOON, SECOND, a_policy, a_rule, an_alert
from tests.unit.engine_site import EngineSite, hurried


def idle(container: str = "c" * 64, fingerprint: str = "f"):  # type: ignore[no-untyped-def]
    return an_alert({"container_id": container}, fingerprint=fingerprint)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EngineSite]:
    site = EngineSite(tmp_path)
    yield site
    site.close()


def test_a_pause_holds_everything_until_it_is_resumed(site: EngineSite) -> None:
    assert site.command("pause", reason="driver update").accepted
    site.deliver(idle())
    site.round()
    assert site.reasons() == ["paused"]
    assert site.states() == []

    assert site.command("resume").accepted
    site.round()

    assert site.states() == ["succeeded"]


@pytest.mark.parametrize(
    "argument", [{"\ud800": "x"}, {"duration": "\ud800", "container": "\ud800", "action": "extend"}]
)
def test_a_command_that_no_database_can_keep_is_answered_and_holds_up_no_other(
    site: EngineSite, argument: dict[str, str]
) -> None:
    assert not site.command(**{"action": "?", **argument}).accepted
    assert site.command("pause", reason="driver update").accepted


def test_a_pause_says_who_and_why(site: EngineSite) -> None:
    site.command("pause", actor="bob", reason="driver update")

    assert site.journal.operations.pause_reason() == "driver update (bob)"


def test_a_second_pause_takes_the_place_of_the_first(site: EngineSite) -> None:
    site.command("pause", actor="bob", reason="driver update")
    site.command("pause", actor="eve", reason="audit")

    assert site.journal.operations.pause_reason() == "audit (eve)"
    assert site.command("resume").accepted
    assert site.journal.operations.pause_reason() is None


def test_what_was_planned_before_a_pause_is_not_begun_after_it(site: EngineSite) -> None:
    site.deliver(idle())
    (planned,) = site.look()
    site.command("pause", reason="stop it")

    site.carrying.carry_out(planned)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def test_what_was_planned_before_the_breaker_opened_is_not_begun_after_it(site: EngineSite) -> None:
    site.deliver(idle())
    (planned,) = site.look()
    site.journal.operations.open_breaker("too much", site.clock.now())

    site.carrying.carry_out(planned)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def test_the_breaker_opens_once_tells_the_admins_and_stays_open(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried()), open_after=(Limit(2, HOUR),))
    for name in "abcd":
        site.deliver(idle(name * 64, fingerprint=name))
        site.round()
    assert site.states() == ["succeeded"] * 2
    assert [site.reasons(n)[-1] for n in (3, 4)] == ["breaker_open"] * 2
    assert site.told(NoticeKind.BREAKER_OPENED) == ["admins"]

    site.clock.advance(3 * HOUR)
    again = EngineSite(site.folder, site.policy, site.parts.remediations, site.clock)
    again.round()

    assert again.states() == ["succeeded"] * 2
    assert again.told(NoticeKind.BREAKER_OPENED) == ["admins"]
    again.close()


def test_closing_the_breaker_decides_anew_and_does_not_open_it_by_what_was_before(
    site: EngineSite,
) -> None:
    site.policy = a_policy(a_rule(hurried()), open_after=(Limit(2, HOUR),))
    for name in "abc":
        site.deliver(idle(name * 64, fingerprint=name))
        site.round()
    site.clock.advance(MINUTE)

    answer = site.command("close-breaker", reason="a class has ended, all is well")
    site.round()

    assert answer.accepted
    assert site.states() == ["succeeded"] * 3
    assert site.journal.operations.breaker_in_force() is None


def test_approval_lets_one_attempt_be_made(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    site.deliver(idle())
    site.round()
    assert site.states() == []
    assert site.told(NoticeKind.APPROVAL_WANTED) == ["admins"]

    answer = site.command("approve", incident=1)
    site.round()

    assert answer.accepted
    assert site.states() == ["succeeded"]
    (question,) = site.journal.approvals.of_incident(1)
    assert (question.approval.actor, question.attempt) == ("alice", 1)


def test_an_approval_serves_one_attempt_only(site: EngineSite) -> None:
    rung = hurried("stop-container", Limit(2, 6 * HOUR))
    site.policy = a_policy(a_rule(rung, mode=Mode.APPROVE))
    site.deliver(idle())
    site.round()
    site.command("approve", incident=1)
    site.round()
    site.clock.advance(20 * MINUTE)

    site.deliver(idle())
    site.round()

    assert site.states() == ["succeeded"]
    assert site.reasons()[-1] == "waiting_for_approval"
    assert site.told(NoticeKind.APPROVAL_WANTED) == ["admins"] * 2


def test_an_approved_attempt_that_had_to_wait_is_still_approved(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    site.deliver(idle())
    site.round()
    site.command("approve", incident=1)
    (planned,) = site.look()
    site.clock.advance(SECOND)

    site.carrying.carry_out(planned)

    assert site.states() == ["succeeded"]


def test_a_question_is_asked_again_when_nobody_has_answered(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    site.deliver(idle())
    site.round()
    for _ in range(3):
        site.clock.advance(MINUTE)
        site.deliver(idle())
        site.round()
    assert site.told(NoticeKind.APPROVAL_WANTED) == ["admins"]

    site.clock.advance(4 * HOUR)
    site.round()

    assert site.told(NoticeKind.APPROVAL_WANTED) == ["admins"] * 2
    assert site.states() == []


def test_a_rejection_holds_for_as_long_as_the_incident_lasts(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    site.deliver(idle())
    site.round()

    answer = site.command("reject", incident=1, reason="a demo runs on it")
    site.clock.advance(5 * HOUR)
    site.deliver(idle())
    site.round()

    assert answer.accepted
    assert site.states() == []
    assert site.told(NoticeKind.APPROVAL_WANTED) == ["admins"]
    last = site.journal.decisions.of_incident(1)[-1]
    assert last.because == "alice rejected stop-container: a demo runs on it"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"action": "explode"}, "there is no such command; there are pause, resume"),
        ({}, "there is no such command"),
        ({"action": "pause"}, "pause needs a reason"),
        ({"action": "pause", "reason": " \x1b\n"}, "pause needs a reason"),
        ({"action": "close-breaker"}, "close-breaker needs a reason"),
        ({"action": "close-breaker", "reason": "x"}, "the breaker is not open"),
        ({"action": "resume"}, "it is not paused"),
        ({"action": "approve"}, "approve needs the number of an incident"),
        ({"action": "approve", "incident": "-1"}, "approve needs the number of an incident"),
        ({"action": "approve", "incident": "9" * 40}, "approve needs the number of an incident"),
        ({"action": "approve", "incident": 9}, "there is no incident 9"),
        ({"action": "reject", "incident": 9}, "reject needs a reason"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_with_a_sentence(
    site: EngineSite, body: dict[str, object], answer: str
) -> None:
    action = str(body.pop("action", ""))

    told = site.command(action, **body)

    assert not told.accepted
    assert answer in told.answer


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{" * 5000, b'{"action": ["pause"]}'])
def test_a_command_that_is_none_is_refused_and_the_next_is_followed(
    site: EngineSite, body: bytes
) -> None:
    site.inbox.give(body, "mallory", site.clock.now())

    assert site.command("pause", reason="x").accepted


def test_what_waits_for_nothing_cannot_be_approved(site: EngineSite) -> None:
    site.deliver(idle())
    site.round()

    told = site.command("approve", incident=1)

    assert not told.accepted
    assert told.answer == "incident 1 does not wait for an approval"
    assert told.incident == 1


@pytest.mark.parametrize("question", [2, 0, "1x", "", -1])
def test_an_answer_to_another_question_is_refused(site: EngineSite, question: object) -> None:
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    site.deliver(idle())
    site.round()

    told = site.command("approve", incident=1, question=question)
    site.round()

    assert not told.accepted
    assert "question" in told.answer
    assert site.states() == []
    assert site.command("approve", incident=1, question=1).accepted


def test_hostile_names_and_reasons_are_cleaned(site: EngineSite) -> None:
    told = site.command("pause", actor="bob\x1b[31m\n", reason="a\x07b\u202e" + "x" * 5000)

    assert told.actor == "bob[31m"
    reason = site.journal.operations.pause_reason()
    assert reason is not None
    assert reason.startswith("abxxx")
    assert len(reason) < 1100


def test_a_command_is_followed_once_whoever_takes_it(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried()), open_after=(Limit(1, HOUR),))
    site.inbox.give(b'{"action": "pause", "reason": "x"}', "alice", site.clock.now())

    threads = [threading.Thread(target=site.commands.take_all, args=[site.inbox]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert site.ask("SELECT count(*) FROM command") == [(1,)]
    assert site.ask("SELECT count(*) FROM pause") == [(1,)]


def test_the_running_worker_answers_at_once(site: EngineSite, tmp_path: Path) -> None:
    from remediator.inbox.bell import ring  # noqa: PLC0415
    from tests.eventually import eventually  # noqa: PLC0415

    with site.working():
        number = site.inbox.give(b'{"action": "pause", "reason": "x"}', "al", site.clock.now())
        ring(tmp_path)
        name = site.inbox.identity()
        answer = eventually(
            lambda: site.journal.operations.answer_to(name, number), 5, "the answer"
        )

    assert answer.accepted


@pytest.mark.parametrize(
    ("actor", "given", "accepted"),
    [
        pytest.param(ACTOR, timedelta(), False, id="before the journal lost it"),
        pytest.param(ACTOR, SECOND, True, id="after"),
        pytest.param("carol", timedelta(), True, id="paused by a person"),
    ],
)
def test_what_was_told_to_a_journal_that_has_forgotten_it_is_not_followed_again(
    site: EngineSite, actor: str, given: timedelta, accepted: bool
) -> None:
    site.journal.operations.pause("rows are lost", actor, NOON)
    site.clock.advance(given)

    answer = site.command("resume")

    assert answer.accepted is accepted
    assert accepted or answer.answer == (
        "it was given before the journal lost what it knew: give it again"
    )
    assert (site.journal.operations.pause_reason() is None) is accepted


def test_a_clock_that_is_set_right_does_not_make_up_for_lost_rows(site: EngineSite) -> None:
    site.round()
    site.journal.operations.pause("rows are lost", ACTOR, NOON)
    for step in (DAY, -DAY):
        site.clock.step(step)
        site.round()

    assert site.journal.operations.pause_reason() == "rows are lost (the journal)"
