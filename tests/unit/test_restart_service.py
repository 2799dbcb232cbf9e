from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from remediator.core.attempts import Proof, Task
from remediator.core.observation import Fact, Observation, Report, Source, Verdict
from remediator.core.services import UnitState
from remediator.core.targets import Named, Service, Subject
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations.restart_service import RestartService
from tests.builders import HOUR, MINUTE, NOON, SECOND, an_alert
from tests.fakes import FakeFiring, FakePrometheus, MemorySteps
from tests.fakes_maintenance import FakeMaintenance, in_the_middle_of_maintenance
from tests.fakes_services import Call, FakeServices

HOST = "gpu1"
UNIT = "good.service"
ALERT = an_alert({"instance": "127.0.0.1:9101"}, name="DS01ExporterDown")
RUN = "a" * 32
RUNNING = UnitState(
    UNIT, active="active", sub="running", invocation_id=RUN, active_since=NOON - 5 * HOUR
)


class Site:
    """Prometheus with the alert firing for ten minutes, and a unit that has run for hours."""

    def __init__(self) -> None:
        self.prometheus = FakePrometheus()
        self.prometheus.alerts.append(FakeFiring(ALERT.labels, NOON - 10 * MINUTE))
        self.units = FakeServices()
        self.units.assume(RUNNING)
        self.maintenance = FakeMaintenance()
        self.remediation = RestartService(
            self.prometheus,
            self.units,
            HOST,
            settles_for=timedelta(),
            maintenance=self.maintenance,
        )

    def look(self, unit: str = UNIT, now: datetime = NOON) -> Observation:
        return self.remediation.observe(ALERT, now, {"unit": unit})

    def systemd(self, unit: str = UNIT, now: datetime = NOON) -> Report:
        report = self.look(unit, now).report_of(Source.SYSTEMD)
        assert report is not None
        return report

    def restarts(self) -> int:
        return self.units.calls.count(Call("restart", UNIT))


@pytest.fixture
def site() -> Site:
    return Site()


def a_task(invocation_id: str = RUN, unit: str = UNIT) -> Task:
    context: dict[str, Fact] = {"invocation_id": invocation_id}
    return Task(Service(unit, HOST), timeout=0.3 * SECOND, context=context)


def test_a_unit_whose_alert_fires_is_agreed_on(site: Site) -> None:
    seen = site.look()

    assert [r.verdict for r in seen.reports] == [Verdict.AGREES, Verdict.AGREES]
    assert (seen.target, seen.title) == (Service(UNIT, HOST), UNIT)
    assert seen.context == {
        "was": "active (running)",
        "invocation_id": RUN,
        "summary": "it lies idle",
    }
    assert seen.active_since == NOON - 10 * MINUTE
    assert site.units.calls == []


def test_that_the_exporter_does_not_answer_is_no_objection(site: Site) -> None:
    site.prometheus.down.add("127.0.0.1:9101")

    assert site.look().reports[0].verdict is Verdict.AGREES


def test_an_alert_that_does_not_fire_there_is_no_agreement(site: Site) -> None:
    site.prometheus.alerts.clear()

    seen = site.look()

    assert seen.reports[0].verdict is Verdict.DISAGREES
    assert seen.reports[1].verdict is Verdict.SILENT


def test_a_silent_systemd_is_no_agreement(site: Site) -> None:
    site.units.silent = "the bus is gone"

    assert site.systemd().verdict is Verdict.SILENT


