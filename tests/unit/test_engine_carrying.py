import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from remediator.core.alerts import Alert, Status
from remediator.core.approvals import Approval
from remediator.core.attempts import Proof, Verification
from remediator.core.notices import NoticeKind
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Limit, Mode
from remediator.core.tallies import Tally
from remediator.core.targets import Container
from remediator.engine.carrying import Carrying
from remediator.errors import (
    EffectUnknownError,
    JournalError,
    RefusedError,
    TargetGoneError,
)
from tests.builders import DAY, HOUR, MINUTE, NOON, SECOND, a_policy, a_rule, an_alert
from tests.fakes import agreeing
from tests.unit.engine_site import EngineSite, hurried, unwritable

C = "c" * 64
DISPROVEN = Verification(Proof.DISPROVEN, "it still runs")
UNPROVEN = Verification(Proof.UNKNOWN, "Docker is silent")


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    site.deliver(an_alert({"container_id": C, "container": "x"}))
    yield site
    site.close()


def plan(site: EngineSite) -> int:
    [attempt] = site.look()
    return attempt


def message(site: EngineSite, attempt: int = 1) -> str:
    record = site.journal.attempts.attempt(attempt)
    assert record is not None
    return record.message or ""


def test_what_was_done_and_proven_is_told_with_the_evidence(site: EngineSite) -> None:
    site.carrying.carry_out(plan(site))

    [notice] = site.journal.notices.of_incident(1)
    incident = site.journal.incidents.incident(1)
    assert site.states() == ["succeeded"]
    assert message(site) == "it is done; it is so"
    assert notice.letter.kind is NoticeKind.ACTED
    assert "prometheus: so it is" in notice.letter.body
    assert incident is not None
    assert (incident.outcome, incident.owner, incident.title) == (
        "stop-container succeeded",
        "alice",
        "x",
    )
    outcome = {"remediation": "stop-container", "outcome": "succeeded"}
    assert site.metric("attempts_total", **outcome) == 1


def delays(site: EngineSite) -> dict[str, tuple[float, float]]:
    """How often it was measured from the alert's start until then, and how long in all."""
    name = "alert_to_action_seconds"
    return {
        until: (site.metric(f"{name}_count", until=until), site.metric(f"{name}_sum", until=until))
        for until in ("begun", "proven")
    }


def test_the_time_since_the_alert_is_measured_to_the_beginning_and_to_the_proof(
    site: EngineSite,
) -> None:
    """The alert is an hour old; it takes half an hour until the effect is proven."""
    site.stop_container.verdicts = deque([UNPROVEN, Verification(Proof.PROVEN, "it is so")])
    site.carrying.carry_out(plan(site))
    site.clock.advance(30 * MINUTE)

    site.carrying.take_up(1)

    assert delays(site) == {"begun": (1, 3600), "proven": (1, 5400)}
    assert site.journal.tallies.all()[Tally.ALERT_TO_ACTION_SECONDS, "proven"] == 5400


@pytest.mark.parametrize(
    ("refuses", "begun"),
    [
        pytest.param("it is gone", (0, 0), id="refused before it began"),
        pytest.param("", (1, 3600), id="failed"),
    ],
)
def test_what_has_not_succeeded_has_no_proven_end(
    site: EngineSite, refuses: str, begun: tuple[float, float]
) -> None:
    site.stop_container.refuses = refuses
    site.stop_container.verdicts = deque([DISPROVEN])

    site.carrying.carry_out(plan(site))

    assert delays(site) == {"begun": begun, "proven": (0, 0)}


def test_to_tell_people_is_no_action(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried("notify-only")))

    site.carrying.carry_out(plan(site))

    assert site.states() == ["succeeded"]
    assert delays(site)["begun"] == (0, 0)


def test_each_step_is_in_the_journal_with_what_came_of_it(site: EngineSite) -> None:
    site.carrying.carry_out(plan(site))

    [step] = site.journal.attempts.steps(1)
    assert (step.name, step.detail, step.result) == ("do", "do it", "it is done")


