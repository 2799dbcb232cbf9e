"""restart-dcgm and restart-service on a real systemd, with an exporter that can be broken."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from remediator.actuators.services import Services
from remediator.core.attempts import Proof, Task
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import Service
from remediator.errors import EffectUnknownError, RefusedError, RemediationError
from remediator.remediations.dcgm_watch import DcgmWatch
from remediator.remediations.restart_dcgm import LEAST_STOP, RestartDcgm
from remediator.remediations.restart_service import RestartService
from remediator.remediations.unit_restart import UnitRestart
from remediator.sources.dcgm_page import DcgmPage
from remediator.system_bus import SystemBus
from tests.builders import HOUR, SECOND, an_alert
from tests.eventually import eventually
from tests.fakes import FakeFiring, FakePrometheus, MemorySteps
from tests.fakes_dcgm import MeteredDriver
from tests.peers.dcgm_host import UNIT, DcgmUnit, answers
from tests.peers.dockerd import DockerEngine
from tests.peers.systemd_host import SystemdHost
from tests.unit.mortal import DiedError, MortalSteps

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.systemd]

HOST = "gpu-host"
STALE = an_alert({"instance": "127.0.0.1:9400"}, name="DS01DCGMStale")
SETTLES = 0.5 * SECOND


@pytest.fixture
def exporter(
    engine: DockerEngine, systemd_host: SystemdHost, docker_client: object
) -> Iterator[DcgmUnit]:
    del docker_client
    unit = DcgmUnit(engine, systemd_host, ["GPU-0", "GPU-1"])
    yield unit
    unit.remove()


@pytest.fixture
def services(systemd_host: SystemdHost) -> Services:
    return Services(SystemBus(systemd_host.bus_address, 5 * SECOND))


@pytest.fixture
def prometheus() -> FakePrometheus:
    fake = FakePrometheus()
    # It began when the unit was long up, as far as the unit's age is concerned.
    fake.alerts.append(FakeFiring(STALE.labels, datetime.now(UTC) + HOUR))
    return fake


@pytest.fixture
def dcgm(exporter: DcgmUnit, services: Services, prometheus: FakePrometheus) -> RestartDcgm:
    page = DcgmPage(f"http://{exporter.address}/metrics", SECOND)
    watch = DcgmWatch(page, MeteredDriver(gpus=2), SECOND, 0.1 * SECOND)
    owner = UnitRestart(services, timedelta(), SETTLES, LEAST_STOP)
    return RestartDcgm(prometheus, owner, watch, Service(UNIT, HOST))


@pytest.fixture
def service(services: Services, prometheus: FakePrometheus) -> RestartService:
    return RestartService(prometheus, services, HOST, timedelta(), SETTLES)


def look(remediation: RestartDcgm | RestartService) -> Observation:
    return remediation.observe(STALE, datetime.now(UTC), {"unit": UNIT})


def verdict(seen: Observation, source: Source) -> Verdict:
    report = seen.report_of(source)
    assert report is not None
    return report.verdict


def task_for(seen: Observation, timeout: timedelta = 10 * SECOND) -> Task:
    assert seen.target is not None
    return Task(seen.target, timeout=timeout, context=seen.context)


def test_an_exporter_that_measures_is_left_alone(dcgm: RestartDcgm, exporter: DcgmUnit) -> None:
    exporter.install()

    assert verdict(look(dcgm), Source.DCGM) is Verdict.DISAGREES


@pytest.mark.parametrize(
    ("signal", "state"),
    [
        pytest.param("STOP", "active", id="hung"),
        pytest.param("USR1", "active", id="frozen"),
        pytest.param("USR2", "active", id="answers 500"),
        pytest.param("KILL", "failed", id="dead"),
    ],
)
def test_a_broken_exporter_is_restarted_until_its_values_are_fresh(
    dcgm: RestartDcgm, exporter: DcgmUnit, signal: str, state: str
) -> None:
    exporter.install()
    exporter.kill(signal)
    eventually(lambda: exporter.is_(state), 5, f"it is {state}")
    seen = look(dcgm)
    assert {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert {report.source for report in seen.reports} >= {Source.SYSTEMD, Source.DCGM}
    task = task_for(seen)

    dcgm.execute(task, MemorySteps())
    eventually(lambda: answers(exporter.address), 5, "it answers")
    found = dcgm.verify(task)

    assert (found.proof, exporter.starts()) == (Proof.PROVEN, 2)
    assert "its values are fresh" in found.says
    assert verdict(look(dcgm), Source.DCGM) is Verdict.DISAGREES


def test_an_exporter_that_stays_frozen_is_no_success(dcgm: RestartDcgm, exporter: DcgmUnit) -> None:
    exporter.install("--never-measures")
    task = task_for(look(dcgm))

    dcgm.execute(task, MemorySteps())
    eventually(lambda: answers(exporter.address), 5, "it answers")

    found = dcgm.verify(task)
    assert found.proof is Proof.DISPROVEN
    assert "its values have not changed" in found.says


def test_one_that_was_started_too_often_is_restarted_all_the_same(
    service: RestartService, exporter: DcgmUnit
) -> None:
    exporter.install(
        options="Restart=on-failure\nRestartSec=0",
        limits="StartLimitIntervalSec=60\nStartLimitBurst=2",
    )
    exporter.kill("KILL")
    eventually(lambda: exporter.starts() == 2, 5, "systemd starts it anew")
    exporter.kill("KILL")
    eventually(lambda: exporter.is_("failed"), 5, "systemd gives up")
    seen = look(service)
    assert verdict(seen, Source.SYSTEMD) is Verdict.AGREES
    task = task_for(seen)

    service.execute(task, MemorySteps())

    assert service.verify(task).proof is Proof.PROVEN


def test_one_that_cannot_stay_up_is_no_success(service: RestartService, exporter: DcgmUnit) -> None:
    exporter.install()
    task = task_for(look(service))
    broken = "[Service]\nExecStart=/bin/sh -c 'sleep 0.2; exit 1'\n"
    exporter.host.add_unit(UNIT, broken)

    service.execute(task, MemorySteps())

    found = service.verify(task)
    assert found.proof is Proof.DISPROVEN
    assert "failed (exit-code)" in found.says


@pytest.mark.parametrize("how", ["stopped", "masked while it runs"])
def test_what_an_administrator_wants_down_is_left_alone(
    service: RestartService, dcgm: RestartDcgm, exporter: DcgmUnit, how: str
) -> None:
    exporter.install()
    before = task_for(look(service))
    if how == "stopped":
        exporter.host.systemctl("stop", UNIT)
    else:
        exporter.host.run("ln", "-sf", "/dev/null", f"/etc/systemd/system/{UNIT}")
        exporter.host.systemctl("daemon-reload")

    assert verdict(look(service), Source.SYSTEMD) is Verdict.DISAGREES
    assert verdict(look(dcgm), Source.SYSTEMD) is Verdict.DISAGREES
    for remediation in (service, dcgm):
        with pytest.raises(RefusedError):
            remediation.execute(before, MemorySteps())
    assert exporter.starts() == 1
    assert exporter.is_("active") is (how != "stopped")


def test_a_unit_that_does_not_exist_is_gone(service: RestartService) -> None:
    assert verdict(look(service), Source.SYSTEMD) is Verdict.GONE


def test_one_that_does_not_end_is_not_killed(dcgm: RestartDcgm, exporter: DcgmUnit) -> None:
    exporter.install("--ignores-term")
    exporter.kill("USR1")
    task = task_for(look(dcgm), timeout=SECOND)

    with pytest.raises(EffectUnknownError, match="takes too long to restart"):
        dcgm.execute(task, MemorySteps())

    assert dcgm.verify(task).proof is Proof.UNKNOWN
    assert answers(exporter.address)
    assert exporter.starts() == 1


def test_a_unit_that_systemd_gives_up_to_stop_leaves_the_exporter_alive(
    dcgm: RestartDcgm, exporter: DcgmUnit
) -> None:
    exporter.install("--ignores-term", options="TimeoutStopSec=1")
    exporter.kill("USR1")
    task = task_for(look(dcgm))

    try:
        said = dcgm.execute(task, MemorySteps())
    except RemediationError as error:
        said = str(error)

    assert said
    assert dcgm.verify(task).proof is not Proof.PROVEN
    assert answers(exporter.address), "it was not killed"


@pytest.mark.parametrize("done", [False, True], ids=["before it", "after it"])
def test_a_worker_that_dies_at_the_restart_restarts_once(
    service: RestartService, exporter: DcgmUnit, done: bool
) -> None:
    exporter.install()
    task = task_for(look(service))
    with pytest.raises(DiedError):
        service.execute(task, MortalSteps("restart", done=done))

    service.execute(task, MemorySteps({"restart": SECOND}))

    assert service.verify(task).proof is Proof.PROVEN
    assert exporter.starts() == 2


def test_a_worker_that_dies_while_systemd_is_at_it_waits_for_systemd(
    service: RestartService, services: Services, exporter: DcgmUnit
) -> None:
    exporter.install(options="ExecStop=/bin/sleep 2")
    task = task_for(look(service))
    with pytest.raises(EffectUnknownError):
        # The life that was cut off, as far as systemd is concerned.
        services.restart(UNIT, 0.2 * SECOND)

    said = service.execute(task, MemorySteps({"restart": SECOND}))

    assert "had been restarted before the interruption" in said
    assert service.verify(task).proof is Proof.PROVEN
    assert exporter.starts() == 2


def test_without_a_bus_nothing_is_known_and_nothing_done(
    prometheus: FakePrometheus, exporter: DcgmUnit, service: RestartService
) -> None:
    exporter.install()
    task = task_for(look(service))
    nowhere = Services(SystemBus("unix:path=/nonexistent/bus", SECOND))
    deaf = RestartService(prometheus, nowhere, HOST)

    assert verdict(look(deaf), Source.SYSTEMD) is Verdict.SILENT
    with pytest.raises(RefusedError):
        deaf.execute(task, MemorySteps())
    assert deaf.verify(task).proof is Proof.UNKNOWN
    assert exporter.starts() == 1


def test_a_bus_that_is_restarted_meanwhile_changes_nothing(
    service: RestartService, exporter: DcgmUnit
) -> None:
    exporter.install(options="ExecStop=/bin/sleep 2")
    task = task_for(look(service))
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(service.execute(task, MemorySteps())))
    thread.start()
    eventually(lambda: exporter.is_("deactivating"), 5, "it is being stopped")

    exporter.host.systemctl("restart", "dbus.service")
    thread.join(20)

    assert said == [f"{UNIT} was restarted"]
    assert service.verify(task).proof is Proof.PROVEN
    assert exporter.starts() == 2
