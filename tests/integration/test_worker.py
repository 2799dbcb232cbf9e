"""The worker as a program: what it starts with, what it reloads, what it says."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.process import Daemon
from tests.peers.site import POLICY, Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

GOOD = "remediator_policy_last_reload_successful"


@pytest.fixture
def site(stage: Stage, engine: DockerEngine) -> Iterator[Site]:
    with GpuHost(1) as gpus:
        yield Site(stage, engine, gpus).prepare()


def metric(site: Site, name: str) -> float:
    text = requests.get(f"http://127.0.0.1:{site.worker_port}/metrics", timeout=10).text
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def another(site: Site, folder: Path, **environment: str) -> Daemon:
    """A second worker on the same state folder, launched."""
    daemon = Daemon(
        "work",
        [sys.executable, "-m", "remediator", "work"],
        folder / "another",
        environment={**site.environment(), **environment},
    )
    daemon.launch()
    return daemon


def test_a_bad_policy_never_replaces_a_good_one(site: Site) -> None:
    worker = site.start_worker()
    policy = site.folder / "policy.yaml"
    assert metric(site, GOOD) == 1

    policy.write_text("mode: act\nruls: []\n")
    worker.signal(signal.SIGHUP)
    eventually(lambda: metric(site, GOOD) == 0, 10, "the bad policy to be counted")
    said = 'policy.yaml:2:1: unknown field "ruls" (did you mean "rules"?)'
    eventually(lambda: said in worker.log_tail(), 5, "it to be said")
    assert worker.is_running

    policy.write_text(yaml.safe_dump(POLICY))
    worker.signal(signal.SIGHUP)
    eventually(lambda: metric(site, GOOD) == 1, 10, "the good policy to be read")


def test_a_second_worker_is_refused(site: Site, folder: Path) -> None:
    first = site.start_worker()

    second = another(site, folder)

    assert second.wait(20) == 1
    assert f"another worker runs on {site.state_dir}: stop it first" in second.log_tail()
    assert first.is_running


def test_what_a_killed_worker_locked_is_free_for_the_next(site: Site) -> None:
    worker = site.start_worker()

    worker.kill()
    worker.start()

    assert worker.is_running


def test_a_port_that_is_taken_is_said_in_one_line(site: Site, folder: Path) -> None:
    site.start_worker()

    second = another(site, folder, REMEDIATOR_STATE_DIR=str(folder / "elsewhere"))

    assert second.wait(20) == 1
    said = second.log_tail().strip().splitlines()[-1]
    assert said == (
        f"remediator: cannot serve the worker's metrics on 127.0.0.1:{site.worker_port}:"
        " Address already in use; set REMEDIATOR_WORKER_LISTEN"
    )


def test_without_a_receiver_it_waits_and_says_so(site: Site) -> None:
    worker = site.start_worker()
    eventually(lambda: "no delivery can be taken yet" in worker.log_tail(), 10, "it to say so")

    site.start_receiver()
    body = (Path(__file__).parents[1] / "data" / "webhook_firing.raw.json").read_bytes()
    assert site.deliver(body).status_code == 200

    site.until("SELECT last_delivery FROM intake", 1, within=10)


def test_every_guard_is_a_metric_from_the_start(site: Site) -> None:
    site.start_worker()
    text = requests.get(f"http://127.0.0.1:{site.worker_port}/metrics", timeout=10).text

    assert 'remediator_decisions_total{decision="hold",reason="unconfirmed"} 0.0' in text
    assert 'remediator_attempts_total{outcome="failed",remediation="stop-container"} 0.0' in text


def test_an_inbox_that_is_replaced_is_read_anew(site: Site) -> None:
    """The receiver refuses to store in a file without a name; the worker follows the new one."""
    body = (Path(__file__).parents[1] / "data" / "webhook_firing.raw.json").read_bytes()
    receiver = site.start_receiver()
    site.start_worker()
    assert site.deliver(body).status_code == 200
    site.until("SELECT last_delivery FROM intake", 1, within=10)

    for file in (site.state_dir / "inbox").glob("inbox.db*"):
        file.unlink()
    assert site.deliver(body).status_code == 503
    receiver.stop()
    receiver.start()
    assert site.deliver(body).status_code == 200

    site.until("SELECT deliveries FROM firing", 2, within=10)
