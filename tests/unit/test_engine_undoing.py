"""What lasts is put back once nothing asks for it, whatever the operator or the machine does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.alerts import Alert, Status
from remediator.core.attempts import AttemptState, Proof, Verification
from remediator.core.catalogue import CATALOGUE
from remediator.core.gpus import GpuGauges, PowerLimits
from remediator.core.notices import NoticeKind
from remediator.core.policy import Limit, Mode, Policy, PolicyRule
from remediator.core.targets import PhysicalGpu
from remediator.errors import JournalError
from remediator.journal.story import tell
from remediator.remediations.cap_power import CapPower
from remediator.remediations.interface import Lasting
from tests.builders import DAY, HOUR, MINUTE, SECOND, a_plan, a_policy, a_rule, a_task, an_alert
from tests.eventually import eventually
from tests.fakes import FakeHost, FakeRemediation, HandClock
from tests.fakes_power import FakePower
from tests.unit.engine_site import EngineSite, hurried, unwritable

LIMITS = PowerLimits(400_000, 400_000, 400_000, 100_000, 400_000)


def about(uuid: str = "GPU-0", name: str = "DS01GPUHighTemperature") -> Alert:
    return an_alert({"alertname": name, "UUID": uuid, "container_id": ""}, fingerprint=uuid + name)


def cooling(name: str, percent: int) -> PolicyRule:
    """A rule that limits the GPU for one alert, and then tells people."""
    limit = replace(hurried("cap-power", Limit(3, DAY)), options={"limit": percent})
    return a_rule(limit, hurried("notify-only", Limit(1, HOUR)), alertname=name, name=name)


HIGH, CRITICAL = "DS01GPUHighTemperature", "DS01GPUCriticalTemperature"


class Hall:
    """Two GPUs that can become hot, and a worker that may be made again."""

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        self.power = FakePower(self.host.driver)
        self.cap = CapPower(self.host.prometheus, self.host.driver, self.power)
        self.policy = policy or a_policy(cooling(HIGH, 70), cooling(CRITICAL, 50))
        self.site = self.start()

    def start(self) -> EngineSite:
        told = FakeRemediation("notify-only")
        remediations = {"cap-power": self.cap, "notify-only": told}
        self.site = EngineSite(self.folder, self.policy, remediations, self.clock)
        return self.site

    def heat(self, celsius: int, *names: str, uuid: str = "GPU-0") -> None:
        """Let a GPU be that hot and alerts say so."""
        self.host.driver.gauges_of[uuid] = GpuGauges(temperature_celsius=celsius)
        for name in names or (HIGH,):
            self.host.fire(about(uuid, name), value=celsius)
            self.site.deliver(about(uuid, name))
        self.site.round()

    def cool(self, *names: str, uuid: str = "GPU-0") -> None:
        """Let alerts about a GPU end."""
        for name in names or (HIGH,):
            gone = about(uuid, name)
            own = self.host.prometheus.alerts
            own[:] = [firing for firing in own if firing.labels != gone.labels]
            self.site.deliver(replace(gone, status=Status.RESOLVED))
        self.site.round()

    def watts(self, uuid: str = "GPU-0") -> int:
        limits = self.host.driver.power_limits(uuid)
        assert limits is not None
        return limits.current // 1000

    def set_by_hand(self, watts: int) -> None:
        limits = replace(LIMITS, current=watts * 1000, enforced=watts * 1000)
        self.host.driver.power_of["GPU-0"] = limits

    def later(self, minutes: int) -> None:
        """Let time pass, and the worker do what it then does."""
        for _ in range(minutes):
            self.clock.advance(MINUTE)
            self.site.round()

    def results(self) -> list[str]:
        return [row[0] for row in self.site.ask("SELECT result FROM lasting ORDER BY attempt")]


@pytest.fixture
def hall(folder: Path) -> Iterator[Hall]:
    hall = Hall(folder)
    yield hall
    hall.site.close()


def test_whatever_lasts_can_be_put_back(hall: Hall) -> None:
    lasting = {offer.name for offer in CATALOGUE if offer.lasting}

    assert lasting == {"cap-power"}
    assert isinstance(hall.cap, Lasting)


def test_a_limit_lasts_as_long_as_its_alert(hall: Hall) -> None:
    hall.heat(92)
    hall.later(60)
    assert hall.watts() == 280
    assert hall.site.journal.lasting.in_force() == 1

    hall.cool()

    assert hall.watts() == 400
    assert hall.results() == ["its power limit is 400 W again, as before"]
    assert hall.site.journal.lasting.in_force() == 0
    hall.later(60)
    assert hall.power.calls == [("GPU-0", 280_000), ("GPU-0", 400_000)]


def test_people_hear_of_both_once(hall: Hall) -> None:
    hall.heat(92)
    hall.cool()
    hall.later(5)

    assert hall.site.told(NoticeKind.ACTED) == ["admins"]
    assert hall.site.told(NoticeKind.RESTORED) == ["admins"]
    [(subject, body)] = hall.site.ask("SELECT subject, body FROM notice WHERE kind = 'restored'")
    assert subject == "cap-power has ended for GPU 0 on gpu1"
    assert "its power limit is 400 W again, as before" in body
    assert "280 W instead of 400 W" in body
    assert hall.site.metric("notices_made_total", kind="restored") == 1


def test_the_story_tells_it(hall: Hall) -> None:
    hall.heat(92)
    hall.cool()

    story = tell(hall.site.journal, 1)

    assert story is not None
    events = [(event.what, event.text) for event in story.events]
    assert ("step", "restore: power limit of GPU GPU-0 from 280 W to 400 W") in events
    says = "attempt 1: cap-power: its power limit is 400 W again, as before"
    assert ("restored", says) in events


def test_the_gauge_counts_what_lasts(hall: Hall) -> None:
    hall.heat(92)
    hall.site.round()
    assert hall.site.metric("lasting_effects") == 1
    hall.cool()
    hall.site.round()

    assert hall.site.metric("lasting_effects") == 0


def test_a_gpu_that_stays_hot_is_not_limited_twice_and_people_are_told(hall: Hall) -> None:
    hall.heat(92)
    hall.later(9)
    assert hall.site.states() == ["succeeded"]

    hall.later(20)

    rungs = hall.site.ask("SELECT remediation FROM attempt ORDER BY id")
    assert rungs == [("cap-power",), ("notify-only",)]
    assert hall.site.told(NoticeKind.INFORMED) == ["admins"]
    assert hall.power.calls == [("GPU-0", 280_000)]
    [(task,)] = hall.site.ask("SELECT task FROM attempt WHERE remediation = 'notify-only'")
    assert "it is limited to 280 W already" in task
    hall.cool()
    assert hall.watts() == 400


def test_where_nothing_else_is_left_it_is_escalated_once(folder: Path) -> None:
    limit = replace(hurried("cap-power", Limit(3, DAY)), options={"limit": 70})
    hall = Hall(folder, a_policy(a_rule(limit, alertname=HIGH)))
    hall.heat(92)

    hall.later(60)

    assert hall.site.states() == ["succeeded"]
    assert hall.site.told(NoticeKind.ESCALATED) == ["admins"]
    hall.cool()
    assert hall.watts() == 400
    hall.site.close()


def test_flapping_is_bounded_by_the_attempts_of_the_policy(hall: Hall) -> None:
    for _ in range(6):
        hall.heat(92)
        hall.later(3)
        hall.cool()
        hall.later(12)

    limited = [call for call in hall.power.calls if call[1] == 280_000]
    assert len(limited) == 3
    assert hall.watts() == 400
    assert hall.site.told(NoticeKind.INFORMED) == ["admins"]


def test_an_admins_lower_limit_is_neither_raised_nor_touched(hall: Hall) -> None:
    hall.set_by_hand(200)

    hall.heat(92)
    hall.cool()

    assert hall.watts() == 200
    assert hall.power.calls == []


def test_what_an_admin_changed_since_is_left_alone(hall: Hall) -> None:
    hall.heat(92)
    hall.set_by_hand(250)

    hall.cool()

    assert hall.watts() == 250
    assert hall.results() == ["its power limit is left at 250 W: it was changed by somebody else"]


def test_putting_back_goes_on_while_everything_is_paused(hall: Hall) -> None:
    hall.heat(92)
    hall.site.command("pause", reason="a class")

    hall.cool()

    assert hall.watts() == 400


def test_neither_the_breaker_nor_a_lower_mode_keeps_a_limit(hall: Hall) -> None:
    hall.heat(92)
    hall.site.journal.operations.open_breaker("too much", hall.clock.now())
    hall.site.policy = replace(hall.policy, mode=Mode.OBSERVE, rules=())

    hall.cool()

    assert hall.watts() == 400
    assert hall.site.told(NoticeKind.RESTORED) == ["admins"]


def test_an_alert_that_lapses_takes_its_limit_along(hall: Hall) -> None:
    """Nobody ever says that it has resolved: Prometheus does not have it any more."""
    hall.heat(92)
    hall.host.quench()

    hall.later(100)

    assert hall.site.ask("SELECT outcome, closed_at IS NULL FROM incident")[0][1] == 0
    assert hall.watts() == 400


def test_an_alert_that_ended_while_the_worker_was_down_is_made_up_for(hall: Hall) -> None:
    hall.heat(92)
    hall.site.close()
    hall.start()

    hall.cool()

    assert hall.watts() == 400


def test_a_crash_while_putting_back_is_made_up_for(hall: Hall) -> None:
    hall.heat(92)
    hall.site.round()
    hall.host.driver.silent = "no driver"
    hall.cool()
    hall.clock.advance(HOUR)
    assert hall.site.journal.lasting.take(1, hall.clock.now()) == 2
    hall.site.close()
    hall.host.driver.silent = ""
    hall.start()

    hall.later(1)

    assert hall.watts() == 400


def test_while_the_driver_is_silent_it_is_tried_less_and_less_often(hall: Hall) -> None:
    hall.heat(92)
    hall.host.driver.silent = "no driver"
    hall.cool()
    tries = "SELECT tries FROM lasting"
    assert hall.site.ask(tries) == [(1,)]

    hall.later(1)
    assert hall.site.ask(tries) == [(2,)]
    hall.later(60)
    assert 8 <= hall.site.ask(tries)[0][0] <= 14
    assert hall.site.told(NoticeKind.FAILED) == ["admins"]
    hall.host.driver.silent = ""
    hall.later(16)

    assert hall.watts() == 400
    assert hall.site.told(NoticeKind.FAILED) == ["admins"]
    assert hall.site.told(NoticeKind.RESTORED) == ["admins"]


def test_a_clock_that_was_set_back_does_not_keep_it_waiting(hall: Hall) -> None:
    hall.heat(92)
    hall.host.driver.silent = "no driver"
    hall.cool()
    hall.clock.step(-2 * DAY)
    hall.host.driver.silent = ""

    hall.later(1)

    assert hall.watts() == 400


def test_what_was_refused_before_anything_changed_lasts_not(hall: Hall) -> None:
    hall.host.driver.gauges_of["GPU-0"] = GpuGauges(temperature_celsius=92)
    hall.host.fire(about(), value=92)
    hall.site.deliver(about())
    [attempt] = hall.site.look()
    hall.set_by_hand(300)

    hall.site.carrying.carry_out(attempt)

    assert hall.site.states() == ["refused"]
    assert hall.site.journal.lasting.in_force() == 0


def test_a_limit_whose_effect_is_unknown_is_put_back_too(hall: Hall) -> None:
    hall.power.loses_answers = True
    hall.heat(92)
    assert hall.site.states() == ["succeeded"]
    hall.power.loses_answers = False

    hall.cool()

    assert hall.watts() == 400


def test_of_what_failed_nobody_hears_that_it_has_ended(hall: Hall) -> None:
    hall.power.refuses = "Insufficient Permissions"
    hall.heat(92)
    assert hall.site.states() == ["failed"]

    hall.cool()

    assert hall.results() == ["its power limit is 400 W, as it was before"]
    assert hall.site.told(NoticeKind.FAILED) == ["admins"]
    assert hall.site.told(NoticeKind.RESTORED) == []


def test_it_is_in_the_journal_before_the_machine_is_touched(hall: Hall) -> None:
    hall.host.driver.gauges_of["GPU-0"] = GpuGauges(temperature_celsius=92)
    hall.host.fire(about(), value=92)
    hall.site.deliver(about())
    [attempt] = hall.site.look()

    with unwritable(hall.folder, "lasting", "INSERT"), pytest.raises(JournalError):
        hall.site.carrying.carry_out(attempt)

    assert hall.watts() == 400
    assert hall.site.states() == ["planned"]


@pytest.mark.parametrize("first", [HIGH, CRITICAL])
def test_two_incidents_on_one_gpu_do_not_lift_each_others_limit(hall: Hall, first: str) -> None:
    then = CRITICAL if first == HIGH else HIGH
    hall.heat(92, HIGH)
    hall.heat(95, CRITICAL)
    assert hall.watts() == 200

    hall.cool(first)
    meanwhile = hall.watts()
    hall.later(5)
    hall.cool(then)

    assert meanwhile == (200 if first == HIGH else 280)
    assert hall.watts() == 400
    assert hall.site.journal.lasting.in_force() == 0


def test_without_a_journal_nothing_is_put_back_and_later_it_is(hall: Hall) -> None:
    hall.heat(92)
    with unwritable(hall.folder, "step", "INSERT"), pytest.raises(JournalError):
        hall.cool()
    assert hall.watts() == 280

    hall.later(1)

    assert hall.watts() == 400


def test_two_incidents_that_end_together_are_both_put_back(hall: Hall) -> None:
    hall.heat(92, HIGH)
    hall.heat(95, CRITICAL)

    hall.cool(HIGH, CRITICAL)
    hall.later(2)

    assert hall.watts() == 400
    assert hall.site.journal.lasting.in_force() == 0


def test_another_gpus_limit_is_another_matter(hall: Hall) -> None:
    hall.heat(92)
    hall.heat(93, uuid="GPU-1")

    hall.cool()

    assert (hall.watts(), hall.watts("GPU-1")) == (400, 280)


def test_nothing_is_begun_on_a_target_while_something_is_put_back(hall: Hall) -> None:
    hall.heat(92)
    hall.host.driver.silent = "no driver"
    hall.cool()
    hall.host.driver.silent = ""
    hall.clock.advance(MINUTE)
    assert hall.site.journal.lasting.take(1, hall.clock.now()) == 2

    hall.set_by_hand(390)
    hall.clock.advance(20 * MINUTE)
    hall.host.fire(about(), value=92)
    hall.site.deliver(
        replace(about(), firing=replace(about().firing, starts_at="2026-11-24T12:30:00Z"))
    )
    [attempt] = hall.site.look()
    hall.site.carrying.carry_out(attempt)

    assert hall.site.states() == ["succeeded", "refused"]
    [(message,)] = hall.site.ask("SELECT message FROM attempt WHERE id = 2")
    assert message == "not carried out: what was done to it before is being put back"


def test_nothing_is_put_back_while_something_is_done_to_the_target(hall: Hall) -> None:
    hall.heat(92)
    hall.host.driver.silent = "no driver"
    hall.cool()
    hall.host.driver.silent = ""
    hall.clock.advance(HOUR)
    plan = replace(a_plan(PhysicalGpu("GPU-0")), remediation="notify-only")
    other = hall.site.journal.attempts.plan(1, plan, a_task(PhysicalGpu("GPU-0")))
    assert other is not None

    hall.site.put_back()
    assert not hall.site.undoing.undo(1)
    assert hall.watts() == 280
    hall.site.journal.attempts.move(other, AttemptState.REFUSED, "not now", hall.clock.now())
    hall.site.put_back()

    assert hall.watts() == 400


def test_a_remediation_that_is_no_more_is_told_and_kept(hall: Hall) -> None:
    hall.heat(92)
    hall.site.close()
    told = FakeRemediation("notify-only")
    told.verdicts.append(Verification(Proof.PROVEN, "told"))
    hall.site = EngineSite(hall.folder, hall.policy, {"notify-only": told}, hall.clock)

    hall.cool()
    hall.later(60)

    assert hall.site.journal.lasting.in_force() == 1
    assert hall.site.told(NoticeKind.FAILED) == ["admins"]
    assert hall.results() == ["not put back yet: an error nobody foresaw: LookupError"]


def test_what_lasts_keeps_its_incident_from_being_forgotten(hall: Hall) -> None:
    hall.heat(92)
    hall.host.driver.silent = "no driver"
    hall.cool()
    hall.clock.advance(DAY)
    assert hall.site.journal.forget(hall.clock.now(), 10) == 0
    hall.host.driver.silent = ""
    hall.later(1)
    hall.site.send()

    assert hall.site.journal.forget(hall.clock.now() + SECOND, 10) == 1
    assert hall.site.ask("SELECT count(*) FROM lasting") == [(0,)]


def test_a_running_worker_puts_it_back_by_itself(hall: Hall) -> None:
    hall.heat(92)
    with hall.site.working():
        hall.host.quench()
        gone = replace(about(), status=Status.RESOLVED)
        hall.site.deliver(gone)
        eventually(lambda: hall.watts() == 400, 10, "the limit to be put back")
        kinds = "SELECT count(*) FROM notice WHERE kind = 'restored' AND state = 'sent'"
        eventually(lambda: hall.site.ask(kinds) == [(1,)], 10, "people to be told")
