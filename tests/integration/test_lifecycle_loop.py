"""Containers that stay for too long, from the metric to the end, with all real but the driver."""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from docker.errors import NotFound
from docker.models.containers import Container

from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import build_gpu_image, run_gpu_container
from tests.peers.site import POLICY, Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

NOBODY = 65534
GRACE = 3
IDLE_LIMITS: dict[str, Any] = {
    "policies": {"grace_period_m": 0.01, "sigterm_grace_s": GRACE},
    "container_types": {"docker": {"idle_timeout_h": 0.001, "sigterm_grace_s": GRACE}},
}
STOPS = "SELECT count(*) FROM attempt WHERE remediation = 'stop-container' AND state = 'succeeded'"
REMOVALS = (
    "SELECT count(*) FROM attempt WHERE remediation = 'remove-container' AND state = 'succeeded'"
)


def a_rule(name: str, alertname: str, remediation: str, **changes: Any) -> dict[str, Any]:
    """A policy rule in seconds where a real site has minutes."""
    rung = {
        remediation: None,
        "attempts": ["2 per 6h"],
        "cooldown": "5s",
        "timeout": "30s",
        "verify": {"within": "15s"},
    }
    return {
        "name": name,
        "match": [f'alertname="{alertname}"'],
        "do": [rung],
        "tell": ["owner", "admins"],
        **changes,
    }


def a_policy(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"mode": "act", "breaker": {"open_after": ["50 per 1h"]}, "rules": [*rules], **changes}


IDLE = {**copy.deepcopy(POLICY["rules"][0]), "warn": {"before": "1s"}}


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(4) as host:
        yield host


@pytest.fixture
def site(stage: Stage, engine: DockerEngine, gpus: GpuHost, docker_client: object) -> Site:
    """A site whose containers are removed after the test (by ``docker_client``)."""
    del docker_client
    return Site(stage, engine, gpus, policy=a_policy(IDLE), limits=IDLE_LIMITS)


@pytest.fixture
def run(site: Site) -> Callable[..., Container]:
    """Start a GPU container on the site; further arguments as `run_gpu_container`."""
    client = site.docker
    return lambda name, **options: run_gpu_container(client, site.gpus, name, **options)


def state(site: Site, container: Container) -> str:
    try:
        return str(site.docker.containers.get(str(container.id)).status)
    except NotFound:
        return "gone"


def story(site: Site, query: str) -> str:
    """What `remediator incidents show` says of the incident that *query* gives."""
    return site.run("incidents", "show", str(site.ask(query)))


def test_exactly_as_many_as_the_budget_allows_are_stopped_and_all_at_the_same_time(
    site: Site, run: Callable[..., Container]
) -> None:
    """Twenty that ignore their signal: one after another, sixteen graces would take 48 s."""
    site.workers = 16
    site.policy = a_policy(IDLE, budget={"stop-container": ["16 per 1h"]})
    # All are there when the first is looked at: to start them takes longer than to stop them.
    containers = [run(f"idle-{n}", gpus=(n % 4,), task="stubborn") for n in range(20)]
    site.start()

    site.until(STOPS, 16, within=150)
    held = (
        "SELECT count(DISTINCT incident) FROM decision WHERE reason = 'budget' AND incident NOT IN"
        " (SELECT incident FROM attempt WHERE remediation = 'stop-container'"
        " AND state <> 'refused')"
    )
    site.until(held, 4, within=30)

    assert [state(site, container) for container in containers].count("running") == 4
    stops = "SELECT count(*) FROM attempt WHERE remediation = 'stop-container'"
    assert site.ask(f"{stops} AND state <> 'refused'") == 16
    steps = "FROM step WHERE name = 'stop'"
    began, ended = (
        datetime.fromisoformat(str(site.ask(query)))
        for query in ("SELECT min(began_at) " + steps, "SELECT max(ended_at) " + steps)
    )
    assert (ended - began).total_seconds() < 16 * GRACE / 2


