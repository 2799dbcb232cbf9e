"""From a DCGM exporter that hangs to fresh values, by the shipped rule and the shipped policy."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.eventually import eventually
from tests.integration.test_closed_loop import delivery
from tests.peers.dcgm_host import UNIT, DcgmUnit, answers
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.site import ROOT, Site
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.systemd,
    pytest.mark.gpu,
]

ATTEMPTS = "SELECT count(*) FROM attempt"
STATE = "SELECT state FROM attempt WHERE remediation = 'restart-dcgm' AND state <> 'refused'"
ENDED = f"{STATE} AND ended_at NOT NULL"
REASONS = "SELECT group_concat(DISTINCT reason) FROM decision"


def shipped_policy() -> dict[str, Any]:
    policy: dict[str, Any] = yaml.safe_load((ROOT / "compose" / "policy.example.yaml").read_text())
    return {**policy, "mode": "act"}


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(1) as host:
        yield host


@pytest.fixture
def exporter(
    engine: DockerEngine, systemd_host: SystemdHost, gpus: GpuHost, docker_client: object
) -> Iterator[DcgmUnit]:
    del docker_client
    unit = DcgmUnit(engine, systemd_host, [str(gpus.get(0, "uuid"))])
    yield unit
    unit.remove()


@pytest.fixture
def site(
    stage: Stage,
    engine: DockerEngine,
    gpus: GpuHost,
    systemd_host: SystemdHost,
    exporter: DcgmUnit,
) -> Site:
    return Site(
        stage,
        engine,
        gpus,
        policy=shipped_policy(),
        waits="2s",
        scrape={"dcgm-exporter": [exporter.address]},
        more_settings={
            "gpu_metrics": False,
            "dbus_address": systemd_host.bus_address,
            "dcgm_unit": UNIT,
            "dcgm_url": f"http://{exporter.address}/metrics",
        },
    )


def test_an_exporter_that_hangs_is_restarted_and_measures_again(
    site: Site, exporter: DcgmUnit
) -> None:
    exporter.install()
    prometheus = site.start()
    exporter.kill("STOP")

    site.until(ENDED, "succeeded", within=60)

    assert exporter.starts() == 2
    assert answers(exporter.address)
    story = site.run("incidents", "show", "1")
    for part in (
        "DS01DCGMExporterDown",
        'policy rule "DCGM exporter"',
        "prometheus agrees: DS01DCGMExporterDown is firing since",
        f"systemd agrees: {UNIT} is active (running) since",
        "nvml agrees: the driver answers for 1 GPUs",
        "dcgm agrees: no answer from",
        "restarted",
        "its values are fresh: energy (mJ)",
    ):
        assert part in story
    eventually(
        lambda: (
            "DS01DCGMExporterDown" not in {a["labels"]["alertname"] for a in prometheus.alerts()}
        ),
        20,
        "the alert ends",
    )
    assert site.ask(f"{ATTEMPTS} WHERE state <> 'refused'") == 1


def test_an_exporter_that_an_administrator_stopped_stays_stopped(
    site: Site, exporter: DcgmUnit
) -> None:
    exporter.install()
    site.start()
    exporter.host.systemctl("stop", UNIT)

    eventually(lambda: "condition_gone" in str(site.ask(REASONS)), 40, "a hold")

    assert "whoever stopped it starts it again" in site.run("incidents", "show", "1")
    assert (site.ask(ATTEMPTS), exporter.starts()) == (0, 1)


def test_a_forged_alert_restarts_nothing(site: Site, exporter: DcgmUnit) -> None:
    exporter.install()
    site.start()
    labels = {"alertname": "DS01DCGMStale", "instance": exporter.address, "severity": "critical"}

    assert site.deliver(delivery(labels)).status_code == 200
    eventually(lambda: site.ask(REASONS) == "unconfirmed", 20, "a hold")

    assert (site.ask(ATTEMPTS), exporter.starts()) == (0, 1)


def test_a_worker_that_is_killed_while_systemd_is_at_it_restarts_once(
    site: Site, exporter: DcgmUnit
) -> None:
    exporter.install(options="ExecStop=/bin/sleep 3")
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    exporter.kill("STOP")
    eventually(lambda: exporter.is_("deactivating"), 60, "systemd stops it")

    worker.kill()
    site.start_worker()
    site.until(ENDED, "succeeded", within=60)

    assert (site.ask(ATTEMPTS), exporter.starts()) == (1, 2)
