"""kill -9, again and again: no acknowledged alert is lost, and nothing is done twice."""

import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from docker.models.containers import Container

from remediator.journal.journal import Journal
from tests.eventually import eventually
from tests.integration.test_closed_loop import (
    ATTEMPTS,
    HURRIED_LIMITS,
    exists,
    hurried_policy,
    is_untouched,
)
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.ledger_worker import stopped
from tests.peers.ports import free_port
from tests.peers.process import Daemon
from tests.peers.receiver import Receiver
from tests.peers.site import Site
from tests.peers.stage import Stage

pytestmark = pytest.mark.integration

# Of the receiver and of the worker each; the second are around real containers.
KILLS = 90
KILLS_AMID_STOPS = 20
IDLE, BUSY = 8, 2
POLICY = """\
mode: act
breaker: {open_after: [1000000 per 1h]}
rules:
  - name: idle
    match: ['alertname="Idle"']
    do: [{stop-container: {}, attempts: [1 per 24h], verify: {within: 1s}}]
    tell: []
    escalate: {tell: []}
"""


class Sender:
    """Posts alerts as two Alertmanagers do: each again and again until somebody has said 200."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._stopping = threading.Event()
        self._random = random.Random(4711)  # noqa: S311 - not a secret
        self.acknowledged: set[str] = set()
        self.deliveries = 0
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        with requests.Session() as session:
            while not self._stopping.is_set():
                number += 1
                self._stopping.wait(self._random.uniform(0.02, 0.2))
                names = [f"{number:06d}-{part}" for part in range(self._random.randint(1, 3))]
                copies = self._random.choice([1, 1, 2, 3])
                while copies and not self._stopping.is_set():
                    if self._post(session, names):
                        self.acknowledged.update(names)
                        copies -= 1

    def _post(self, session: requests.Session, names: list[str]) -> bool:
        self.deliveries += 1
        headers = {
            "Authorization": f"Bearer {self._receiver.token}",
            "Content-Type": "application/json",
        }
        try:
            answer = session.post(
                self._receiver.webhook, data=body_of(names), headers=headers, timeout=5
            )
        except requests.RequestException:
            self._stopping.wait(0.02)
            return False
        return answer.status_code == 200


def body_of(names: list[str]) -> bytes:
    alerts = [
        {
            "status": "firing",
            "labels": {"alertname": "Idle", "container_id": name},
            "annotations": {},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": name,
        }
        for name in names
    ]
    return json.dumps(
        {"version": "4", "groupKey": "{}", "receiver": "r", "alerts": alerts}
    ).encode()


@pytest.fixture
def receiver(folder: Path) -> Iterator[Receiver]:
    receiver = Receiver(folder / "receiver")
    receiver.policy_file.write_text(POLICY)
    receiver.start()
    yield receiver
    receiver.stop()


def _worker(receiver: Receiver, ledger: Path) -> Daemon:
    return Daemon(
        "work",
        [sys.executable, "-m", "tests.peers.ledger_worker", str(ledger)],
        receiver.folder,
        environment={
            **receiver.environment,
            "PYTHONPATH": ":".join(path for path in sys.path if path),
            "REMEDIATOR_WORKER_LISTEN": f"127.0.0.1:{free_port()}",
        },
    )


def test_kills_at_random_moments_lose_nothing_and_double_nothing(
    receiver: Receiver, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = folder / "ledger"
    worker = _worker(receiver, ledger)
    worker.start()
    sender = Sender(receiver)
    sender.start()
    chance = random.Random(42)  # noqa: S311 - not a secret
    pause = threading.Event()
    victims = [(receiver.kill_all, receiver.daemon), (worker.kill, worker)]
    try:
        for round_ in range(KILLS):
            if round_ % 4 == 0:
                # A busy machine would kill it while it starts, again and again, and nothing else.
                eventually(receiver.is_ready, 30, "the receiver is up")
            for kill, daemon in chance.sample(victims, 2):
                pause.wait(chance.uniform(0.05, 0.9) / 2)
                kill()
                daemon.launch()
    finally:
        sender.stop()
    expected = sender.acknowledged

    def settled() -> bool:
        return expected <= set(stopped(ledger)) and not _unsettled(receiver.state_dir)

    try:
        eventually(settled, 120, "everything acknowledged is done and settled")
    finally:
        worker.stop()
    times = Counter(stopped(ledger))
    doubled = {name: count for name, count in times.items() if count > 1}
    lost = expected - times.keys()
    with capsys.disabled():
        print(  # noqa: T201 - the numbers are the point
            f"\n{2 * KILLS} kills, {sender.deliveries} deliveries, {len(expected)} alerts"
            f" acknowledged: {len(lost)} lost, {len(doubled)} doubled"
        )
    assert lost == set()
    assert doubled == {}
    assert len(expected) > 30


@pytest.mark.docker
@pytest.mark.gpu
def test_kills_amid_real_stops_stop_each_idle_container_once_and_no_busy_one(
    stage: Stage,
    engine: DockerEngine,
    docker_client: object,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Real alerts about real containers, whose processes are on simulated GPUs."""
    del docker_client
    chance = random.Random(43)  # noqa: S311 - not a secret
    pause = threading.Event()
    policy = hurried_policy()
    policy["rules"][0]["do"][0]["attempts"] = ["20 per 6h"]
    with GpuHost(IDLE + BUSY) as gpus:
        site = Site(stage, engine, gpus, policy=policy, limits=HURRIED_LIMITS)
        site.start_watching()
        victims = [site.start_receiver(), site.start_worker()]
        busy = [
            run_gpu_container(site.docker, gpus, f"busy{n}", gpus=(IDLE + n,), task="busy", util=80)
            for n in range(BUSY)
        ]
        idle: list[Container] = []
        for round_ in range(KILLS_AMID_STOPS):
            if round_ % 2 == 0 and len(idle) < IDLE:
                idle.append(
                    run_gpu_container(
                        site.docker, gpus, f"idle{round_}", gpus=(len(idle),), task="stubborn"
                    )
                )
            for victim in chance.sample(victims, 2):
                pause.wait(chance.uniform(0.2, 1.8))
                # The receiver's children die with it.
                victim.kill()
                victim.launch()
        eventually(lambda: not any(exists(site, c) for c in idle), 120, "all idle ones are gone")
        unsettled = "SELECT count(*) FROM attempt WHERE ended_at IS NULL"
        site.until(unsettled, 0, within=60)
        lost = [container.name for container in idle if exists(site, container)]
        wrong = [container.name for container in busy if not is_untouched(site, container)]
        succeeded = f"{ATTEMPTS} AND state = 'succeeded'"
        doubled = int(str(site.ask(succeeded))) - len(idle)
        cut_off = site.ask("SELECT count(DISTINCT attempt) FROM step WHERE ended_at IS NULL")
    with capsys.disabled():
        print(  # noqa: T201 - the numbers are the point
            f"\n{2 * KILLS_AMID_STOPS} kills amid {len(idle)} stops of real containers,"
            f" {cut_off} of them cut off: {len(lost)} lost, {doubled} doubled,"
            f" {len(wrong)} wrongly stopped"
        )
    assert len(idle) == IDLE
    assert (lost, doubled, wrong) == ([], 0, [])
    assert site.ask("SELECT count(*) FROM attempt WHERE state = 'failed'") == 0