def test_an_attempt_is_carried_out_once_whoever_asks(site: EngineSite) -> None:
    attempt = plan(site)

    threads = [threading.Thread(target=site.carrying.carry_out, args=[attempt]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(site.stop_container.executed) == 1


def test_what_does_not_exist_is_not_carried_out(site: EngineSite) -> None:
    site.carrying.carry_out(99)
    site.carrying.take_up(99)

    assert site.stop_container.executed == []


@pytest.mark.parametrize(
    ("error", "verdict", "state", "kind"),
    [
        pytest.param(
            TargetGoneError("it is gone"),
            Verification(Proof.PROVEN, "it is so"),
            "succeeded",
            NoticeKind.ACTED,
            id="gone in the middle, as it should be",
        ),
        pytest.param(
            RefusedError("Docker refused"), DISPROVEN, "failed", NoticeKind.FAILED, id="refused"
        ),
        pytest.param(
            EffectUnknownError("no answer"),
            Verification(Proof.PROVEN, "it is so"),
            "succeeded",
            NoticeKind.ACTED,
            id="an answer was lost and it was done",
        ),
        pytest.param(
            EffectUnknownError("no answer"),
            DISPROVEN,
            "failed",
            NoticeKind.FAILED,
            id="an answer was lost and it was not done",
        ),
        pytest.param(
            ZeroDivisionError(),
            Verification(Proof.PROVEN, "it is so"),
            "succeeded",
            NoticeKind.ACTED,
            id="a bug after it was done",
        ),
        pytest.param(
            ZeroDivisionError(), DISPROVEN, "failed", NoticeKind.FAILED, id="a bug before"
        ),
    ],
)
def test_what_went_wrong_after_the_first_step_is_verified(
    site: EngineSite, error: Exception, verdict: Verification, state: str, kind: NoticeKind
) -> None:
    site.stop_container.outcomes[0] = error
    site.stop_container.verdicts[0] = verdict
    site.carrying.carry_out(plan(site))

    assert site.states() == [state]
    assert [n.letter.kind for n in site.journal.notices.of_incident(1)] == [kind]
    assert site.stop_container.verified == 1


def test_an_unforeseen_error_is_counted_and_named(site: EngineSite) -> None:
    site.stop_container.outcomes[0] = ZeroDivisionError("with details of no use to anybody")
    site.stop_container.verdicts[0] = DISPROVEN
    site.carrying.carry_out(plan(site))

    assert site.metric("errors_total") == 1
    assert message(site) == "an error nobody foresaw: ZeroDivisionError; it still runs"


def test_a_refusal_before_any_step_changes_nothing_and_tells_nobody(site: EngineSite) -> None:
    site.stop_container.refuses = "it was started anew"
    site.carrying.carry_out(plan(site))

    assert (site.states(), site.told()) == (["refused"], [])
    assert site.stop_container.verified == 0


def test_a_refusal_is_decided_anew_but_not_at_once(site: EngineSite) -> None:
    # Refusals spend no allowance, so nothing else would end such a circle.
    site.stop_container.refuses = "it was started anew"
    site.round()
    assert site.states() == ["refused"]

    site.clock.advance(15 * SECOND)
    site.stop_container.refuses = ""
    site.round()

    assert site.states() == ["refused", "succeeded"]


def test_a_failure_is_tried_again_after_its_cooldown(site: EngineSite) -> None:
    site.stop_container.verdicts.appendleft(DISPROVEN)
    site.round()
    assert site.states() == ["failed"]
    assert site.reasons()[-1] == "cooldown"
    assert site.told(NoticeKind.FAILED) == ["admins"]

    site.clock.advance(10 * MINUTE)
    site.round()

    assert site.states() == ["failed", "succeeded"]


def test_an_effect_that_is_unknown_is_verified_later_and_not_repeated(site: EngineSite) -> None:
    site.stop_container.outcomes[0] = EffectUnknownError("no answer from Docker")
    site.stop_container.verdicts.appendleft(UNPROVEN)
    site.carrying.carry_out(plan(site))
    assert (site.states(), site.told()) == (["unknown"], [])

    site.carrying.take_up(1)

    assert site.states() == ["succeeded"]
    assert len(site.stop_container.executed) == 1
    assert site.told() == ["admins"]


def test_nothing_else_is_tried_while_an_effect_is_unknown(site: EngineSite) -> None:
    site.stop_container.verdicts[0] = UNPROVEN
    site.carrying.carry_out(plan(site))
    site.clock.advance(HOUR)
    site.look()

    assert site.reasons()[-1] == "in_progress"
    assert len(site.states()) == 1


@pytest.mark.parametrize(
    ("age", "state"),
    [(30 * MINUTE, "unknown"), (30 * MINUTE + SECOND, "failed")],
    ids=["half an hour", "longer"],
)
def test_what_stays_unknown_for_half_an_hour_is_a_failure_that_is_told(
    site: EngineSite, age: timedelta, state: str
) -> None:
    site.stop_container.verdicts[0] = UNPROVEN
    site.carrying.carry_out(plan(site))
    site.clock.advance(age)
    site.carrying.take_up(1)

    assert site.states() == [state]
    assert site.told(NoticeKind.FAILED) == (["admins"] if state == "failed" else [])


def test_a_worker_that_stops_gives_nothing_up(site: EngineSite) -> None:
    site.policy = a_policy()  # which gives a verification two minutes
    site.stop_container.verdicts[0] = UNPROVEN
    attempt = plan(site)
    site.stopping.set()
    site.carry_out(attempt)
    site.clock.advance(DAY)
    site.settle(site.carrying.take_up(attempt))

    assert site.states() == ["unknown"]


def test_a_verification_with_a_bug_does_not_lead_to_doing_it_again(site: EngineSite) -> None:
    site.stop_container.verdicts.appendleft(ZeroDivisionError())
    site.carrying.carry_out(plan(site))

    assert site.states() == ["unknown"]
    assert site.metric("errors_total") == 1
    site.carrying.take_up(1)
    assert site.states() == ["succeeded"]
    assert len(site.stop_container.executed) == 1


def test_verification_goes_on_until_it_is_proven(site: EngineSite) -> None:
    site.policy = a_policy()
    site.stop_container.verdicts.extendleft([UNPROVEN, DISPROVEN])
    site.carry_out(plan(site))

    assert site.states() == ["succeeded"]
    assert site.stop_container.verified == 3


def test_what_had_to_wait_is_looked_at_once_more_and_carried_out(site: EngineSite) -> None:
    attempt = plan(site)
    site.clock.advance(11 * SECOND)
    site.carrying.carry_out(attempt)

    assert site.states() == ["succeeded"]


@pytest.mark.parametrize("waited", [11 * SECOND, -HOUR], ids=["later", "the clock was set back"])
def test_what_is_not_so_any_more_when_its_turn_comes_is_not_done(
    site: EngineSite, waited: timedelta
) -> None:
    attempt = plan(site)
    site.clock.advance(waited)
    site.policy = replace(site.policy, mode=Mode.OBSERVE)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def busy(alert: Alert, now: datetime) -> Observation:
    seen = agreeing()(alert, now)
    return replace(seen, reports=(Report(Source.NVML, Verdict.DISAGREES, "it works"),))


def test_a_container_that_works_again_when_its_turn_comes_is_not_stopped(
    site: EngineSite,
) -> None:
    attempt = plan(site)
    site.stop_container.looks[0] = busy
    site.clock.advance(SECOND)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert message(site) == "not carried out: nvml: it works"
    assert site.stop_container.executed == []


def locked_for(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch, time: timedelta, times: int = 1
) -> None:
    """Have the next transactions wait for somebody else's."""
    # The first time it is asked it needs one of its own, and then once a minute.
    site.parts.clock_watch.check()
    begin = site.journal.transaction
    left = iter(range(times))

    def late() -> AbstractContextManager[None]:
        if next(left, None) is not None:
            site.clock.advance(time)
        return begin()

    monkeypatch.setattr(site.journal, "transaction", late)


def test_what_was_seen_before_the_journal_was_locked_for_long_is_asked_for_again(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked_for(site, monkeypatch, 9 * SECOND)
    attempt = plan(site)
    site.stop_container.looks[0] = busy
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert message(site) == "not carried out: nvml: it works"
    assert site.stop_container.executed == []


@pytest.mark.parametrize("waits", [9 * SECOND, -HOUR], ids=["locked", "the clock was set back"])
def test_what_was_seen_before_a_long_wait_for_the_claim_is_asked_for_again(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch, waits: timedelta
) -> None:
    attempt = plan(site)
    site.stop_container.looks[0] = busy
    locked_for(site, monkeypatch, waits)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert message(site) == "not carried out: nvml: it works"
    assert site.stop_container.executed == []


def test_what_is_still_so_after_a_long_wait_for_the_claim_is_done(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = plan(site)
    locked_for(site, monkeypatch, 9 * SECOND, times=2)
    site.carrying.carry_out(attempt)

    assert site.states() == ["succeeded"]
    assert site.stop_container.observed == 3


def test_what_is_old_again_and_again_is_left_for_later(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = plan(site)
    locked_for(site, monkeypatch, 9 * SECOND, times=3)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert "the journal is so busy" in message(site)
    assert site.stop_container.executed == []

    site.clock.advance(15 * SECOND)
    site.round()
    assert site.states() == ["refused", "succeeded"]


def test_what_is_read_for_long_after_a_second_look_makes_that_old_as_well(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = plan(site)
    site.clock.advance(HOUR)
    usable = site.journal.approvals.usable

    def slow(*asked: int | None) -> tuple[Approval, ...]:
        site.clock.advance(9 * SECOND)
        return usable(*asked)

    monkeypatch.setattr(site.journal.approvals, "usable", slow)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def test_a_step_that_rests_on_what_was_seen_is_not_begun_too_late(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = plan(site)
    claim = site.journal.attempts.claim

    def stalling(number: int, now: datetime) -> bool:
        claimed = claim(number, now)
        site.clock.advance(3 * SECOND)
        return claimed

    monkeypatch.setattr(site.journal.attempts, "claim", stalling)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert "it took too long until it could begin" in message(site)
    assert site.journal.attempts.steps(attempt) == []

    monkeypatch.undo()
    site.clock.advance(15 * SECOND)
    site.round()
    assert site.states() == ["refused", "succeeded"]


def test_what_had_to_wait_may_be_claimed_once_it_was_looked_at_again(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = plan(site)
    site.clock.advance(HOUR)
    locked_for(site, monkeypatch, SECOND / 10)
    site.carrying.carry_out(attempt)

    assert site.states() == ["succeeded"]


def test_what_has_resolved_when_its_turn_comes_is_not_done(site: EngineSite) -> None:
    attempt = plan(site)
    alert = an_alert({"container_id": C, "container": "x"})
    site.deliver(replace(alert, status=Status.RESOLVED))
    site.clock.advance(SECOND)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]


def test_another_run_of_the_container_is_not_stopped_in_place_of_the_planned_one(
    site: EngineSite,
) -> None:
    attempt = plan(site)
    site.stop_container.looks[0] = agreeing(Container(C, NOON))
    site.clock.advance(SECOND)
    site.carrying.carry_out(attempt)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def test_an_attempt_is_settled_although_its_policy_rule_was_removed(site: EngineSite) -> None:
    attempt = plan(site)
    site.policy = a_policy(a_rule(hurried(), name="another", alertname="Another"))
    site.carrying.carry_out(attempt)

    assert site.states() == ["succeeded"]
    assert site.told() == ["admins"]


def test_an_attempt_of_a_remediation_that_is_no_more_is_a_failure_in_the_end(
    site: EngineSite,
) -> None:
    attempt = plan(site)
    carrying = Carrying(
        replace(site.parts, remediations={}), site.stopping, site.looking.reconsider
    )
    carrying.carry_out(attempt)
    assert site.states() == ["unknown"]
    site.clock.advance(HOUR)
    carrying.take_up(attempt)

    assert site.states() == ["failed"]


def test_nothing_is_done_that_cannot_be_written_down_first(site: EngineSite) -> None:
    attempt = plan(site)

    with unwritable(site.folder, "attempt"), pytest.raises(JournalError, match="no space left"):
        site.carrying.carry_out(attempt)
    with unwritable(site.folder, "step", "INSERT"), pytest.raises(JournalError):
        site.carrying.carry_out(attempt)

    assert site.stop_container.executed == []
    site.round()
    site.clock.advance(15 * SECOND)
    site.round()
    assert site.states() == ["refused", "succeeded"]


def test_what_was_done_and_could_not_be_settled_is_settled_later(site: EngineSite) -> None:
    attempt = plan(site)
    with unwritable(site.folder, "notice", "INSERT"), pytest.raises(JournalError):
        site.carrying.carry_out(attempt)
    assert site.states() == ["running"]

    site.round()

    assert site.states() == ["succeeded"]
    # It is looked at again, with what had begun, and not begun from the start.
    assert site.stop_container.executed == [frozenset(), {"do"}]
    assert site.told() == ["admins"]


def test_what_the_last_worker_had_planned_is_decided_anew(site: EngineSite) -> None:
    plan(site)
    again = EngineSite(site.folder, clock=site.clock)
    again.carrying.take_up(1)

    assert again.states() == ["refused"]
    assert again.stop_container.executed == []
    assert again.due_at() == NOON + 15 * SECOND
    again.close()


def test_what_the_last_worker_had_claimed_but_not_begun_is_decided_anew(site: EngineSite) -> None:
    site.journal.attempts.claim(plan(site), NOON)
    again = EngineSite(site.folder, clock=site.clock)
    again.carrying.take_up(1)

    assert again.states() == ["refused"]
    assert again.stop_container.executed == []
    again.close()


def test_what_the_last_worker_had_begun_is_gone_on_with(site: EngineSite) -> None:
    attempt = plan(site)
    site.journal.attempts.claim(attempt, NOON)
    site.journal.attempts.begin_step(attempt, "do", "do it", NOON)
    again = EngineSite(site.folder, clock=site.clock)
    again.carrying.take_up(attempt)

    assert again.states() == ["succeeded"]
    assert again.stop_container.executed == [{"do"}]
    again.close()


def test_what_is_settled_is_not_taken_up(site: EngineSite) -> None:
    site.carrying.carry_out(plan(site))
    site.carrying.take_up(1)

    assert len(site.stop_container.executed) == 1


def test_telling_only_is_told_once_in_its_window(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried("notify-only", Limit(1, HOUR))))
    for _ in range(5):
        site.round()
        site.clock.advance(5 * MINUTE)
        site.deliver(an_alert({"container_id": C, "container": "x"}))

    assert site.told() == ["admins"]
    [notice] = site.journal.notices.of_incident(1)
    assert "touch /workspace/.keep-alive" in notice.letter.body