@pytest.mark.parametrize(
    ("changes", "verdict", "says"),
    [
        pytest.param({"load": "not-found"}, Verdict.GONE, "there is no unit", id="missing"),
        pytest.param({"load": "masked"}, Verdict.DISAGREES, "masked", id="masked"),
        pytest.param({"load": "bad-setting"}, Verdict.DISAGREES, "bad-setting", id="broken file"),
        pytest.param(
            {"active": "inactive", "sub": "dead"},
            Verdict.DISAGREES,
            "whoever stopped it starts it again",
            id="stopped by an administrator",
        ),
        pytest.param(
            {"active": "failed", "sub": "failed", "result": "start-limit-hit"},
            Verdict.AGREES,
            "failed (start-limit-hit)",
            id="started too often",
        ),
        pytest.param(
            {"active": "activating", "sub": "auto-restart"},
            Verdict.AGREES,
            "auto-restart",
            id="between two tries of a crash loop",
        ),
        pytest.param(
            {"active": "deactivating", "sub": "stop-sigterm", "job": 7, "job_type": "stop"},
            Verdict.DISAGREES,
            "systemd is at it",
            id="being stopped",
        ),
        pytest.param(
            {"active": "deactivating", "sub": "stop-sigterm"},
            Verdict.DISAGREES,
            "deactivating",
            id="ending by itself",
        ),
        pytest.param(
            {"active_since": NOON - MINUTE},
            Verdict.DISAGREES,
            "after the alert began: that has 5 min to help",
            id="started anew since",
        ),
        pytest.param(
            {"active_since": NOON - MINUTE, "n_restarts": 3},
            Verdict.AGREES,
            "started by systemd 3 times in vain",
            id="started anew by systemd again and again",
        ),
        pytest.param(
            {"active_since": NOON - 6 * MINUTE},
            Verdict.AGREES,
            "active (running) since",
            id="started anew, which has not helped",
        ),
        pytest.param(
            {"active_since": None}, Verdict.SILENT, "nobody tells since when", id="no time"
        ),
    ],
)
def test_a_unit_is_judged_by_its_state(
    site: Site, changes: dict[str, object], verdict: Verdict, says: str
) -> None:
    site.units.assume(replace(RUNNING, **changes))  # type: ignore[arg-type]

    report = site.systemd()

    assert report.verdict is verdict
    assert says in report.says


def test_the_unit_is_restarted_once_and_runs_anew(site: Site) -> None:
    steps = MemorySteps()

    said = site.remediation.execute(a_task(), steps)

    assert (said, steps.names) == (f"{UNIT} was restarted", ["restart"])
    assert site.restarts() == 1
    assert site.remediation.verify(a_task()).proof is Proof.PROVEN


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"invocation_id": "b" * 32}, TargetGoneError, id="started anew"),
        pytest.param({"load": "not-found"}, TargetGoneError, id="deleted"),
        pytest.param({"active": "inactive", "sub": "dead"}, RefusedError, id="stopped"),
        pytest.param({"load": "masked"}, RefusedError, id="masked"),
        pytest.param({"job": 7, "job_type": "restart"}, RefusedError, id="in systemd's hands"),
    ],
)
def test_what_changed_since_the_decision_is_refused(
    site: Site, changes: dict[str, object], error: type[Exception]
) -> None:
    site.units.assume(replace(RUNNING, **changes))  # type: ignore[arg-type]
    steps = MemorySteps()

    with pytest.raises(error):
        site.remediation.execute(a_task(), steps)

    assert (steps.names, site.restarts()) == ([], 0)


def test_nothing_is_done_without_a_bus(site: Site) -> None:
    site.units.silent = "the bus is gone"

    with pytest.raises(RefusedError):
        site.remediation.execute(a_task(), MemorySteps())


def test_without_a_bus_after_a_crash_the_effect_is_unknown(site: Site) -> None:
    site.units.silent = "the bus is gone"

    with pytest.raises(EffectUnknownError):
        site.remediation.execute(a_task(), MemorySteps({"restart": MINUTE}))


def test_only_services_are_restarted(site: Site) -> None:
    with pytest.raises(RefusedError):
        site.remediation.execute(Task(Named(Subject("host", "gpu1"))), MemorySteps())


def test_after_a_crash_a_restart_that_has_happened_is_not_repeated(site: Site) -> None:
    site.units.assume(replace(RUNNING, invocation_id="b" * 32))
    steps = MemorySteps({"restart": MINUTE})

    said = site.remediation.execute(a_task(), steps)

    assert "had been restarted before the interruption" in said
    assert (steps.names, site.restarts()) == ([], 0)
    assert site.remediation.verify(a_task()).proof is Proof.PROVEN


