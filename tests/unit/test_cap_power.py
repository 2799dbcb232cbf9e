"""cap-power: what it looks at, what it sets, what it proves, and what it puts back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Stack, Task
from remediator.core.gpus import GpuGauges, PowerLimits
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import Named, PhysicalGpu, Subject
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.cap_power import CapPower
from tests.builders import SECOND, an_alert
from tests.fakes import FakeHost, HandClock, MemorySteps, a_mig_device
from tests.fakes_power import FakePower

HOT = an_alert({"alertname": "DS01GPUHighTemperature", "UUID": "GPU-0", "gpu": "0"})
LIMITS = PowerLimits(400_000, 400_000, 400_000, 100_000, 400_000)
SEVENTY = {"limit": 70}


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost(HandClock())
    heat(host, 92)
    return host


@pytest.fixture
def power(host: FakeHost) -> FakePower:
    return FakePower(host.driver)


@pytest.fixture
def cap(host: FakeHost, power: FakePower) -> CapPower:
    return CapPower(host.prometheus, host.driver, power)


def heat(host: FakeHost, celsius: float | None, uuid: str = "GPU-0") -> None:
    host.driver.gauges_of[uuid] = GpuGauges(temperature_celsius=celsius, power_watts=390)


def set_by_hand(host: FakeHost, watts: int) -> None:
    limits = replace(LIMITS, current=watts * 1000, enforced=watts * 1000)
    host.driver.power_of["GPU-0"] = limits


def now_at(host: FakeHost) -> int:
    limits = host.driver.power_limits("GPU-0")
    assert limits is not None
    return limits.current // 1000


def look(
    host: FakeHost,
    cap: CapPower,
    *,
    value: float | None = 92,
    percent: int = 70,
    alert: Alert = HOT,
) -> Observation:
    """Observe an alert that Prometheus has firing with a value."""
    host.fire(alert, value=value)
    return cap.observe(alert, host.clock.now(), {"limit": percent})


def nvml(seen: Observation) -> tuple[Verdict, str]:
    report = seen.report_of(Source.NVML)
    assert report is not None
    return report.verdict, report.says


def a_task(watts: int = 280, before: int = 400, **more: int) -> Task:
    context = {"limit_before_mw": before * 1000, "limit_mw": watts * 1000, **more}
    return Task(PhysicalGpu("GPU-0"), options=SEVENTY, context=context)


# What it looks at.


def test_a_gpu_as_hot_as_the_alert_says_is_to_be_limited(host: FakeHost, cap: CapPower) -> None:
    seen = look(host, cap)

    says = "GPU 0 (GPU-0) is at 92 °C, draws 390 W, is limited to 400 W"
    assert nvml(seen) == (Verdict.AGREES, says)
    assert seen.target == PhysicalGpu("GPU-0")
    assert seen.title == "GPU 0"
    assert seen.in_vain is None
    assert seen.context["limit_before_mw"] == 400_000
    assert seen.context["limit_mw"] == 280_000
    assert seen.confirmed_labels == HOT.labels


@pytest.mark.parametrize(
    ("percent", "watts"), [(70, 280), (33, 132), (10, 100), (1, 100), (99, 396)]
)
def test_the_limit_is_a_share_of_the_default_that_can_be_set(
    host: FakeHost, cap: CapPower, percent: int, watts: int
) -> None:
    assert look(host, cap, percent=percent).context["limit_mw"] == watts * 1000


def test_the_share_is_of_the_default_and_in_whole_watts(host: FakeHost, cap: CapPower) -> None:
    host.driver.power_of["GPU-0"] = replace(LIMITS, default=349_900, current=350_000)

    assert look(host, cap).context["limit_mw"] == 244_000


@pytest.mark.parametrize("celsius", [60, 84, 89])
def test_a_gpu_that_has_cooled_down_is_left_alone(
    host: FakeHost, cap: CapPower, celsius: int
) -> None:
    heat(host, celsius)

    verdict, says = nvml(look(host, cap))

    assert verdict is Verdict.DISAGREES
    assert "cooled down from 92 °C" in says


def test_two_degrees_are_what_a_scrape_makes_of_it(host: FakeHost, cap: CapPower) -> None:
    heat(host, 90)

    assert nvml(look(host, cap))[0] is Verdict.AGREES


def test_what_is_not_hot_is_left_alone_whatever_the_alert_says(
    host: FakeHost, cap: CapPower
) -> None:
    heat(host, 45)

    assert nvml(look(host, cap, value=1)) == (
        Verdict.DISAGREES,
        "GPU 0 (GPU-0) is at 45 °C, draws 390 W, is limited to 400 W: that is not hot",
    )


def test_an_alert_that_is_about_no_temperature_is_not_believed(
    host: FakeHost, cap: CapPower
) -> None:
    assert nvml(look(host, cap, value=390))[0] is Verdict.DISAGREES


def test_without_a_value_or_a_temperature_it_holds(host: FakeHost, cap: CapPower) -> None:
    assert nvml(look(host, cap, value=None))[0] is Verdict.SILENT
    heat(host, None)
    assert nvml(look(host, cap))[0] is Verdict.SILENT


def test_a_silent_driver_is_silence(host: FakeHost, cap: CapPower) -> None:
    host.driver.silent = "the driver is being reset"

    seen = look(host, cap)

    assert nvml(seen) == (Verdict.SILENT, "the driver is being reset")
    assert seen.target is None


def test_what_prometheus_does_not_have_is_not_confirmed(host: FakeHost, cap: CapPower) -> None:
    seen = cap.observe(HOT, host.clock.now(), SEVENTY)

    report = seen.report_of(Source.PROMETHEUS)
    assert report is not None
    assert report.verdict is Verdict.DISAGREES


def test_a_lost_gpu_and_one_nobody_knows_are_no_targets(host: FakeHost, cap: CapPower) -> None:
    host.driver.lost["GPU-0"] = "GPU is lost"
    for labels in ({"UUID": "GPU-0"}, {"UUID": "GPU-9"}, {"instance": "gpu1"}):
        alert = an_alert({"alertname": "hot", "container_id": "", **labels})

        seen = look(host, cap, alert=alert)

        assert nvml(seen)[0] is Verdict.GONE
        assert seen.target is None


@pytest.mark.parametrize("watts", [280, 200, 100])
def test_a_limit_that_is_as_low_already_is_never_raised(
    host: FakeHost, cap: CapPower, watts: int
) -> None:
    """It is hot all the same, and the next rung of the ladder is for that."""
    set_by_hand(host, watts)

    seen = look(host, cap)

    assert nvml(seen)[0] is Verdict.AGREES
    assert seen.in_vain == f"it is limited to {watts} W already"


def test_a_gpu_without_limits_cannot_be_limited(host: FakeHost, cap: CapPower) -> None:
    host.driver.power_of["GPU-0"] = None

    seen = look(host, cap)

    assert nvml(seen)[0] is Verdict.AGREES
    assert seen.in_vain == "its power limit cannot be changed"


def test_of_a_mig_gpu_all_devices_are_counted(
    host: FakeHost, cap: CapPower, power: FakePower
) -> None:
    host.driver.remove("GPU-0")
    for position in range(3):
        host.driver.add(a_mig_device(0, position))

    seen = look(host, cap)
    said = cap.execute(Task(PhysicalGpu("GPU-0"), context=seen.context), MemorySteps())

    assert seen.context["mig_devices"] == 3
    assert "which slows all 3 of its MIG devices" in said


# What it sets.


def test_the_limit_is_set_and_proven(host: FakeHost, cap: CapPower, power: FakePower) -> None:
    steps = MemorySteps()

    said = cap.execute(a_task(), steps)
    found = cap.verify(a_task())

    assert power.calls == [("GPU-0", 280_000)]
    assert steps.names == ["cap"]
    assert said == "its power limit is 280 W instead of 400 W, until the alert resolves"
    assert found.proof is Proof.PROVEN
    assert found.says == "the limit in force is 280 W, it is at 92 °C"


def test_a_limit_that_somebody_changed_meanwhile_is_left_alone(
    host: FakeHost, cap: CapPower, power: FakePower
) -> None:
    set_by_hand(host, 300)

    with pytest.raises(RefusedError, match="300 W by now"):
        cap.execute(a_task(), MemorySteps())

    assert power.calls == []


def test_a_refusal_is_a_refusal(cap: CapPower, power: FakePower) -> None:
    power.refuses = "Insufficient Permissions"

    with pytest.raises(RefusedError, match="Permissions"):
        cap.execute(a_task(), MemorySteps())


@pytest.mark.parametrize("task", [Task(PhysicalGpu("GPU-0")), Task(Named(Subject("gpu", "x")))])
def test_what_was_not_looked_at_is_not_touched(cap: CapPower, power: FakePower, task: Task) -> None:
    with pytest.raises(RefusedError):
        cap.execute(task, MemorySteps())

    assert power.calls == []


def test_a_lost_answer_is_verified(cap: CapPower, power: FakePower) -> None:
    power.loses_answers = True
    with pytest.raises(EffectUnknownError):
        cap.execute(a_task(), MemorySteps())

    assert cap.verify(a_task()).proof is Proof.PROVEN


def test_a_hung_call_is_disproven(cap: CapPower, power: FakePower) -> None:
    power.hangs = True
    with pytest.raises(EffectUnknownError):
        cap.execute(a_task(), MemorySteps())

    assert cap.verify(a_task()).proof is Proof.DISPROVEN


def test_a_limit_that_is_set_but_not_kept_is_no_proof(host: FakeHost, cap: CapPower) -> None:
    host.driver.power_of["GPU-0"] = replace(LIMITS, current=280_000, enforced=400_000)

    assert cap.verify(a_task()).proof is Proof.DISPROVEN


def test_something_else_may_hold_it_lower_still(host: FakeHost, cap: CapPower) -> None:
    host.driver.power_of["GPU-0"] = replace(LIMITS, current=280_000, enforced=250_000)

    assert cap.verify(a_task()).proof is Proof.PROVEN


def test_a_driver_that_rounds_is_believed(host: FakeHost, cap: CapPower) -> None:
    host.driver.power_of["GPU-0"] = replace(LIMITS, current=279_600, enforced=279_600)

    assert cap.verify(a_task()).proof is Proof.PROVEN


def test_silence_proves_nothing_and_a_gpu_that_is_gone_is_not_limited(
    host: FakeHost, cap: CapPower
) -> None:
    host.driver.silent = "no driver"
    assert cap.verify(a_task()).proof is Proof.UNKNOWN
    host.driver.silent = ""
    host.driver.power_of["GPU-0"] = None
    assert cap.verify(a_task()).proof is Proof.UNKNOWN
    host.driver.remove("GPU-0")
    assert cap.verify(a_task()).proof is Proof.DISPROVEN


# After a crash.


def test_what_had_been_set_is_not_set_again(
    host: FakeHost, cap: CapPower, power: FakePower
) -> None:
    set_by_hand(host, 280)

    said = cap.execute(a_task(), MemorySteps({"cap": timedelta(hours=1)}))

    assert "before the interruption" in said
    assert power.calls == []


def test_what_had_not_been_set_is_set_while_it_is_still_true(
    cap: CapPower, power: FakePower
) -> None:
    cap.execute(a_task(), MemorySteps({"cap": 5 * SECOND}))

    assert power.calls == [("GPU-0", 280_000)]


@pytest.mark.parametrize("age", [timedelta(hours=1), -SECOND])
def test_what_had_not_been_set_is_decided_anew_later(
    cap: CapPower, power: FakePower, age: timedelta
) -> None:
    with pytest.raises(RefusedError, match="had not been set"):
        cap.execute(a_task(), MemorySteps({"cap": age}))

    assert power.calls == []


def test_nothing_is_done_where_nothing_can_be_seen(host: FakeHost, cap: CapPower) -> None:
    host.driver.silent = "no driver"

    with pytest.raises(RefusedError):
        cap.execute(a_task(), MemorySteps())
    with pytest.raises(EffectUnknownError):
        cap.execute(a_task(), MemorySteps({"cap": SECOND}))
    host.driver.silent = ""
    host.driver.remove("GPU-0")
    with pytest.raises(TargetGoneError):
        cap.execute(a_task(), MemorySteps())


# What it puts back.


def undo(cap: CapPower, task: Task, *others: Task, remaining: tuple[Task, ...] = ()) -> str:
    return cap.undo(task, MemorySteps(), Stack((task, *others), remaining))


def test_the_limit_is_put_back_to_what_it_was(
    host: FakeHost, cap: CapPower, power: FakePower
) -> None:
    set_by_hand(host, 280)

    said = undo(cap, a_task(before=390))

    assert now_at(host) == 390
    assert said == "its power limit is 390 W again, as before"
    assert undo(cap, a_task(before=390)) == "its power limit is 390 W, as it was before"
    assert len(power.calls) == 1


@pytest.mark.parametrize("watts", [400, 399, 281, 200])
def test_a_limit_that_somebody_changed_since_is_left_alone(
    host: FakeHost, cap: CapPower, power: FakePower, watts: int
) -> None:
    set_by_hand(host, watts)

    said = undo(cap, a_task(before=350))

    assert now_at(host) == watts
    assert said == f"its power limit is left at {watts} W: it was changed by somebody else"
    assert power.calls == []


def test_what_was_never_set_is_not_put_back(
    host: FakeHost, cap: CapPower, power: FakePower
) -> None:
    assert undo(cap, a_task()) == "its power limit is 400 W, as it was before"
    assert power.calls == []


def test_of_a_gpu_that_is_gone_there_is_nothing_to_put_back(host: FakeHost, cap: CapPower) -> None:
    host.driver.remove("GPU-0")

    assert "not there any more" in undo(cap, a_task())


def test_a_gpu_that_cannot_be_asked_is_asked_again(host: FakeHost, cap: CapPower) -> None:
    host.driver.lost["GPU-0"] = "GPU is lost"
    with pytest.raises(SourceError):
        undo(cap, a_task())
    del host.driver.lost["GPU-0"]
    host.driver.power_of["GPU-0"] = None
    with pytest.raises(RefusedError):
        undo(cap, a_task())


def test_a_limit_that_does_not_go_back_is_no_success(
    host: FakeHost, cap: CapPower, power: FakePower
) -> None:
    set_by_hand(host, 280)
    power.hangs = True
    with pytest.raises(EffectUnknownError):
        undo(cap, a_task())
    power.hangs, power.loses_answers = False, True
    with pytest.raises(EffectUnknownError):
        undo(cap, a_task())

    assert undo(cap, a_task()) == "its power limit is 400 W, as it was before"


class Deaf:
    """A driver that takes everything and does nothing."""

    def set_limit(self, gpu_uuid: str, milliwatts: int) -> None:
        assert gpu_uuid
        assert milliwatts


def test_a_driver_that_only_says_so_is_not_believed(host: FakeHost) -> None:
    deaf = CapPower(host.prometheus, host.driver, Deaf())
    set_by_hand(host, 280)

    with pytest.raises(EffectUnknownError, match="280 W all the same"):
        undo(deaf, a_task())
    set_by_hand(host, 400)
    deaf.execute(a_task(), MemorySteps())
    assert deaf.verify(a_task()).proof is Proof.DISPROVEN


def test_what_cannot_be_set_any_more_is_the_nearest_that_can(host: FakeHost, cap: CapPower) -> None:
    host.driver.power_of["GPU-0"] = replace(LIMITS, current=280_000, maximum=350_000)

    undo(cap, a_task())

    assert now_at(host) == 350


HIGH, CRITICAL = a_task(320), a_task(240, before=320)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(HIGH, CRITICAL, id="the older one ends first"),
        pytest.param(CRITICAL, HIGH, id="the newer one ends first"),
    ],
)
def test_the_last_one_out_puts_back_what_was_before_the_first(
    host: FakeHost, cap: CapPower, first: Task, then: Task
) -> None:
    set_by_hand(host, 240)
    both = (HIGH, CRITICAL)

    cap.undo(first, MemorySteps(), Stack(both, (then,)))
    meanwhile = now_at(host)
    cap.undo(then, MemorySteps(), Stack(both))

    assert meanwhile * 1000 == then.context["limit_mw"]
    assert now_at(host) == 400


def test_one_that_never_took_effect_does_not_lower_it_in_the_end(
    host: FakeHost, cap: CapPower
) -> None:
    set_by_hand(host, 320)

    said = cap.undo(HIGH, MemorySteps(), Stack((HIGH, CRITICAL), (CRITICAL,)))
    assert said == "its power limit stays at 320 W for another incident"
    cap.undo(CRITICAL, MemorySteps(), Stack((HIGH, CRITICAL)))

    assert now_at(host) == 400


def test_what_an_admin_chose_in_between_is_not_raised(host: FakeHost, cap: CapPower) -> None:
    """High made it 320, an administrator 300, Critical 240."""
    critical = a_task(240, before=300)
    set_by_hand(host, 240)

    cap.undo(critical, MemorySteps(), Stack((HIGH, critical), (HIGH,)))
    assert now_at(host) == 300
    cap.undo(HIGH, MemorySteps(), Stack((HIGH, critical)))

    assert now_at(host) == 300
