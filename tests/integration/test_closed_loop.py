"""The main job, with everything real but the NVIDIA driver: from a metric to a verified stop."""

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from docker.errors import NotFound
from docker.models.containers import Container

from tests.eventually import eventually, patience
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.site import POLICY, ROOT, Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

HURRIED_LIMITS: dict[str, Any] = {
    "policies": {"grace_period_m": 0.01, "sigterm_grace_s": 3},
    "container_types": {"docker": {"idle_timeout_h": 0.001, "sigterm_grace_s": 3}},
}
# One that was refused has changed nothing: it came too late on a slow machine, and is made again.
ATTEMPTS = "SELECT count(*) FROM attempt WHERE remediation = 'stop-container'"
DONE = f"{ATTEMPTS} AND state <> 'refused'"
STOPS = "SELECT count(*) FROM step WHERE name = 'stop'"
SETTLED = (
    "SELECT state FROM attempt WHERE remediation = 'stop-container'"
    " AND ended_at NOT NULL AND state <> 'refused'"
)


def hurried_policy(**changes: Any) -> dict[str, Any]:
    """The demo's policy with a warning of a second, and *changes* to the rule about idleness."""
    policy = copy.deepcopy(POLICY)
    policy["rules"][0].update({"warn": {"before": "1s"}, **changes})
    return policy


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(3) as host:
        yield host


@pytest.fixture
def site(stage: Stage, engine: DockerEngine, gpus: GpuHost, docker_client: object) -> Site:
    """A site whose containers are removed after the test (by ``docker_client``)."""
    del docker_client
    return Site(stage, engine, gpus, policy=hurried_policy(), limits=HURRIED_LIMITS)


@pytest.fixture
def run(site: Site) -> Callable[..., Container]:
    """Start a GPU container on the site; further arguments as `run_gpu_container`."""
    client = site.docker
    return lambda name, **options: run_gpu_container(client, site.gpus, name, **options)


def exists(site: Site, container: Container) -> bool:
    try:
        site.docker.containers.get(str(container.id))
    except NotFound:
        return False
    return True


def is_untouched(site: Site, container: Container) -> bool:
    """Whether it runs on as the very process that was started."""
    now = site.docker.containers.get(str(container.id)).attrs["State"]
    before = container.attrs["State"]
    return all(now[key] == before[key] for key in ("Status", "Pid", "StartedAt"))


def forged(container: Container, **labels: str) -> dict[str, str]:
    """The labels of the idle alert, aimed at *container*."""
    return {
        "alertname": "DS01ContainerIdle",
        "container_id": str(container.id),
        "container": str(container.name),
        "severity": "warning",
        "user": "alice",
        **labels,
    }


def delivery(
    *alerts: dict[str, str], starts_at: datetime | None = None, status: str = "firing"
) -> bytes:
    """A body as Alertmanager sends it, made from a recorded one."""
    recorded = (ROOT / "tests" / "data" / "webhook_firing.raw.json").read_text()
    body = json.loads(recorded)
    at = (starts_at or datetime.now(UTC)).isoformat()
    body["alerts"] = [
        {
            **body["alerts"][0],
            "labels": labels,
            "status": status,
            "startsAt": at,
            "fingerprint": f"{hash(tuple(sorted(labels.items()))) & (2**64 - 1):016x}",
        }
        for labels in alerts
    ]
    return json.dumps(body).encode()


def holds(site: Site, container: Container) -> list[str]:
    """The reasons given for leaving *container* alone, in order."""
    subject = f"container:{container.id}"
    journal = site.journal()
    try:
        incidents = [i for i in journal.incidents.latest(100) if i.subject == subject]
        return [
            str(decision.reason)
            for incident in incidents
            for decision in journal.decisions.of_incident(incident.id)
        ]
    finally:
        journal.close()


