import json
from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.attempts import Proof, Task
from remediator.core.dcgm import GpuFigures
from remediator.core.gpus import GpuGauges
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.services import UnitState
from remediator.core.targets import Service
from remediator.errors import RefusedError
from remediator.remediations.dcgm_watch import DcgmWatch
from remediator.remediations.restart_dcgm import LEAST_STOP, PATIENCE, RestartDcgm
from remediator.remediations.unit_restart import UnitRestart
from tests.builders import HOUR, MINUTE, NOON, SECOND, an_alert
from tests.fakes import FakeFiring, FakePrometheus, MemorySteps
from tests.fakes_dcgm import FakePage, MeteredDriver
from tests.fakes_maintenance import FakeMaintenance, in_the_middle_of_maintenance
from tests.fakes_services import Call, FakeServices

UNIT = "good.service"
SERVICE = Service(UNIT, "gpu1")
ALERT = an_alert({"instance": "127.0.0.1:9400"}, name="DS01DCGMStale")
STALE = GpuFigures(5000.0, 60.0, 35.0, 79)
RUNNING = UnitState(
    UNIT,
    active="active",
    sub="running",
    invocation_id="a" * 32,
    active_since=NOON - 5 * HOUR,
    stop_timeout=90 * SECOND,
)


class Site:
    """A host whose exporter has frozen while its driver goes on, and Prometheus knows it."""

    def __init__(self) -> None:
        self.prometheus = FakePrometheus()
        self.prometheus.alerts.append(FakeFiring(ALERT.labels, NOON - 10 * MINUTE))
        self.units = FakeServices()
        self.units.assume(RUNNING)
        self.page = FakePage("GPU-0", "GPU-1")
        self.page.show("GPU-1", STALE)
        self.page.frozen = True
        self.driver = MeteredDriver(gpus=2)
        self.maintenance = FakeMaintenance()
        self.remediation = RestartDcgm(
            self.prometheus,
            UnitRestart(self.units, PATIENCE, timedelta(), LEAST_STOP),
            DcgmWatch(self.page, self.driver, 0.01 * SECOND, 0.001 * SECOND),
            SERVICE,
            self.maintenance,
        )

    def look(self) -> Observation:
        return self.remediation.observe(ALERT, NOON, {})

    def report(self, source: Source) -> Report:
        found = self.look().report_of(source)
        assert found is not None
        return found

    def task(self) -> Task:
        return Task(SERVICE, timeout=SECOND, context=self.look().context)

    def heal(self, call: Call) -> None:
        """Let the restarted exporter measure again."""
        assert call == Call("restart", UNIT)
        self.page.frozen = False
        self.page.down = ""


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_frozen_exporter_is_proven_by_four(site: Site) -> None:
    seen = site.look()

    assert {report.source: report.verdict for report in seen.reports} == dict.fromkeys(
        (Source.PROMETHEUS, Source.SYSTEMD, Source.NVML, Source.DCGM), Verdict.AGREES
    )
    assert (seen.target, seen.title) == (SERVICE, UNIT)
    assert json.loads(str(seen.context["xids"])) == {"GPU-1": 79}
    assert "the driver's have: energy (mJ) of GPU-0 went from" in seen.reports[-1].says
    assert site.units.calls == []


def test_an_exporter_that_does_not_answer_is_down(site: Site) -> None:
    site.page.down = "connection refused"

    report = site.report(Source.DCGM)

    assert (report.verdict, report.says) == (Verdict.AGREES, "connection refused")


def test_that_the_exporter_does_not_answer_prometheus_is_no_objection(site: Site) -> None:
    site.prometheus.down.add("127.0.0.1:9400")

    assert site.report(Source.PROMETHEUS).verdict is Verdict.AGREES


def test_an_exporter_that_measures_is_left_alone(site: Site) -> None:
    site.page.frozen = False

    report = site.report(Source.DCGM)

    assert report.verdict is Verdict.DISAGREES
    assert "its values are fresh" in report.says


def test_a_page_that_moves_is_not_watched_any_longer(site: Site) -> None:
    site.page.frozen = False
    watch = DcgmWatch(site.page, site.driver, HOUR, 0.001 * SECOND)

    assert watch.look().reports[-1].verdict is Verdict.DISAGREES


def test_a_page_without_values_is_a_fault(site: Site) -> None:
    for uuid in ("GPU-0", "GPU-1"):
        site.page.show(uuid, GpuFigures())

    assert site.report(Source.DCGM).verdict is Verdict.AGREES


def test_where_nothing_moves_nothing_is_proven(site: Site) -> None:
    site.driver.stand_still = True

    assert site.report(Source.DCGM).verdict is Verdict.SILENT


@pytest.mark.parametrize("down", ["", "connection refused"])
def test_a_silent_driver_is_no_reason_to_restart_its_reader(site: Site, down: str) -> None:
    site.driver.silent = "driver not loaded"
    site.page.down = down

    seen = site.look()

    assert [r.verdict for r in seen.reports if r.source is Source.NVML] == [Verdict.SILENT]
    assert seen.report_of(Source.DCGM) is None