def test_a_busy_container_over_its_maximum_runtime_is_warned_and_stopped(
    site: Site, stage: Stage, run: Callable[..., Container]
) -> None:
    site.mail = stage.mail_server()
    warned = {"before": "3s", "tell": ["owner"]}
    site.policy = a_policy(
        a_rule("runtime", "DS01ContainerMaxRuntime", "stop-container", warn=warned)
    )
    site.limits = {
        **IDLE_LIMITS,
        "container_types": {"docker": {"max_runtime_h": 0.002, "sigterm_grace_s": GRACE}},
        "user_overrides": {"bob": {"max_runtime_h": None}},
    }
    site.start()
    busy = run("busy", task="busy", util=95, labels={"ds01.user": "alice"})
    exempt = run("exempt", gpus=(1,), task="busy", util=95, labels={"ds01.user": "bob"})
    busy.exec_run(["sh", "-c", "mkdir -p /workspace; touch /workspace/.keep-alive"])

    site.until(STOPS, 1, within=60)
    site.until("SELECT count(*) FROM notice WHERE state = 'pending'", 0, within=20)

    assert (state(site, busy), state(site, exempt)) == ("gone", "running")
    mails = {mail.subject: mail.text for mail in site.mail.to("alice@example.org")}
    [warning] = [text for subject, text in mails.items() if "will be stopped" in subject]
    assert "has reached its maximum runtime and will be" in " ".join(warning.split())
    assert "touch" not in warning
    told = story(site, "SELECT incident FROM attempt")
    assert "it has reached its maximum runtime of 7" in told
    assert "stopped with exit code 143" in told
    assert site.ask("SELECT count(*) FROM incident WHERE title = 'exempt'") == 0


def test_what_does_not_run_is_removed_and_what_is_started_again_is_kept(
    site: Site, run: Callable[..., Container]
) -> None:
    alerts = "DS01ContainerNeverStarted|DS01StoppedContainerHoldsGPU"
    rule = a_rule("leftover", alerts, "remove-container", warn={"before": "4s"})
    site.policy = a_policy({**rule, "match": [f'alertname=~"{alerts}"']})
    site.limits = {
        "policies": {"created_container_timeout_m": 0.05, "gpu_hold_after_manual_stop_m": 0.05}
    }
    site.start()
    environment = {"NVIDIA_VISIBLE_DEVICES": site.gpus.uuid(0)}
    image = build_gpu_image(site.docker)
    created = site.docker.containers.create(image, name="created", environment=environment)
    stopped, saved, running = run("stopped"), run("saved"), run("running")
    for container in (stopped, saved):
        container.stop(timeout=GRACE)

    # Whoever is warned and starts it again keeps it.
    warned = "SELECT count(*) FROM warning WHERE target LIKE '%{}%'".format
    tried = "SELECT {} FROM attempt WHERE target LIKE '%{}%'".format
    site.until(warned(saved.id), 1, within=60)
    saved.start()
    site.until(REMOVALS, 2, within=60)

    assert [state(site, container) for container in (created, stopped)] == ["gone", "gone"]
    assert [state(site, container) for container in (saved, running)] == ["running", "running"]
    assert site.ask(tried("count(*)", saved.id)) == 0
    told = story(site, tried("incident", created.id))
    assert "created is created since" in told
    assert "it is removed" in told


def test_the_epilog_finds_what_is_left_on_the_freed_gpu_and_the_policy_says_what_follows(
    site: Site, stage: Stage, run: Callable[..., Container], gpus: GpuHost
) -> None:
    """A host process on the GPU is told of under its policy rule, a wanted reset has none."""
    site.mail = stage.mail_server()
    site.policy = a_policy(IDLE, a_rule("orphan", "DS01GPUOrphanProcess", "notify-only"))
    site.start()
    orphan = gpus.start_task(0, uid=NOBODY)
    run("idle", task="stubborn")
    site.until("SELECT count(*) FROM step WHERE name = 'stop'", 1, within=60)

    # Only now, so that Prometheus has not told of it before.
    gpus.set(0, recovery_action=1)
    site.until(STOPS, 1, within=30)
    hints = "SELECT count(*) FROM firing WHERE origin = 'epilog'"
    site.until(hints, 2, within=5)
    closed = (
        "SELECT count(*) FROM incident i JOIN firing f ON f.incident = i.id WHERE"
        " f.origin = 'epilog' AND f.alertname = 'DS01GPUOrphanProcess'"
        " AND i.outcome = 'notify-only succeeded' AND i.closed_at NOT NULL"
    )
    site.until(closed, 1, within=20)
    site.until("SELECT count(*) FROM notice WHERE state = 'pending'", 0, within=20)

    assert orphan.poll() is None
    stopped = story(site, "SELECT incident FROM attempt WHERE remediation = 'stop-container'")
    assert "epilog: look at the freed GPU 0" in stopped
    assert f"pid {orphan.pid} (gpu-task) of nobody is on GPU 0" in stopped
    assert "the driver wants GPU 0 to be reset (recovery action 1)" in stopped
    told = story(site, "SELECT incident FROM firing WHERE alertname = 'DS01GPUOrphanProcess'")
    assert "DS01GPUOrphanProcess by the epilog of attempt 1" in told
    assert "journal agrees: stop-container (attempt 1," in told
    subjects = [mail.subject for mail in site.mail.to("admins@example.org")]
    assert [s for s in subjects if f"DS01GPUOrphanProcess: {orphan.pid}@" in s]
    assert [s for s in subjects if "DS01GPUNeedsReset: GPU 0 on gpu-host" in s]


