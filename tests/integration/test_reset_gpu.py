"""A GPU is reset with everything real but the driver: from the metric to a healthy GPU.

The services around the GPU run under a real systemd and hold it; the DS01 exporter runs and holds
it as well; nvidia-smi is the stand-in, which refuses as the real one does.
"""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import yaml

from remediator.driver_lock import DriverLock
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import build_gpu_image, run_gpu_container
from tests.peers.gpu_services import CONFIGURED, ENGINE, EXPORTER, RUNNING, GpuUnits
from tests.peers.ports import LOOPBACK
from tests.peers.site import POLICY, ROOT, Site
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.systemd,
    pytest.mark.gpu,
]

# Numbers of devices that nothing else on this machine has: who holds /dev/nvidiaN is looked for by
# its name in the whole of /proc.
MINORS = (941, 942)
RULE = {
    "name": "wedged GPU",
    "match": ['alertname="DS01GPUNeedsReset"'],
    "do": [
        {
            "reset-gpu": None,
            "attempts": ["1 per 24h"],
            "timeout": "20s",
            "verify": {"within": "10s"},
        }
    ],
}
ATTEMPT = "SELECT state FROM attempt WHERE remediation = 'reset-gpu' AND state <> 'refused'"
SETTLED = f"{ATTEMPT} AND ended_at NOT NULL"
MESSAGE = "SELECT message FROM attempt WHERE remediation = 'reset-gpu'"
STEPS = "SELECT group_concat(name) FROM (SELECT name FROM step ORDER BY id)"


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(0) as host:
        for minor in MINORS:
            host.add_gpu(minor=minor)
        yield host


@pytest.fixture(scope="module")
def installed(systemd_host: SystemdHost) -> Iterator[GpuUnits]:
    made = GpuUnits(systemd_host, MINORS[0])
    made.install()
    yield made
    made.remove()


@pytest.fixture
def units(installed: GpuUnits) -> GpuUnits:
    """The services, as they were before anything was done to them."""
    installed.start()
    assert installed.running() == RUNNING
    return installed


@pytest.fixture
def site(
    stage: Stage,
    engine: DockerEngine,
    gpus: GpuHost,
    systemd_host: SystemdHost,
    units: GpuUnits,
    docker_client: object,
) -> Site:
    del docker_client, units
    policy = copy.deepcopy(POLICY)
    policy["rules"] = [RULE]
    settings = {
        "dbus_address": systemd_host.bus_address,
        "gpu_services": list(CONFIGURED),
        "dcgm_unit": EXPORTER,
    }
    return Site(stage, engine, gpus, policy=policy, more_settings=settings)


def resets(gpus: GpuHost) -> list[dict[str, Any]]:
    """The calls of nvidia-smi that were to reset something."""
    return [call for call in gpus.nvidia_smi_calls() if "--gpu-reset" in call["argv"]]


def test_a_gpu_that_wants_a_reset_gets_one_and_everything_runs_as_before(
    site: Site, gpus: GpuHost, units: GpuUnits
) -> None:
    before = units.started()
    site.start()
    eventually(lambda: len(gpus.holders(0)) >= 4, 10, "exporter and services hold it")

    gpus.set(0, recovery_action=1, reset_required=1)
    site.until(SETTLED, "succeeded", within=60)

    (call,) = resets(gpus)
    assert call["argv"][-1] == gpus.uuid(0)
    assert gpus.get(0, "reset_count") == "1"
    assert gpus.get(1, "reset_count") == "0"
    assert site.ask(STEPS) == "quiesce,free,reset,check,restore"
    assert units.running() == RUNNING
    after = units.started()
    assert {name for name in before if before[name] != after[name]} == RUNNING
    assert "is well; running again: " in str(site.ask(MESSAGE))
    eventually(lambda: len(gpus.holders(0)) >= 4, 10, "all hold it again")
    health = f"http://{LOOPBACK}:{site.exporter_port}/metrics"
    action = f'ds01_gpu_recovery_action{{UUID="{gpus.uuid(0)}"}} 0.0'
    eventually(lambda: action in requests.get(health, timeout=5).text, 10, "it is told")