def test_gpus_that_are_lost_hide_nothing_of_the_others(site: Site) -> None:
    site.driver.lost["GPU-0"] = "fell off the bus"
    assert site.report(Source.DCGM).verdict is Verdict.AGREES

    site.driver.lost["GPU-1"] = "fell off the bus"
    assert "GPU GPU-1 is lost" in site.report(Source.NVML).says


def test_a_driver_that_falls_silent_meanwhile_is_no_agreement(site: Site) -> None:
    site.page.before_read = lambda: setattr(site.driver, "silent", "it hangs")

    assert site.report(Source.NVML).verdict is Verdict.SILENT


def test_without_energy_power_and_temperature_have_to_do(site: Site) -> None:
    site.driver.gauges_of = {uuid: GpuGauges(35.0, None, 60.0, None) for uuid in ("GPU-0", "GPU-1")}
    assert site.report(Source.DCGM).verdict is Verdict.SILENT

    site.page.frozen = False
    site.page.show("GPU-0", STALE)
    assert site.report(Source.DCGM).verdict is Verdict.DISAGREES


@pytest.mark.parametrize("who", ["prometheus", "systemd"])
def test_nobody_watches_what_will_be_held_anyway(site: Site, who: str) -> None:
    if who == "prometheus":
        site.prometheus.alerts.clear()
    else:
        site.units.assume(replace(RUNNING, active="inactive", sub="dead"))

    seen = site.look()

    assert {r.source for r in seen.reports} == {Source.PROMETHEUS, Source.SYSTEMD}
    assert site.page.reads == 0


def test_an_exporter_that_has_just_been_started_is_given_time(site: Site) -> None:
    site.units.assume(replace(RUNNING, active_since=NOON - MINUTE))
    assert site.report(Source.SYSTEMD).verdict is Verdict.DISAGREES

    site.units.assume(replace(RUNNING, active_since=NOON - 2 * MINUTE))
    assert site.report(Source.SYSTEMD).verdict is Verdict.AGREES


def test_a_restart_that_brings_fresh_values_is_proven(site: Site) -> None:
    task = site.task()
    site.units.before_call = site.heal

    said = site.remediation.execute(task, MemorySteps())
    found = site.remediation.verify(task)

    assert said == f"{UNIT} was restarted"
    assert found.proof is Proof.PROVEN
    assert "its values are fresh" in found.says
    assert "it still shows XID 79 of GPU-1, which is kept by the host engine" in found.says


def test_an_xid_that_the_restart_has_cleared_is_not_spoken_of(site: Site) -> None:
    task = site.task()
    site.units.before_call = site.heal
    site.remediation.execute(task, MemorySteps())
    site.page.show("GPU-1", replace(STALE, xid=0))

    assert "XID" not in site.remediation.verify(task).says


@pytest.mark.parametrize("down", ["", "status 500"], ids=["frozen", "down"])
def test_an_exporter_that_answers_200_or_not_is_no_success_without_fresh_values(
    site: Site, down: str
) -> None:
    task = site.task()
    site.remediation.execute(task, MemorySteps())
    site.page.down = down

    found = site.remediation.verify(task)

    assert found.proof is Proof.DISPROVEN
    assert (down or "have not changed") in found.says


@pytest.mark.parametrize("fault", ["silent", "stand_still"])
def test_what_the_driver_does_not_tell_is_not_known(site: Site, fault: str) -> None:
    task = site.task()
    site.remediation.execute(task, MemorySteps())
    setattr(site.driver, fault, "it hangs")

    assert site.remediation.verify(task).proof is Proof.UNKNOWN


def test_an_old_run_is_no_success_whatever_its_page_shows(site: Site) -> None:
    task = site.task()
    site.page.frozen = False

    assert site.remediation.verify(task).proof is Proof.DISPROVEN


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        ({"stop_timeout": 10 * SECOND}, True),
        ({"stop_timeout": 10 * SECOND, "sends_sigkill": False}, False),
        ({"stop_timeout": 45 * SECOND}, False),
        ({"stop_timeout": None}, False),
    ],
    ids=["killed early", "never killed", "45 s", "waited for"],
)
def test_a_unit_file_that_lets_it_be_killed_early_is_spoken_of(
    site: Site, changes: dict[str, object], warned: bool
) -> None:
    site.units.assume(replace(RUNNING, **changes))  # type: ignore[arg-type]
    steps = MemorySteps()

    said = site.remediation.execute(site.task(), steps)

    assert ("lets systemd kill it after 10 s" in said) is warned
    assert ("TimeoutStopSec=45" in steps.said["restart"]) is warned


@in_the_middle_of_maintenance
def test_in_the_middle_of_maintenance_nothing_is_started(
    site: Site, why: str | None, silent: str, verdict: Verdict
) -> None:
    task = site.task()
    site.maintenance.why, site.maintenance.silent = why, silent

    report = site.report(Source.SYSTEMD)

    assert report.verdict is verdict
    assert (why or silent) in report.says
    with pytest.raises(RefusedError, match=r"\(process 7\)|Permission denied"):
        site.remediation.execute(task, MemorySteps())
    assert site.units.calls == []


def test_a_restart_that_was_begun_before_maintenance_is_brought_to_its_end(site: Site) -> None:
    task = site.task()
    site.maintenance.why = "mig-parted (process 7)"

    site.remediation.execute(task, MemorySteps({"restart": SECOND}))

    assert [call.verb for call in site.units.calls] == ["restart"]