def test_exactly_the_idle_container_is_stopped_removed_told_and_explained(
    site: Site, stage: Stage, run: Callable[..., Container]
) -> None:
    site.mail = stage.mail_server()
    terminals = stage.terminals()
    terminal, others = terminals.login("alice"), terminals.login("bob")
    site.wall = "owner"
    site.start()

    idle = run("idle", gpus=(0,), labels={"ds01.user": "alice"})
    busy = run("busy", gpus=(1,), task="busy", util=80, labels={"ds01.user": "bob"})
    exempt = run("exempt", gpus=(2,), labels={"ds01.protected": "true"})
    site.until(SETTLED, "succeeded", within=40)
    admins = "SELECT count(*) FROM notice WHERE recipient LIKE 'admins%' AND state = 'sent'"
    site.until(admins, 1, within=10)

    assert not exists(site, idle)
    assert is_untouched(site, busy)
    assert is_untouched(site, exempt)
    subjects = [mail.subject for mail in site.mail.to("alice@example.org")]
    assert [s for s in subjects if "will be stopped" in s]
    assert [s for s in subjects if "was stopped and removed" in s]
    assert "touch /workspace/.keep-alive" in terminal.read()
    assert others.read() == ""
    number = site.ask("SELECT incident FROM attempt WHERE remediation = 'stop-container'")
    story = site.run("incidents", "show", str(number))
    for part in (
        "owner alice",
        'policy rule "idle container"',
        "prometheus agrees: DS01ContainerIdle is firing since",
        "docker agrees: idle is running since",
        "nvml agrees: GPU 0 is 0 % used by 1 of its processes; CPU",
        "stopped with exit code 143",
        "removed",
        "none left",
        "stop-container succeeded",
        "warning by mail to alice@example.org",
        "1 of 1 terminals of alice reached",
    ):
        assert part in story
    assert site.run("incidents", "list").count("idle") >= 1
    # The stand-in driver's meter shows 60 W.
    of_the_stop = "FROM attempt WHERE remediation = 'stop-container'"
    assert site.ask(f"SELECT json_extract(task, '$.context.gpu_watts') {of_the_stop}") == "60"
    told = json.loads(site.run("report", "--month", f"{datetime.now(UTC):%Y-%m}", "--json"))
    assert told["figures"]["alert_to_proven"]["times"] == 1
    assert [owner["owner"] for owner in told["owners"]] == ["alice"]
    assert told["owners"][0]["energy_kilowatt_hours"] is not None


def test_a_forged_alert_about_a_busy_container_is_a_visible_hold(
    site: Site, run: Callable[..., Container]
) -> None:
    _, alertmanager = site.start_watching()
    site.start_receiver()
    site.start_worker()
    busy = run("busy", gpus=(1,), task="busy", util=80)
    straight = run("straight", gpus=(2,), task="busy", util=80)

    alertmanager.post([{"labels": forged(busy)}])
    assert site.deliver(delivery(forged(straight))).status_code == 200
    eventually(lambda: holds(site, busy), 20, "a decision about the busy container")
    eventually(lambda: holds(site, straight), 20, "a decision about the other one")

    assert set(holds(site, busy)) == {"unconfirmed"}
    assert set(holds(site, straight)) == {"unconfirmed"}
    assert "resolved, stale or forged" in site.run("incidents", "show", "1")
    assert "unconfirmed" in site.run("incidents", "list")
    assert site.ask(ATTEMPTS) == 0
    assert is_untouched(site, busy)
    assert is_untouched(site, straight)


def test_an_alert_that_really_fires_does_not_stop_a_container_that_became_busy(
    site: Site, run: Callable[..., Container], gpus: GpuHost
) -> None:
    """Prometheus is still right about the past; NVML knows better about now."""
    site.policy = hurried_policy(warn={"before": "4s"})
    site.start()
    container = run("idle", gpus=(0,))

    site.until("SELECT count(*) FROM warning", 1, within=30)
    gpus.set(0, util=97)

    eventually(
        lambda: {"condition_gone", "unconfirmed"} & set(holds(site, container)), 20, "a hold"
    )
    assert site.ask(ATTEMPTS) == 0
    assert is_untouched(site, container)


def test_a_keep_alive_during_the_warning_saves_the_container(
    site: Site, run: Callable[..., Container]
) -> None:
    site.policy = hurried_policy(warn={"before": "5s"})
    site.start()
    workspace = site.folder / "workspace"
    workspace.mkdir()
    container = run(
        "idle", gpus=(0,), volumes={str(workspace): {"bind": "/workspace", "mode": "rw"}}
    )

    site.until("SELECT count(*) FROM warning", 1, within=30)
    code, _ = container.exec_run(["touch", "/workspace/.keep-alive"])
    assert code == 0
    # By the worker, or before that by the exporter, so that the alert ends.
    seen = {"exempt", "resolved"}
    eventually(lambda: seen & {*holds(site, container)}, 20, "the keep-alive to be seen")
    # Of the lesser alerts Alertmanager may swallow the end, as it inhibits them.
    still_open = (
        "SELECT count(*) FROM incident WHERE fault = 'idle container' AND closed_at IS NULL"
    )
    # The exporter looks at such files every quarter of a minute.
    site.until(still_open, 0, within=60)

    assert site.ask(ATTEMPTS) == 0
    assert is_untouched(site, container)


