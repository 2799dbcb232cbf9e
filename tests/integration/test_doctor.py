"""`remediator doctor` on a whole site: green with everything up, and one red line for one fault."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
import yaml

from tests.eventually import eventually
from tests.peers.alertmanager import Alertmanager
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.process import Daemon
from tests.peers.prometheus import Prometheus
from tests.peers.site import Site
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.gpu,
    pytest.mark.systemd,
]

NOWHERE = "127.0.0.1:9"
TESTS = (
    "FROM firing JOIN decision USING (fingerprint, starts_at)"
    " WHERE alertname = 'RemediatorDoctorTest'"
)


@dataclass(frozen=True, slots=True)
class Hospital:
    """A site that is well, with what can be taken away from it."""

    site: Site
    programs: dict[str, Daemon]
    alertmanager: Alertmanager
    prometheus: Prometheus

    def recover(self) -> None:
        """Wait until Prometheus has found out that all is well."""

        def is_well() -> bool:
            answer = requests.get(f"{self.prometheus.url}/api/v1/targets", timeout=5).json()
            targets = answer["data"]["activeTargets"]
            return bool(targets) and all(target["health"] == "up" for target in targets)

        eventually(is_well, 30, "all targets to be up")

    def doctor(self, *flags: str, code: int, **settings: object) -> str:
        """What doctor prints, where *settings* go over the site's own."""
        path = self.site.folder / "doctor.yaml"
        own = yaml.safe_load((self.site.folder / "settings.yaml").read_text())
        own["alertmanager_url"] = self.alertmanager.url
        path.write_text(yaml.safe_dump({**own, **settings}))
        return self.site.run("doctor", *flags, f"--settings={path}", code=code)

    def findings(self, code: int, **settings: object) -> dict[str, dict[str, str]]:
        """What doctor finds, by name."""
        printed = self.doctor("--json", code=code, **settings)
        return {finding["name"]: finding for finding in json.loads(printed)}

    def bad(self, **settings: object) -> dict[str, str]:
        """The remedies of what is bad, by name."""
        found = self.findings(1, **settings).values()
        return {one["name"]: one["remedy"] for one in found if one["health"] == "bad"}


@pytest.fixture(scope="module")
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


@pytest.fixture(scope="module")
def hospital(
    module_stage: Stage, engine: DockerEngine, gpus: GpuHost, systemd_host: SystemdHost
) -> Hospital:
    mail = module_stage.mail_server()
    settings = {"dbus_address": systemd_host.bus_address}
    site = Site(module_stage, engine, gpus, mail=mail, more_settings=settings).prepare()
    alertmanager = site.start_alertmanager()
    prometheus = site.start_prometheus(alertmanager)
    programs: dict[str, Daemon] = {
        "alertmanager": alertmanager.daemon,
        "prometheus": prometheus.daemon,
        "exporter": site.start_exporter(),
        "receiver": site.start_receiver(),
        "worker": site.start_worker(),
    }
    made = Hospital(site, programs, alertmanager, prometheus)
    made.recover()
    return made


def test_all_is_well_and_the_test_alert_has_arrived_and_been_held(hospital: Hospital) -> None:
    findings = hospital.findings(0)

    assert {finding["health"] for finding in findings.values()} == {"good"}
    assert "taken and held after" in findings["test alert"]["says"]
    hospital.site.until(f"SELECT reason {TESTS} ORDER BY id", "no_policy_rule")
    assert hospital.site.ask(f"SELECT count(*) {TESTS} AND verdict = 'remediate'") == 0
    hospital.site.until(f"SELECT resolved_at IS NOT NULL {TESTS}", 1)


@pytest.mark.parametrize("name", ["exporter", "worker", "receiver", "prometheus", "alertmanager"])
def test_a_program_that_is_down_is_the_one_that_is_named(hospital: Hospital, name: str) -> None:
    program = hospital.programs[name]
    program.stop()

    bad = hospital.bad()

    program.start()
    hospital.recover()
    assert bad.keys() == {name}
    assert all(bad.values())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("policy", {"policy": "/nowhere/policy.yaml"}),
        ("limits", {"limits": "/nowhere/limits.yaml"}),
        ("token", {"token_file": "/etc/hostname-of-nobody"}),
        ("docker", {"docker_host": f"tcp://{NOWHERE}"}),
        ("systemd", {"dbus_address": "unix:path=/nowhere/bus"}),
        ("mail", {"mail": {"host": "127.0.0.1", "port": 9}}),
    ],
)
def test_what_cannot_be_had_is_the_one_line_that_is_bad(
    hospital: Hospital, name: str, settings: dict[str, object]
) -> None:
    bad = hospital.bad(**settings)

    assert bad.keys() == {name}
    assert bad[name]


def test_a_token_of_somebody_else_is_named(hospital: Hospital) -> None:
    other = hospital.site.folder / "other-token"
    other.write_text("a" * 40)

    assert hospital.bad(token_file=str(other)).keys() == {"token"}


def test_a_pause_is_named(hospital: Hospital) -> None:
    hospital.site.run("pause", "a driver update")

    findings = hospital.findings(1)

    hospital.site.run("resume")
    bad = [one for one in findings.values() if one["health"] == "bad"]
    assert [one["name"] for one in bad] == ["in charge"]
    assert "a driver update" in bad[0]["says"]


def test_quiet_says_all_by_its_exit_code(hospital: Hospital) -> None:
    assert hospital.doctor("--quiet", "--no-test-alert", code=0) == ""
    assert hospital.doctor("--quiet", "--no-test-alert", code=1, mail={"host": "::1"}) == ""
