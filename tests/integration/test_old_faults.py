"""The faults of the scripts that came before, each driven through exporter, Prometheus and rules.

Real containers, simulated GPUs, the shipped rules with their waits cut short, and a DCGM exporter
that can be told to say anything. GPU 0 and 1 are whole, GPU 2 is cut into slices.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.alert_rules.shipped import RULE_FILES
from tests.eventually import eventually
from tests.peers.dcgm import BLANK, DcgmExporter
from tests.peers.dockerd import DockerEngine, remove_test_containers
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.gpu.state import Mig
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.prometheus import Prometheus
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

# Hours in DS01's file: an idle timeout of 6 s, a runtime of 1 h, a hold of 4 s or of 15 min.
LIMITS = """\
defaults: {idle_timeout_h: 0.0017, max_runtime_h: 1, gpu_hold_after_stop_h: 0.25}
policies: {grace_period_m: 0.02}
container_types:
  docker: {idle_timeout_h: 0.0017}
user_overrides:
  patient: {idle_timeout_h: 12}
  hasty: {gpu_hold_after_stop_h: 0.0011}
"""
IDLE = "DS01ContainerIdle"


@dataclass
class World:
    """Everything that is real here, and what it can be asked."""

    host: GpuHost
    client: DockerClient
    dcgm: DcgmExporter
    second: DcgmExporter
    prometheus: Prometheus
    limits: Path
    slices: tuple[Mig, ...]

    def busy(self, gpu: int, percent: float) -> None:
        """Have DCGM say how busy a whole GPU is."""
        self.dcgm.set("DCGM_FI_DEV_GPU_UTIL", percent, gpu=str(gpu), UUID=self.host.uuid(gpu))

    def active(self, mig: Mig, ratio: float) -> None:
        """Have DCGM say how busy a slice is."""
        labels = {"gpu": "2", "UUID": self.host.uuid(2), "GPU_I_ID": str(mig.gi)}
        self.dcgm.set("DCGM_FI_PROF_GR_ENGINE_ACTIVE", ratio, **labels)

    def run(self, name: str, gpu: int | str, user: str = "alice", **more: Any) -> Container:
        """Start a container that does nothing."""
        labels = {"ds01.user": user, **more.pop("labels", {})}
        return run_gpu_container(self.client, self.host, name, gpus=(gpu,), labels=labels, **more)

    def fires(self, alertname: str, **labels: str) -> bool:
        """Whether an alert with these labels fires."""
        return any(
            labels.items() <= alert["labels"].items() for alert in self.prometheus.firing(alertname)
        )

    def value(self, expression: str) -> float | None:
        found = self.prometheus.query(expression)
        return found[0].value if found else None

    def clock(self, container: Container) -> float | None:
        """How long a container is proven idle, in seconds."""
        return self.value(f'ds01:container_idle_seconds{{container_id="{container.id}"}}')

    def look_again(self) -> None:
        """Wait until every rule was evaluated on what is true now."""
        for _ in range(2):
            since = time.time()
            eventually(
                lambda since=since: (
                    (  # type: ignore[misc]
                        self.value("min(prometheus_rule_group_last_evaluation_timestamp_seconds)")
                        or 0
                    )
                    > since
                ),
                15,
                "an evaluation",
            )


@pytest.fixture(scope="module")
def world(
    module_stage: Stage, engine: DockerEngine, session_docker_client: DockerClient
) -> Iterator[World]:
    with GpuHost(gpus=3) as host:
        slices = host.partition(2, "1g.10gb", "2g.20gb")
        dcgm, second = DcgmExporter().start(), DcgmExporter("hostname").start()
        limits = module_stage.folder / "limits" / "resource-limits.yaml"
        limits.parent.mkdir()
        limits.write_text(LIMITS)
        exporter = _exporter(module_stage, engine, host, limits)
        prometheus = module_stage.prometheus(
            RULE_FILES,
            {"ds01-exporter": [exporter], "dcgm-exporter": [dcgm.address, second.address]},
            rule_interval="1s",
            waits="2s",
        )
        prometheus.add_target("prometheus", prometheus.address)
        world = World(host, session_docker_client, dcgm, second, prometheus, limits, tuple(slices))
        for gpu in range(2):
            world.busy(gpu, 0)
        for mig in slices:
            world.active(mig, 0)
        yield world
        remove_test_containers(session_docker_client)
        dcgm.stop()
        second.stop()


def _exporter(stage: Stage, engine: DockerEngine, host: GpuHost, limits: Path) -> str:
    """Start the exporter far from UTC, since clocks and time zones were a fault of their own."""
    port = free_port()
    address = f"{LOOPBACK}:{port}"
    stage.daemon(
        "exporter",
        [
            *(sys.executable, "-m", "remediator", "export", "--listen", address),
            *("--docker-host", engine.url, "--limits", str(limits)),
        ],
        ready=lambda: answers(port),
        environment={**os.environ, **host.environment, "TZ": "America/New_York"},
    )
    return address


@contextmanager
def removed(*containers: Container) -> Iterator[None]:
    try:
        yield
    finally:
        for container in containers:
            container.remove(force=True)


def test_a_slice_at_ninety_percent_is_not_idle_and_its_idle_sister_is(world: World) -> None:
    busy, idle = world.slices
    world.active(busy, 0.9)
    working = world.run("working", busy.uuid)
    lazy = world.run("lazy", idle.uuid)
    with removed(working, lazy):
        eventually(lambda: world.fires(IDLE, container_id=lazy.id), 40, "the idle slice is found")
        world.look_again()

        assert not world.fires(IDLE, container_id=working.id)
        assert world.clock(working) == 0


def test_a_blank_temperature_alarms_nobody_and_a_real_one_does(world: World) -> None:
    for gpu, temperature in ((0, BLANK), (1, 95.0)):
        labels = {"gpu": str(gpu), "UUID": world.host.uuid(gpu)}
        world.dcgm.set("DCGM_FI_DEV_GPU_TEMP", temperature, **labels)

    hot = {"UUID": world.host.uuid(1)}
    eventually(lambda: world.fires("DS01GPUCriticalTemperature", **hot), 20, "the hot GPU")
    world.look_again()
    fine = {"UUID": world.host.uuid(0)}
    blank_alarms = world.fires("DS01GPUCriticalTemperature", **fine)
    world.dcgm.set("DCGM_FI_DEV_GPU_TEMP", 60, gpu="1", **hot)

    assert not blank_alarms
    eventually(lambda: not world.fires("DS01GPUCriticalTemperature", **hot), 90, "it cools down")


def test_one_failed_scrape_neither_ends_an_alert_nor_starts_its_wait_anew(world: World) -> None:
    idle = world.run("patiently-watched", 0)
    with removed(idle):
        eventually(lambda: world.fires(IDLE, container_id=idle.id), 40, "the idle container")
        began = _active_at(world, idle)
        scrapes = world.dcgm.scrapes

        world.dcgm.answers = False
        eventually(lambda: world.dcgm.scrapes > scrapes, 5, "a scrape that fails")
        world.dcgm.answers = True
        world.look_again()

        assert world.fires(IDLE, container_id=idle.id)
        assert _active_at(world, idle) == began
        assert (world.clock(idle) or 0) > 5


def _active_at(world: World, container: Container) -> str:
    alerts = world.prometheus.firing(IDLE)
    (mine,) = [a for a in alerts if a["labels"]["container_id"] == container.id]
    return str(mine["activeAt"])


def test_a_new_container_with_an_old_name_and_a_restarted_one_start_their_own_clocks(
    world: World,
) -> None:
    first = world.run("phoenix", 1, user="patient")
    eventually(lambda: (world.clock(first) or 0) > 3, 40, "some idle time")
    first.remove(force=True)
    second = world.run("phoenix", 1, user="patient")
    with removed(second):
        fresh = eventually(
            lambda: (world.clock(second) or 0) + 0.001 if world.clock(second) is not None else None,
            20,
            "the new one's clock",
        )
        assert fresh < 3
        eventually(lambda: (world.clock(second) or 0) > 3, 40, "some idle time again")
        second.restart(timeout=1)
        eventually(lambda: (world.clock(second) or 99) < 3, 20, "the clock of the restarted one")
        eventually(lambda: world.clock(first) is None, 20, "the first one's clock is gone")


def test_one_busy_gpu_makes_its_container_busy_and_everybody_on_it(world: World) -> None:
    world.busy(0, 80)
    both = run_gpu_container(
        world.client, world.host, "both", gpus=(0, 1), labels={"ds01.user": "alice"}
    )
    guest = world.run("guest", 0, user="bob")
    other = world.run("other", 1, user="bob")
    with removed(both, guest, other):
        eventually(lambda: world.fires(IDLE, container_id=other.id), 40, "the idle container")
        world.look_again()
        idle = [world.fires(IDLE, container_id=c.id) for c in (both, guest)]
        world.busy(0, 0)

        assert idle == [False, False]


def test_a_second_series_of_a_gpu_breaks_no_rule(world: World) -> None:
    uuid = world.host.uuid(0)
    for family, value in (
        ("DCGM_FI_DEV_GPU_UTIL", 0.0),
        ("DCGM_FI_DEV_GPU_TEMP", 50.0),
        ("DCGM_FI_DEV_FB_USED", 10.0),
        ("DCGM_FI_DEV_FB_FREE", 90.0),
        ("DCGM_FI_DEV_XID_ERRORS", 0.0),
        ("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 0.0),
        ("DCGM_FI_DEV_POWER_USAGE", 70.0),
    ):
        for exporter in (world.dcgm, world.second):
            exporter.set(family, value, gpu="0", UUID=uuid)
    idle = world.run("twice-seen", 0)
    with removed(idle):
        eventually(lambda: world.fires(IDLE, container_id=idle.id), 40, "the idle container")
        world.look_again()

        failures = world.value("sum(prometheus_rule_evaluation_failures_total)")
        assert failures == 0
        assert len([a for a in world.prometheus.firing(IDLE)
                    if a["labels"]["container_id"] == idle.id]) == 1  # fmt: skip


def test_an_xid_is_told_when_it_happens_and_not_for_ever(world: World) -> None:
    old, new = world.host.uuid(0), world.host.uuid(1)
    # GPU 0 comes with a code from before anybody looked, GPU 1 gets one while it is watched.
    world.second.set("DCGM_FI_DEV_XID_ERRORS", 62, gpu="7", UUID="GPU-stale")
    for uuid in (old, new):
        world.dcgm.set("DCGM_FI_DEV_XID_ERRORS", 0, gpu="0", UUID=uuid)
    world.look_again()

    world.dcgm.set("DCGM_FI_DEV_XID_ERRORS", 62, gpu="1", UUID=new)
    eventually(lambda: world.fires("DS01GPUXIDError", UUID=new), 20, "the new error")
    world.dcgm.set("DCGM_FI_DEV_XID_ERRORS", 43, gpu="0", UUID=old)
    world.look_again()

    assert not world.fires("DS01GPUXIDError", UUID="GPU-stale")
    assert not world.fires("DS01GPUXIDError", UUID=old), "43 is an application's own fault"
    world.dcgm.set("DCGM_FI_DEV_XID_ERRORS", 0, gpu="1", UUID=new)
    world.dcgm.set("DCGM_FI_DEV_XID_ERRORS", 0, gpu="0", UUID=old)


def test_the_drivers_own_advice_is_what_asks_for_a_reset(world: World) -> None:
    world.host.set(0, recovery_action=1)
    wedged = {"UUID": world.host.uuid(0)}

    eventually(lambda: world.fires("DS01GPUNeedsReset", **wedged), 20, "the wedged GPU")
    world.host.set(0, recovery_action=0)
    eventually(lambda: not world.fires("DS01GPUNeedsReset", **wedged), 20, "it is well again")

    assert not world.fires("DS01GPUNeedsReset", UUID=world.host.uuid(1))


def test_no_label_makes_a_family_disappear(world: World) -> None:
    hostile = world.run(
        "hostile", 0, labels={"ds01.interface": "api", "evil": 'a"b\\c\nd', "ds01.user": 'x"y\n'}
    )
    everything = world.run("everything", 1, environment={"NVIDIA_VISIBLE_DEVICES": "all"})
    with removed(hostile, everything):

        def told() -> bool:
            rows = world.prometheus.query("ds01_container_info")
            return {"hostile", "everything"} <= {row.labels["container"] for row in rows}

        eventually(told, 20, "both are shown")
        world.look_again()

        assert world.value("count(ds01_gpu_allocated)") is not None
        assert world.value("min(ds01_collector_success)") == 1


def test_no_process_of_a_living_container_is_an_orphan(world: World) -> None:
    forking = world.run("forking", 1, task="forks")
    stray = world.host.start_task(0, uid=12345)
    with removed(forking):
        found = {"pid": str(stray.pid)}
        eventually(lambda: world.fires("DS01GPUOrphanProcess", **found), 30, "the orphan")
        world.look_again()

        orphans = world.prometheus.firing("DS01GPUOrphanProcess")
        assert [alert["labels"]["pid"] for alert in orphans] == [str(stray.pid)]
    stray.kill()
    stray.wait()
    eventually(lambda: not world.fires("DS01GPUOrphanProcess", **found), 30, "it is gone")


def test_a_container_that_just_stopped_is_held_whatever_the_time_zone(world: World) -> None:
    kept, due = world.run("kept", 0), world.run("due", 1, user="hasty")
    with removed(kept, due):
        for container in (kept, due):
            container.stop(timeout=1)

        holds = "DS01StoppedContainerHoldsGPU"
        eventually(lambda: world.fires(holds, container_id=due.id), 40, "the hold that is over")

        assert not world.fires(holds, container_id=kept.id)


def test_a_broken_exemption_voids_itself_and_a_broken_file_changes_nothing(world: World) -> None:
    exemptions = world.limits.with_name("lifecycle-exemptions.yaml")
    exemptions.write_text(
        "exemptions:\n"
        "  - {username: carol, exempt_from: [idle_timeout_h], reason: thesis,"
        " approved_by: dean, expires_on: null}\n"
        "  - {username: dave, exempt_from: [everything], reason: '', approved_by: dean}\n"
    )
    exempt = world.run("exempt", 0, user="carol")
    not_exempt = world.run("not-exempt", 1, user="dave")
    with removed(exempt, not_exempt):
        eventually(lambda: world.fires("DS01ExemptionVoid"), 20, "the void entry is told")
        timeout = "ds01_container_idle_timeout_seconds"
        eventually(
            lambda: world.value(f'{timeout}{{container_id="{not_exempt.id}"}}'), 20, "a limit"
        )
        assert world.value(f'{timeout}{{container_id="{exempt.id}"}}') is None

        world.limits.write_text("defaults: {idle_timeout_h: [")
        eventually(lambda: world.fires("DS01LimitsNotLoaded"), 20, "the broken file is told")
        assert world.value(f'{timeout}{{container_id="{not_exempt.id}"}}') == pytest.approx(6.12)
        world.limits.write_text(LIMITS)
        exemptions.unlink()
        eventually(lambda: not world.fires("DS01LimitsNotLoaded"), 30, "it is mended")


def test_the_first_warning_comes_before_the_last_and_that_before_the_alert(world: World) -> None:
    idle = world.run("warned", 0)
    first: dict[str, float] = {}
    names = ["DS01ContainerIdleSoon", "DS01ContainerIdleFinal", IDLE]

    def all_seen() -> bool:
        # Of one answer: between two, the rules may be evaluated, and only the later one is seen.
        alerts = [a for a in world.prometheus.alerts() if a["state"] == "firing"]
        mine = [a["labels"] for a in alerts if a["labels"].get("container_id") == idle.id]
        firing = {labels["alertname"] for labels in mine}
        for name in names:
            if name not in first and name in firing:
                first[name] = time.monotonic()
        return len(first) == len(names)

    with removed(idle):
        eventually(all_seen, 40, "all three")

    assert first[names[0]] < first[IDLE]
    assert sorted(first, key=first.__getitem__)[-1] == IDLE


def test_nothing_of_a_removed_container_stays(world: World) -> None:
    gone = world.run("gone", 0)
    eventually(lambda: world.fires(IDLE, container_id=gone.id), 40, "the idle container")
    gone.remove(force=True)

    mine = f'{{__name__=~"ds01_container_.*",container_id="{gone.id}"}}'
    eventually(lambda: not world.fires(IDLE, container_id=gone.id), 20, "its alert ends")
    eventually(lambda: not world.prometheus.query(mine), 20, "its series end")