def test_one_firing_is_one_attempt_however_often_it_is_delivered(
    site: Site, run: Callable[..., Container]
) -> None:
    """The same delivery 100 times at once, and the same alert from two Alertmanagers."""
    site.prepare()
    first, second = site.start_alertmanager(), site.start_alertmanager()
    site.start_prometheus(first, second)
    site.start_exporter()
    site.start_receiver()
    site.start_worker()
    run("idle", gpus=(0,))
    count = "SELECT deliveries FROM firing WHERE alertname = 'DS01ContainerIdle'"
    eventually(lambda: (site.ask(count) or 0) >= 2, 30, "a delivery of each Alertmanager")  # type: ignore[operator]

    stored = site.inbox().after(0, 1000)
    body = next(one.body for one in stored if b'"alertname":"DS01ContainerIdle"' in one.body)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(site.deliver, [body] * 100))
    site.until(SETTLED, "succeeded", within=30)
    for answer in (site.deliver(body) for _ in range(3)):
        assert answer.status_code == 200
    last = site.inbox().newest()
    site.until("SELECT last_delivery FROM intake", last, within=10)

    assert {answer.status_code for answer in answers} == {200}
    assert site.ask(DONE) == 1
    assert site.ask(STOPS) == 1
    assert site.ask("SELECT count(*) FROM firing WHERE alertname = 'DS01ContainerIdle'") == 1
    assert site.ask("SELECT count(*) FROM warning") == 1


def test_a_worker_killed_during_the_stop_finishes_it_and_stops_nothing_twice(
    site: Site, run: Callable[..., Container]
) -> None:
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    container = run("stubborn", gpus=(0,), task="stubborn")
    site.until("SELECT count(*) FROM step WHERE name = 'stop' AND ended_at IS NULL", 1, within=40)

    worker.kill()
    assert site.ask("SELECT state FROM attempt WHERE remediation = 'stop-container'") == "running"
    worker.start()
    site.until(SETTLED, "succeeded", within=30)

    assert not exists(site, container)
    assert site.ask(DONE) == 1
    assert site.ask(STOPS) == 1
    number = site.ask("SELECT incident FROM attempt WHERE remediation = 'stop-container'")
    story = site.run("incidents", "show", str(number))
    assert "cut off: the worker died during this step" in story
    # The engine itself may end it by force, or forget to when its client dies: both happen.
    assert "before the interruption" in story or "after an interruption" in story
    worker.kill()
    worker.start()
    settled = 'remediator_attempts_total{outcome="succeeded",remediation="stop-container"} 1.0'
    delay = 'remediator_alert_to_action_seconds_count{until="proven"} 1.0'
    for line in (settled, delay):
        assert line in _metrics(site), "what was counted is not lost with the process"


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.08, 0.15])
def test_a_worker_killed_at_any_moment_loses_nothing_and_stops_nothing_twice(
    site: Site, run: Callable[..., Container], seconds: float
) -> None:
    """The kill comes *seconds* after the attempt was planned."""
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    container = run("idle", gpus=(0,))
    eventually(lambda: site.ask(DONE) == 1, 40, "an attempt")

    threading.Event().wait(seconds)
    worker.kill()
    worker.start()
    eventually(lambda: not exists(site, container), 40, "the container to be gone")
    site.until(
        "SELECT count(*) FROM attempt WHERE remediation = 'stop-container' AND ended_at IS NULL",
        0,
        within=30,
    )

    assert site.ask(STOPS) == 1
    succeeded = f"{ATTEMPTS} AND state = 'succeeded'"
    assert site.ask(succeeded) == 1
    told = "SELECT count(*) FROM incident WHERE outcome = 'stop-container succeeded'"
    assert site.ask(told) == 1


def test_what_was_delivered_while_the_worker_was_down_is_not_lost(
    site: Site, run: Callable[..., Container]
) -> None:
    site.start_watching()
    site.start_receiver()
    container = run("idle", gpus=(0,))
    eventually(
        lambda: any(b'"alertname":"DS01ContainerIdle"' in d.body for d in site.inbox().after(0)),
        40,
        "the delivery to be stored",
    )

    site.start_worker()
    site.until(SETTLED, "succeeded", within=30)

    assert not exists(site, container)