@pytest.mark.parametrize("active", ["active", "failed"])
def test_after_a_crash_a_restart_that_was_never_asked_for_is_done(site: Site, active: str) -> None:
    site.units.assume(replace(RUNNING, active=active))

    site.remediation.execute(a_task(), MemorySteps({"restart": MINUTE}))

    assert site.restarts() == 1


def test_after_a_crash_a_unit_that_is_down_is_left_to_people(site: Site) -> None:
    site.units.assume(replace(RUNNING, active="inactive", sub="dead"))

    said = site.remediation.execute(a_task(), MemorySteps({"restart": MINUTE}))

    assert "inactive (dead) after the interruption" in said
    assert site.restarts() == 0
    assert site.remediation.verify(a_task()).proof is Proof.DISPROVEN


def test_after_a_crash_what_systemd_has_not_done_within_the_time_is_unknown(site: Site) -> None:
    site.units.assume(replace(RUNNING, active="deactivating", job=7, job_type="restart"))

    with pytest.raises(EffectUnknownError, match="after the interruption"):
        site.remediation.execute(a_task(), MemorySteps({"restart": MINUTE}))

    assert site.restarts() == 0
    assert site.remediation.verify(a_task()).proof is Proof.UNKNOWN


def test_a_restart_that_systemd_refuses_is_told(site: Site) -> None:
    site.units.refused.add(UNIT)

    with pytest.raises(RefusedError, match="systemd refused to restart"):
        site.remediation.execute(a_task(), MemorySteps())

    assert site.remediation.verify(a_task()).says.endswith("still the old run")


def test_a_unit_that_fails_again_is_no_success(site: Site) -> None:
    site.units.broken.add(UNIT)

    with pytest.raises(EffectUnknownError):
        site.remediation.execute(a_task(), MemorySteps())

    found = site.remediation.verify(a_task())
    assert (found.proof, found.says) == (Proof.DISPROVEN, f"{UNIT} is failed (exit-code)")


@pytest.mark.parametrize(
    ("changes", "proof"),
    [
        ({}, Proof.DISPROVEN),
        ({"invocation_id": "b" * 32}, Proof.PROVEN),
        ({"invocation_id": "b" * 32, "active": "inactive"}, Proof.DISPROVEN),
        ({"invocation_id": "b" * 32, "active": "activating"}, Proof.DISPROVEN),
        ({"invocation_id": "b" * 32, "active": "inactive", "kind": "oneshot"}, Proof.PROVEN),
        ({"invocation_id": "b" * 32, "job": 3, "job_type": "start"}, Proof.UNKNOWN),
        ({"load": "not-found", "active": "inactive"}, Proof.DISPROVEN),
    ],
    ids=["old run", "new run", "down", "crash loop", "ran once", "not yet", "deleted"],
)
def test_only_a_new_run_that_stays_up_is_proof(
    site: Site, changes: dict[str, object], proof: Proof
) -> None:
    site.units.assume(replace(RUNNING, **changes))  # type: ignore[arg-type]

    assert site.remediation.verify(a_task()).proof is proof


def test_without_a_bus_nothing_is_proven(site: Site) -> None:
    site.units.silent = "the bus is gone"

    assert site.remediation.verify(a_task()).proof is Proof.UNKNOWN


@in_the_middle_of_maintenance
def test_in_the_middle_of_maintenance_nothing_is_started(
    site: Site, why: str | None, silent: str, verdict: Verdict
) -> None:
    site.maintenance.why, site.maintenance.silent = why, silent

    report = site.systemd()

    assert report.verdict is verdict
    assert (why or silent) in report.says
    with pytest.raises(RefusedError, match=r"\(process 7\)|Permission denied"):
        site.remediation.execute(a_task(), MemorySteps())
    assert site.units.calls == []


def test_a_restart_that_was_begun_before_maintenance_is_brought_to_its_end(site: Site) -> None:
    site.maintenance.why = "mig-parted (process 7)"

    site.remediation.execute(a_task(), MemorySteps({"restart": SECOND}))

    assert [call.verb for call in site.units.calls] == ["restart"]