def test_a_worker_that_is_killed_during_the_reset_resets_once_and_restores_everything(
    site: Site, gpus: GpuHost, units: GpuUnits
) -> None:
    gpus.set(0, reset_hang=6)
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    gpus.set(0, recovery_action=1)
    site.until("SELECT count(*) FROM step WHERE name = 'reset'", 1, within=60)
    assert units.running() == frozenset()

    worker.kill()
    # The kernel has not freed the locks: nvidia-smi is still at work, and has them.
    assert DriverLock(site.state_dir).is_taken()
    assert units.running() == frozenset()
    site.start_worker()
    site.until(SETTLED, "succeeded", within=60)

    assert "interrupted during the reset; the GPU is well" in str(site.ask(MESSAGE))
    assert len(resets(gpus)) == 1
    assert gpus.get(0, "reset_count") == "1"
    assert units.running() == RUNNING
    assert not DriverLock(site.state_dir).is_taken()
    eventually(lambda: len(gpus.holders(0)) >= 4, 10, "all hold it again")


def test_a_worker_that_is_killed_before_the_reset_resets_nothing_and_restores_everything(
    site: Site, gpus: GpuHost, units: GpuUnits
) -> None:
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    # Passes for the exporter, and does not let go: that is waited for.
    command = ["bash", "-c", "exec -a 'remediator export' sleep 120"]
    with gpus.device(0).open("rb") as device:
        stubborn = subprocess.Popen(command, stdin=device)
    gpus.set(0, recovery_action=1)
    site.until("SELECT count(*) FROM step WHERE name = 'free'", 1, within=60)
    eventually(lambda: units.running() == frozenset(), 10, "all are stopped")

    worker.kill()
    stubborn.kill()
    stubborn.wait()
    site.start_worker()
    site.until(SETTLED, "failed", within=60)

    assert "interrupted before the GPU was reset" in str(site.ask(MESSAGE))
    assert resets(gpus) == []
    assert units.running() == RUNNING