def test_without_prometheus_nothing_is_stopped_and_the_reason_is_told(
    site: Site, run: Callable[..., Container]
) -> None:
    site.policy = hurried_policy(warn={"before": "4s"})
    prometheus = site.start()
    container = run("idle", gpus=(0,))
    site.until("SELECT count(*) FROM warning", 1, within=30)

    prometheus.kill()
    eventually(lambda: holds(site, container)[-1] == "unconfirmed", 20, "a hold")

    story = site.run("incidents", "show", str(site.ask("SELECT incident FROM warning")))
    assert "no answer from Prometheus" in story
    assert is_untouched(site, container)
    assert 'remediator_source_errors_total{source="prometheus"} 0.0' not in _metrics(site)

    prometheus.start()
    eventually(lambda: not exists(site, container), 60, "the container to be gone after all")


def test_without_a_driver_nothing_is_stopped_and_the_reason_is_told(
    site: Site, run: Callable[..., Container], gpus: GpuHost
) -> None:
    site.policy = hurried_policy(warn={"before": "3s"})
    site.start()
    container = run("idle", gpus=(0,))
    site.until("SELECT count(*) FROM warning", 1, within=30)

    gpus.unload_driver()
    eventually(lambda: "unconfirmed" in holds(site, container), 20, "a hold")

    assert is_untouched(site, container)
    story = site.run("incidents", "show", str(site.ask("SELECT incident FROM warning")))
    assert "nvml silent:" in story


def test_with_a_driver_that_hangs_nothing_is_stopped_and_the_reason_is_told(
    site: Site, run: Callable[..., Container], gpus: GpuHost
) -> None:
    site.policy = hurried_policy(warn={"before": "3s"})
    site.start()
    container = run("idle", gpus=(0,))
    site.until("SELECT count(*) FROM warning", 1, within=30)

    gpus.set(0, hang=60)
    try:
        eventually(lambda: "unconfirmed" in holds(site, container), 40, "a hold")
        story = site.run("incidents", "show", str(site.ask("SELECT incident FROM warning")))
    finally:
        gpus.set(0, hang=0)

    assert "nvml silent: the NVIDIA driver" in story
    assert is_untouched(site, container)


def test_with_a_frozen_docker_nothing_is_stopped_and_the_reason_is_told(
    site: Site, run: Callable[..., Container], engine: DockerEngine
) -> None:
    site.policy = hurried_policy(warn={"before": "3s"})
    site.start()
    container = run("idle", gpus=(0,))
    site.until("SELECT count(*) FROM warning", 1, within=30)

    engine.freeze()
    try:
        eventually(lambda: "unconfirmed" in holds(site, container), 30, "a hold")
        story = site.run("incidents", "show", str(site.ask("SELECT incident FROM warning")))
    finally:
        engine.thaw()

    # It may have frozen between two questions of one look.
    assert re.search(r"docker silent: (Docker|the file system of the container) did not", story)
    assert site.ask(ATTEMPTS) == 0
    assert is_untouched(site, container)
    eventually(lambda: not exists(site, container), 60, "the container to be gone after all")


def test_mail_that_cannot_be_sent_waits_and_delays_nothing(
    site: Site, stage: Stage, run: Callable[..., Container]
) -> None:
    site.mail = stage.mail_server()
    site.mail.stop()
    site.start()
    container = run("idle", gpus=(0,), labels={"ds01.user": "alice"})

    site.until(SETTLED, "succeeded", within=40)
    assert not exists(site, container)
    waiting = "SELECT count(*) FROM notice WHERE state = 'pending' AND tries > 0"
    eventually(lambda: (site.ask(waiting) or 0) >= 2, 20, "notices that wait")  # type: ignore[operator]

    site.mail.start()
    pending = "SELECT count(*) FROM notice WHERE state = 'pending'"
    site.until(pending, 0, within=60)
    subjects = [mail.subject for mail in site.mail.to("alice@example.org")]
    ours = [subject for subject in subjects if subject.startswith("[gpu-host]")]
    assert len(ours) == len(set(ours))
    assert any("was stopped and removed" in subject for subject in ours)


