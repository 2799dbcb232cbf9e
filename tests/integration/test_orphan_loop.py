"""From a process on a GPU to its verified end, with the shipped rule and everything real."""

import copy
import os
from collections.abc import Iterator
from typing import Any

import pytest

from remediator.sources.proc import ProcSource
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.site import POLICY, Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

STRANGER, WELCOME = 4711, 4712
STEPS = "SELECT group_concat(name) FROM step"
SETTLED = (
    "SELECT state FROM attempt WHERE remediation = 'kill-orphan'"
    " AND ended_at NOT NULL AND state <> 'refused'"
)
WAITING = "SELECT count(*) FROM step WHERE name = 'wait' AND ended_at IS NULL"


def policy(**changes: Any) -> dict[str, Any]:
    """The demo's policy with a rule about orphans, and *changes* to that rule."""
    rule = {
        "name": "orphan process",
        "match": ['alertname="DS01GPUOrphanProcess"'],
        "do": [{"kill-orphan": {"wait": "1s"}, "verify": {"within": "10s"}}],
        **changes,
    }
    return {**copy.deepcopy(POLICY), "rules": [rule]}


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


@pytest.fixture
def site(stage: Stage, engine: DockerEngine, gpus: GpuHost, docker_client: object) -> Site:
    """A site whose containers are removed after the test (by ``docker_client``)."""
    del docker_client
    permitted = {"permitted_host_users": ["root", str(WELCOME)]}
    return Site(stage, engine, gpus, policy=policy(), waits="1s", more_settings=permitted)


def lives(pid: int) -> bool:
    return not ProcSource().has_ended(pid)


def test_an_orphan_is_ended_and_nobody_else(site: Site, gpus: GpuHost, stage: Stage) -> None:
    site.mail = stage.mail_server()
    container = run_gpu_container(site.docker, gpus, "train", gpus=(0,), user=str(STRANGER))
    nosy = run_gpu_container(site.docker, gpus, "nosy", gpus=(1,), pid_mode="host")
    nosy.exec_run(["gpu-task"], detach=True)
    spared = [gpus.start_task(0, uid=0).pid, gpus.start_task(1, uid=WELCOME).pid]
    eventually(lambda: len(gpus.holders(1)) == 3, 10, "all run")
    spared += [holder.pid for gpu in (0, 1) for holder in gpus.holders(gpu)]
    orphan = gpus.start_task(0, 1, uid=STRANGER, task="stubborn").pid
    site.start()

    site.until(SETTLED, "succeeded", within=60)

    assert not lives(orphan)
    assert [pid for pid in spared if not lives(pid)] == []
    assert site.ask("SELECT count(*) FROM attempt WHERE state <> 'refused'") == 1, (
        "it was on two GPUs, and ended once"
    )
    assert site.ask(STEPS) == "sigterm,wait,sigkill"
    told = "SELECT count(*) FROM notice WHERE recipient LIKE 'admins%' AND state = 'sent'"
    site.until(told, 1, within=10)
    [subject] = [m.subject for m in site.mail.to("admins@example.org") if "[gpu-host]" in m.subject]
    assert "was ended" in subject
    assert f"pid {orphan}" in subject
    number = site.ask("SELECT incident FROM attempt")
    story = site.run("incidents", "show", str(number))
    for part in (
        'policy rule "orphan process"',
        f"nvml agrees: pid {orphan}",
        "is in no container",
        "kill-orphan succeeded",
        "was ended by force",
        "has ended and is on no GPU",
    ):
        assert part in story
    container.reload()
    assert container.status == "running"


def test_a_forged_alert_about_a_containers_process_is_a_visible_hold(
    site: Site, gpus: GpuHost
) -> None:
    _, alertmanager = site.start_watching()
    site.start_receiver()
    site.start_worker()
    container = run_gpu_container(site.docker, gpus, "train", gpus=(0,))
    pid = int(container.attrs["State"]["Pid"])
    ticks = ProcSource().start_ticks(pid)
    labels = {
        "alertname": "DS01GPUOrphanProcess",
        "pid": str(pid),
        "start_ticks": str(ticks),
        "UUID": gpus.uuid(0),
        "severity": "warning",
    }

    alertmanager.post([{"labels": labels}, {"labels": {**labels, "pid": str(os.getpid())}}])
    reasons = "SELECT count(*) FROM decision WHERE reason = 'unconfirmed'"
    eventually(lambda: (site.ask(reasons) or 0) >= 2, 30, "two holds")  # type: ignore[operator]

    about = f"SELECT id FROM incident WHERE subject = 'process:{pid}@{ticks}'"  # noqa: S608
    number = site.ask(about)
    story = site.run("incidents", "show", str(number))
    assert "resolved, stale or forged" in story
    assert "its container is running" in story
    assert site.ask("SELECT count(*) FROM attempt") == 0
    assert lives(pid)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_worker_that_ends_while_it_waits_brings_it_to_its_end(
    site: Site, gpus: GpuHost, how: str
) -> None:
    rung = {"kill-orphan": {"wait": "5s"}, "verify": {"within": "10s"}}
    site.policy = policy(do=[rung])
    site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    orphan = gpus.start_task(0, uid=STRANGER, task="stubborn").pid
    site.until(WAITING, 1, within=60)
    assert lives(orphan)

    if how == "kill":
        worker.kill()
    else:
        worker.stop()
    worker.start()

    site.until(SETTLED, "succeeded", within=40)
    assert not lives(orphan)
    assert site.ask("SELECT count(*) FROM step WHERE name LIKE 'sigterm%'") == 1