@dataclass(frozen=True, slots=True)
class Lab:
    """reset-gpu without a worker around it, on a host with services and containers."""

    site: Site
    gpus: GpuHost
    units: GpuUnits

    def look(self) -> dict[str, Any]:
        return self._run("look")

    def execute(self) -> dict[str, Any]:
        told = self._run("execute")
        assert self.units.running() == RUNNING
        return told

    def _run(self, what: str) -> dict[str, Any]:
        settings = str(self.site.folder / "settings.yaml")
        done = subprocess.run(
            [sys.executable, "-m", "tests.peers.reset_lab", settings, self.gpus.uuid(0), what],
            check=False,
            env=self.site.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told


@pytest.fixture
def lab(site: Site, gpus: GpuHost, units: GpuUnits) -> Lab:
    gpus.set(0, recovery_action=1)
    site.prepare()
    site.state_dir.mkdir(exist_ok=True)
    return Lab(site, gpus, units)


def refused(lab: Lab, source: str) -> str:
    """What *source* says against a reset, which is refused for it without a change."""
    before = lab.units.started()
    verdict, says = lab.look()[source]
    told = lab.execute()

    assert verdict == "disagrees"
    assert told["error"] == "RefusedError"
    assert told["steps"] == []
    assert lab.units.started() == before
    assert resets(lab.gpus) == []
    return str(says)


def test_who_holds_the_gpu_is_named_and_kept(lab: Lab) -> None:
    task = lab.gpus.start_task(0, uid=65534)

    says = refused(lab, "nvml")

    assert f"pid {task.pid} " in says
    assert "nobody" in says
    assert task.poll() is None


def test_a_mere_client_is_a_holder_too(lab: Lab) -> None:
    with lab.gpus.device(0).open("rb"):
        assert f"pid {os.getpid()} " in refused(lab, "nvml")


def test_an_idle_container_that_was_given_the_gpu_keeps_it(lab: Lab) -> None:
    container = lab.site.docker.containers.run(
        build_gpu_image(lab.site.docker),
        ["sleep", "600"],
        detach=True,
        name="train",
        environment={"NVIDIA_VISIBLE_DEVICES": lab.gpus.uuid(0)},
        labels={"ds01.user": "alice"},
    )

    assert "train of alice (running, claims GPU 0)" in refused(lab, "docker")
    container.pause()
    assert "train of alice (paused, " in refused(lab, "docker")


def test_a_container_with_all_gpus_keeps_them(lab: Lab) -> None:
    lab.site.docker.containers.run(
        build_gpu_image(lab.site.docker),
        ["sleep", "600"],
        detach=True,
        name="all",
        environment={"NVIDIA_VISIBLE_DEVICES": "all"},
        labels={"ds01.user": "bob"},
    )

    assert "all of bob (running, claims all GPUs)" in refused(lab, "docker")


def test_the_tenants_of_a_gpu_in_mig_mode_are_named(lab: Lab) -> None:
    (slice_,) = lab.gpus.partition(0, "1g.10gb")
    run_gpu_container(
        lab.site.docker, lab.gpus, "slice", gpus=(slice_.uuid,), labels={"ds01.user": "alice"}
    )

    says = refused(lab, "nvml")

    assert "in MIG mode and never reset" in says
    assert "slice of alice (running, claims GPU 0.0)" in says


def test_services_alone_are_no_hindrance_and_run_again(lab: Lab) -> None:
    assert {verdict for verdict, _ in lab.look().values()} == {"agrees"}

    told = lab.execute()

    assert told["proof"] == "proven"
    assert told["steps"] == ["quiesce", "free", "reset", "check", "restore"]
    assert lab.gpus.get(0, "reset_count") == "1"


def test_a_nvidia_smi_that_hangs_leaves_it_unknown_and_the_services_running(lab: Lab) -> None:
    lab.gpus.set(0, reset_hang=60)

    told = lab.execute()

    assert told["error"] == "EffectUnknownError"
    assert "has not ended within 3 s" in told["said"]
    assert told["steps"][-1] == "restore"
    assert not DriverLock(lab.site.state_dir).is_taken()


def test_a_reset_that_does_not_complete_is_for_a_person_with_the_evidence(lab: Lab) -> None:
    lab.gpus.set(0, reset_incomplete=1)

    told = lab.execute()

    assert "the reset did not complete, reboot the host" in told["said"]
    assert told["proof"] == "disproven"
    (evidence,) = (lab.site.state_dir / "evidence").iterdir()
    assert str(evidence) in told["said"]
    text = evidence.read_text()
    assert f"GPU UUID : {lab.gpus.uuid(0)}" in text
    assert f"{ENGINE}: active (running); now active (running)" in text
    assert "it advises a reset (recovery action 1)" in text


def test_persistence_mode_that_counts_as_a_user_is_switched_off_and_on(lab: Lab) -> None:
    lab.gpus.set(0, reset_needs_persistence_off=1)

    told = lab.execute()

    assert told["proof"] == "proven"
    assert "reset-again" in told["steps"]
    assert lab.gpus.get(0, "persistence") == "1"


def test_linked_gpus_of_old_generations_go_together_or_not_at_all(lab: Lab) -> None:
    for gpu, other in ((0, 1), (1, 0)):
        lab.gpus.set(gpu, nvlink=other, compute_capability="7.0")
    task = lab.gpus.start_task(1)
    assert f"GPU 1: pid {task.pid} " in refused(lab, "nvml")
    task.kill()
    task.wait()

    told = lab.execute()

    assert told["proof"] == "proven"
    assert [lab.gpus.get(gpu, "reset_count") for gpu in (0, 1)] == ["1", "1"]


def test_an_exporter_that_cannot_read_the_lock_is_named_as_a_holder(lab: Lab) -> None:
    """It goes on as before: it is let pass by its name, and found out when it does not let go."""
    elsewhere = lab.site.folder / "elsewhere"
    settings = yaml.safe_load((lab.site.folder / "settings.yaml").read_text())
    other = lab.site.folder / "exporter.yaml"
    other.write_text(yaml.safe_dump({**settings, "state_dir": str(elsewhere)}))
    environment = {**lab.site.environment(), "REMEDIATOR_SETTINGS": str(other)}
    exporter = lab.site.stage.daemon(
        "export",
        [sys.executable, "-m", "remediator", "export"],
        ready=lambda: len(lab.gpus.holders(0)) == 4,
        environment=environment,
    )

    told = lab.execute()

    assert told["error"] == "RefusedError"
    assert f"it is still held by pid {exporter.pid} " in told["said"]
    assert "remediator export" in told["said"]
    assert resets(lab.gpus) == []