@pytest.mark.parametrize("mode", ["observe", "approve", "act"])
def test_what_the_epilog_finds_is_ended_as_far_as_the_mode_allows(
    site: Site, run: Callable[..., Container], gpus: GpuHost, mode: str
) -> None:
    """Prometheus would wait for two minutes: whatever happens before is the epilog's."""
    rule = a_rule("orphan", "DS01GPUOrphanProcess", "kill-orphan", mode=mode)
    site.policy = a_policy(IDLE, rule)
    site.start()
    orphan, permitted = gpus.start_task(0, uid=NOBODY), gpus.start_task(0, uid=0)
    other = run("other", gpus=(1,), task="busy", util=90)
    run("idle", gpus=(0,))

    reason = {"observe": "observe_only", "approve": "waiting_for_approval", "act": None}[mode]
    incident = eventually(
        lambda: site.ask("SELECT incident FROM firing WHERE origin = 'epilog'"), 60, "a hint"
    )
    if reason:
        site.until("SELECT reason FROM decision WHERE policy_rule = 'orphan'", reason, within=20)
        assert orphan.poll() is None
    if mode == "approve":
        site.run("approve", str(incident))
    if mode != "observe":
        ended = "SELECT state FROM attempt WHERE remediation = 'kill-orphan'"
        site.until(ended, "succeeded", within=30)
        eventually(lambda: orphan.poll() is not None, 10, "the orphan has ended")
        site.until("SELECT count(*) FROM incident WHERE fault = 'orphan' AND closed_at IS NULL", 0)

    assert site.ask("SELECT count(*) FROM firing WHERE origin = 'epilog'") == 1
    assert permitted.poll() is None
    assert state(site, other) == "running"
    told = site.run("incidents", "show", str(incident))
    assert "journal agrees: stop-container (attempt 1," in told
    assert "nvml agrees: pid" in told


def test_a_reset_that_the_driver_wants_follows_as_soon_as_the_gpu_is_free(
    stage: Stage, engine: DockerEngine, docker_client: object
) -> None:
    """The rule would ask for it anyway, but while the container was there nobody could."""
    del docker_client
    with GpuHost(0) as gpus:
        # Who holds /dev/nvidiaN is looked for by its name: no other test has this number.
        gpus.add_gpu(minor=948)
        policy = a_policy(IDLE, a_rule("wedged GPU", "DS01GPUNeedsReset", "reset-gpu"))
        services: dict[str, Any] = {"gpu_services": []}
        site = Site(stage, engine, gpus, policy=policy, limits=IDLE_LIMITS, more_settings=services)
        site.start()
        run_gpu_container(site.docker, gpus, "idle", gpus=(0,), task="stubborn")
        site.until("SELECT count(*) FROM step WHERE name = 'stop'", 1, within=60)

        gpus.set(0, recovery_action=1, reset_required=1)
        site.until(STOPS, 1, within=30)
        reset = "SELECT state FROM attempt WHERE remediation = 'reset-gpu'"
        site.until(f"{reset} AND ended_at NOT NULL", "succeeded", within=60)

        assert gpus.get(0, "reset_count") == "1"
        told = story(site, "SELECT incident FROM attempt WHERE remediation = 'reset-gpu'")
        assert "DS01GPUNeedsReset by the epilog of attempt 1" in told
