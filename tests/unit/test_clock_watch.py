"""A clock that jumps: nothing is done on account of it, and it is said."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.clock import SystemClock
from remediator.core.clock_steps import ClockMark, step_between
from remediator.core.policy import Audience, Limit, Warn
from remediator.engine.clock_watch import ClockWatch
from remediator.errors import JournalError
from tests.builders import DAY, HOUR, MINUTE, NOON, SECOND, a_policy, a_rule, an_alert
from tests.eventually import patience
from tests.unit.engine_site import EngineSite, hurried, unwritable

WARN = Warn(5 * MINUTE, (Audience.OWNER,))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EngineSite]:
    site = EngineSite(tmp_path, a_policy(a_rule(hurried(), warn=WARN)))
    site.round()
    yield site
    site.close()


def idle(name: str = "c"):  # type: ignore[no-untyped-def]
    return an_alert({"container_id": name * 64}, fingerprint=name)


@pytest.mark.parametrize(
    ("up", "passed", "step"),
    [
        pytest.param(HOUR, HOUR, timedelta(), id="time passed"),
        pytest.param(HOUR, DAY, DAY - HOUR, id="set ahead"),
        pytest.param(HOUR, -DAY, -DAY - HOUR, id="set back"),
    ],
)
def test_a_step_is_what_the_time_since_boot_cannot_explain(
    up: timedelta, passed: timedelta, step: timedelta
) -> None:
    then = ClockMark("a", HOUR, NOON)

    assert step_between(then, ClockMark("a", HOUR + up, NOON + passed)) == step


@pytest.mark.parametrize(("passed", "step"), [(DAY, timedelta()), (-MINUTE, -MINUTE)])
def test_across_a_reboot_only_a_clock_that_went_back_is_a_step(
    passed: timedelta, step: timedelta
) -> None:
    then = ClockMark("a", 100 * HOUR, NOON)

    assert step_between(then, ClockMark("b", MINUTE, NOON + passed)) == step


@pytest.mark.parametrize("step", [DAY, -DAY, 2 * MINUTE, -2 * MINUTE])
def test_a_clock_that_jumps_ends_no_notice_period(site: EngineSite, step: timedelta) -> None:
    site.deliver(idle())
    site.round()
    assert site.reasons() == ["warning_due", "warned"]

    site.clock.step(step)
    site.round()
    site.clock.advance(10 * MINUTE)
    site.round()

    assert site.states() == []
    reason = site.journal.operations.pause_reason()
    assert reason is not None
    assert reason.startswith(f"the clock was set {'ahead' if step > timedelta() else 'back'} by ")


def test_whoever_claims_and_whoever_only_looks_never_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Closed only where they do not: it would wait for them as well.
    site = EngineSite(tmp_path)
    watch, mark = site.parts.clock_watch, site.clock.mark
    watch.check()
    site.clock.advance(2 * MINUTE)
    looks = threading.Event()

    def marked() -> ClockMark:
        looks.set()
        return mark()

    monkeypatch.setattr(site.clock, "mark", marked)
    looking = threading.Thread(target=watch.check, daemon=True)

    def claim() -> None:
        with site.journal.transaction():
            looking.start()
            looks.wait(10)
            watch.check()

    claiming = threading.Thread(target=claim, daemon=True)
    claiming.start()
    claiming.join(10 * patience())
    assert not claiming.is_alive()
    looking.join(10 * patience())
    assert not looking.is_alive()
    site.close()


def test_a_jump_that_cannot_be_written_down_is_not_forgotten(site: EngineSite) -> None:
    site.clock.step(DAY)
    with unwritable(site.folder, "clock", "UPDATE"), pytest.raises(JournalError):
        site.parts.clock_watch.check()
    assert site.journal.operations.pause_reason() is None

    site.parts.clock_watch.check()

    assert site.journal.operations.pause_reason() is not None


def test_a_jump_between_the_decision_and_the_act_stops_it(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried()))
    site.deliver(idle())
    (planned,) = site.look()

    site.clock.step(DAY)
    site.carrying.carry_out(planned)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def test_what_is_slewed_second_by_second_is_no_jump(site: EngineSite) -> None:
    for _ in range(100):
        site.clock.advance(SECOND)
        site.clock.step(SECOND)
        site.round()

    assert site.journal.operations.pause_reason() is None


def test_a_clock_that_is_set_back_to_where_it_was_resumes(site: EngineSite) -> None:
    site.clock.step(DAY)
    site.round()
    assert site.journal.operations.pause_reason() is not None

    site.clock.step(-DAY)
    site.round()

    assert site.journal.operations.pause_reason() is None


def test_after_a_person_resumed_the_clock_is_taken_as_it_is(site: EngineSite) -> None:
    site.clock.step(DAY)
    site.round()
    site.command("resume")
    site.clock.advance(HOUR)
    site.round()
    assert site.journal.operations.pause_reason() is None

    site.clock.step(-DAY)
    site.round()

    assert site.journal.operations.pause_reason() is not None


def test_an_operators_pause_is_neither_replaced_nor_ended(site: EngineSite) -> None:
    site.command("pause", reason="driver update")

    site.clock.step(DAY)
    site.round()
    site.clock.step(-DAY)
    site.round()

    assert site.journal.operations.pause_reason() == "driver update (alice)"


@pytest.mark.parametrize("reboots", [False, True])
def test_a_clock_that_was_set_back_while_nothing_ran_is_noticed(
    site: EngineSite, reboots: bool
) -> None:
    site.clock.advance(HOUR)
    site.round()
    if reboots:
        site.clock.reboot()
    site.clock.step(-DAY)

    again = EngineSite(site.folder, site.policy, site.parts.remediations, site.clock)
    again.round()

    assert again.journal.operations.pause_reason() is not None
    again.close()


def test_a_night_switched_off_is_no_jump(site: EngineSite) -> None:
    site.clock.reboot(off=DAY)

    again = EngineSite(site.folder, site.policy, site.parts.remediations, site.clock)
    again.round()

    assert again.journal.operations.pause_reason() is None
    again.close()


def test_a_jump_ahead_gives_no_room_in_a_spent_budget(site: EngineSite) -> None:
    limits = {"stop-container": (Limit(1, HOUR),)}
    site.policy = a_policy(a_rule(hurried()), budget=limits)
    site.deliver(idle("a"))
    site.round()
    site.deliver(idle("b"))
    site.round()
    assert site.states() == ["succeeded"]

    site.clock.step(2 * HOUR)
    site.round()

    assert site.states() == ["succeeded"]


def test_the_machines_own_clock_agrees_with_itself() -> None:
    clock = SystemClock()
    first, second = clock.mark(), clock.mark()

    assert first.boot == second.boot != ""
    assert abs(step_between(first, second)) < SECOND
    assert step_between(replace(first, at=first.at - DAY), second) > HOUR


def test_the_mark_is_kept_once_a_minute(site: EngineSite) -> None:
    watch = ClockWatch(site.journal, site.clock)
    for _ in range(120):
        site.clock.advance(SECOND)
        watch.check()

    kept = site.journal.operations.clock_mark()
    assert kept is not None
    assert site.clock.now() - kept.at < MINUTE