def test_observe_only_says_what_would_have_been_done(
    site: Site, run: Callable[..., Container]
) -> None:
    site.policy = {**hurried_policy(), "mode": "observe"}
    del site.policy["rules"][0]["warn"]  # type: ignore[attr-defined]
    site.start()
    container = run("idle", gpus=(0,))

    query = "SELECT incident FROM decision WHERE because LIKE '%would have done stop-container'"
    number = eventually(lambda: site.ask(query), 40, "a hold")

    assert "the mode is observe" in site.run("incidents", "show", str(number))
    # Prometheus says that it fires a moment before it can be asked for the sample.
    assert set(holds(site, container)) - {"unconfirmed"} == {"observe_only"}
    assert is_untouched(site, container)


def test_what_becomes_busy_while_it_waits_for_its_turn_is_not_stopped(
    site: Site, run: Callable[..., Container], gpus: GpuHost
) -> None:
    """One hand, and the container before it takes its whole grace to stop."""
    site.workers = 1
    site.limits = copy.deepcopy(HURRIED_LIMITS)
    site.limits["container_types"]["docker"]["sigterm_grace_s"] = int(15 * patience())
    site.start()
    first = run("first", gpus=(0,), task="stubborn")
    site.until(f"{ATTEMPTS} AND state = 'running'", 1, within=40)

    second = run("second", gpus=(1,))
    site.until(f"{ATTEMPTS} AND state = 'planned'", 1, within=40)
    gpus.set(1, util=97)
    eventually(lambda: not exists(site, first), 30, "the first to be gone")
    site.until(f"{ATTEMPTS} AND state = 'refused'", 1, within=20)

    assert is_untouched(site, second)
    number = site.ask("SELECT incident FROM attempt WHERE state = 'refused'")
    assert "not carried out: " in site.run("incidents", "show", str(number))


def test_an_alert_with_an_added_label_is_not_treated_by_another_policy_rule(
    site: Site, run: Callable[..., Container]
) -> None:
    """Anybody on the machine can post the alert that really fires once more, with a label."""
    careful = hurried_policy(warn={"before": "1h"})
    careless = {**careful["rules"][0], "name": "drill", "match": ['drill="yes"']}
    careless.pop("warn")
    site.policy = {**careful, "rules": [careless, *careful["rules"]]}
    _, alertmanager = site.start_watching()
    site.start_receiver()
    site.start_worker()
    container = run("idle", gpus=(0,))
    site.until("SELECT count(*) FROM warning", 1, within=40)

    [alert] = [a for a in alertmanager.alerts() if a["labels"]["alertname"] == "DS01ContainerIdle"]
    alertmanager.post([{"labels": {**alert["labels"], "drill": "yes"}}])
    drill = "SELECT reason FROM decision WHERE policy_rule = 'drill'"
    site.until(drill, "unconfirmed", within=20)

    assert site.ask(ATTEMPTS) == 0
    assert is_untouched(site, container)


def test_a_restarted_container_is_another_target(site: Site, run: Callable[..., Container]) -> None:
    site.policy = hurried_policy(warn={"before": "4s"})
    site.start()
    container = run("idle", gpus=(0,))
    site.until("SELECT count(*) FROM warning", 1, within=30)

    container.restart(timeout=1)
    container.reload()
    site.until("SELECT count(*) FROM warning", 2, within=60)
    assert site.ask(ATTEMPTS) == 0
    assert is_untouched(site, container)

    eventually(lambda: not exists(site, container), 60, "the new run to be stopped in its turn")
    target = site.ask("SELECT target FROM attempt WHERE remediation = 'stop-container'")
    assert str(target).startswith(f"container:{container.id}@{_started_at(container)}")


def test_sigterm_lets_a_running_stop_finish(site: Site, run: Callable[..., Container]) -> None:
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    container = run("stubborn", gpus=(0,), task="stubborn")
    site.until("SELECT count(*) FROM step WHERE name = 'stop' AND ended_at IS NULL", 1, within=40)

    began = time.monotonic()
    worker.stop()

    assert time.monotonic() - began < 10 * patience()
    assert not exists(site, container)
    assert site.ask(SETTLED) == "succeeded"


def _started_at(container: Container) -> str:
    """When this run started, to the second."""
    return str(container.attrs["State"]["StartedAt"])[:19]


def _metrics(site: Site) -> str:
    return requests.get(f"http://127.0.0.1:{site.worker_port}/metrics", timeout=10).text