def _unsettled(state_dir: Path) -> int:
    journal = Journal.for_reading(state_dir)
    try:
        return len([i for i in journal.incidents.latest(100_000) if i.outcome is None])
    finally:
        journal.close()


@pytest.mark.parametrize("see_each_other", [True, False], ids=["mesh", "partition"])
def test_a_pair_of_alertmanagers_of_which_one_is_killed_remediates_each_alert_once(
    receiver: Receiver, folder: Path, stage: Stage, see_each_other: bool
) -> None:
    ledger = folder / "ledger"
    worker = _worker(receiver, ledger)
    worker.start()
    first = stage.alertmanager(receiver.webhook, receiver.token_file, mesh=True)
    peers = [first.mesh_address] if see_each_other else []
    second = stage.alertmanager(receiver.webhook, receiver.token_file, mesh=True, peers=peers)
    names = [f"{number:04d}" for number in range(120)]
    alerts = [
        {
            "labels": {"alertname": "Idle", "container_id": name},
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "2099-01-01T00:00:00Z",
        }
        for name in names
    ]
    try:
        for number in range(0, len(alerts), 10):
            # Prometheus posts to both.
            for alertmanager in (first, second):
                if alertmanager.daemon.is_running:
                    alertmanager.post(alerts[number : number + 10])
            if number == len(alerts) // 2:
                first.daemon.kill()
        first.daemon.start()
        first.post(alerts)
        eventually(lambda: set(names) <= set(stopped(ledger)), 90, "each alert is remediated")
        wanted = len(alerts) if see_each_other else len(alerts) * 3 // 2
        eventually(lambda: len(receiver.bodies()) >= wanted, 60, "both have said it")
        eventually(lambda: not _unsettled(receiver.state_dir), 60, "all is settled")
    finally:
        worker.stop()

    assert Counter(stopped(ledger)) == Counter(names)
