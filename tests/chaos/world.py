"""A whole site under fire: everything real but the NVIDIA driver, and a ledger of what is due."""

import contextlib
import copy
import itertools
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import NotFound
from docker.models.containers import Container

from remediator.errors import JournalError
from tests.chaos.stream import ALERT, Stream
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.process import Daemon
from tests.peers.site import POLICY, Site
from tests.peers.stage import Stage

GPUS = 8
_BUSY = (6, 7)
_DISK = "256m"
# Seconds for everything that waits to come to its end, once the fault is over.
PATIENCE = 150
_LIMITS: dict[str, Any] = {
    "policies": {"grace_period_m": 0.01, "sigterm_grace_s": 3},
    "container_types": {"docker": {"idle_timeout_h": 0.001, "sigterm_grace_s": 3}},
}


def _policy() -> dict[str, Any]:
    """The demo's policy in a hurry, without the limits that so many faults would use up."""
    policy = copy.deepcopy(POLICY)
    policy["breaker"] = {"open_after": ["100000 per 1h"]}
    policy["rules"][0]["warn"] = {"before": "1s", "tell": ["owner"]}
    policy["rules"][0]["do"][0]["attempts"] = ["50 per 6h"]
    policy["rules"][0]["do"][0]["cooldown"] = "1s"
    return policy


@dataclass(frozen=True, slots=True)
class Due:
    """What became of what a scenario offered, once there was nothing left to wait for."""

    lost: list[str]
    doubled: list[str]
    wrongly_stopped: list[str]


class World:
    """The site, its peers, and containers: some proven busy all along, some idle per scenario."""

    def __init__(self, stage: Stage, gpus: GpuHost) -> None:
        self.stage = stage
        self.gpus = gpus
        self.engine: DockerEngine = stage.docker_engine(live_restore=True)
        self.mail = stage.mail_server()
        self.site = Site(
            stage, self.engine, gpus, policy=_policy(), limits=_LIMITS, mail=self.mail, waits="1s"
        )
        self.site.more_settings = {"page_url": self.site.url, "largest_body": 8_000_000}
        self.stream = Stream(self.site)
        self.busy: list[Container] = []
        self._idle: list[Container] = []
        self._slots = itertools.cycle(n for n in range(GPUS) if n not in _BUSY)
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start every program, then the busy containers, then the honest deliveries."""
        state = self.site.state_dir
        state.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=755", "chaos", str(state)]
        subprocess.run(mount, check=True)
        self.stage.on_close(lambda: subprocess.run(["umount", "-l", str(state)], check=True))
        self.prometheus, self.alertmanager = self.site.start_watching()
        self.exporter = self._program("export")
        self.receiver: Daemon = self.site.start_receiver()
        self.worker: Daemon = self.site.start_worker()
        for gpu in _BUSY:
            self.busy.append(self._run(f"busy-{gpu}", gpu, task="busy", util=80))
        self.stream.start()
        self.stage.on_close(self.stream.stop)

    def idle(self, name: str, count: int = 1, task: str = "idle") -> list[Container]:
        """Start containers that are idle and have to be stopped, each on a GPU of its own."""
        made = [
            self._run(f"{name}-{next(self._numbers)}", next(self._slots), task=task)
            for _ in range(count)
        ]
        self._idle += made
        return made

    def wait_for(self, containers: list[Container]) -> None:
        """Wait until all of them are gone, and what was begun about them has ended."""
        eventually(
            lambda: not [c for c in containers if self.exists(c)], PATIENCE, "the idle ones gone"
        )
        unsettled = "SELECT count(*) FROM attempt WHERE ended_at IS NULL"
        eventually(lambda: self.ask(unsettled) == 0, PATIENCE, "all attempts are settled")
        pending = "SELECT count(*) FROM notice WHERE state = 'pending'"
        eventually(lambda: self.ask(pending) == 0, PATIENCE, "everybody was told")

    def wait_until_taken(self, probe: str) -> None:
        """Wait until the worker has taken the honest delivery *probe*."""
        query = f"SELECT count(*) FROM firing WHERE fingerprint = '{probe}'"  # noqa: S608
        eventually(lambda: self.ask(query) == 1, PATIENCE, f"{probe} is taken")

    def ask(self, query: str) -> object:
        """Return the first column of the first row of *query*; None also while there is none."""
        try:
            return self.site.ask(query)
        except JournalError:
            return None

    def rows(self, query: str) -> list[Any]:
        """Return all rows of *query* on the journal."""
        journal = self.site.journal()
        try:
            return list(journal._database.rows(query))
        finally:
            journal.close()

    def rows_of(self, query: str) -> list[Any]:
        """Return the first column of all rows of *query* on the journal."""
        return [row[0] for row in self.rows(query)]

    def exists(self, container: Container) -> bool:
        """Whether there is such a container, running or not."""
        try:
            self.site.docker.containers.get(str(container.id))
        except NotFound:
            return False
        return True

    def judge(self, containers: list[Container], acknowledged: list[str]) -> Due:
        """Compare the ledger with the machine and the journal."""
        return Due(
            lost=[*self._lost_containers(containers), *self._lost_probes(acknowledged)],
            doubled=self._doubled(containers),
            wrongly_stopped=[*self._touched(), *self._unwanted()],
        )

    @property
    def disk(self) -> Path:
        """The small file system that inbox and journal are on."""
        return self.site.state_dir

    def _lost_containers(self, containers: list[Container]) -> list[str]:
        unsent = "SELECT subject FROM notice WHERE state <> 'sent'"
        return [
            *(str(c.name) for c in containers if self.exists(c)),
            *(f"notice: {row[0]}" for row in self.rows(unsent)),
        ]

    def _lost_probes(self, acknowledged: list[str]) -> list[str]:
        query = f"SELECT fingerprint FROM firing WHERE alertname = '{ALERT}'"  # noqa: S608
        taken = {row[0] for row in self.rows(query)}
        return [name for name in acknowledged if name not in taken]

    def _doubled(self, containers: list[Container]) -> list[str]:
        stopped = "remediation = 'stop-container' AND state = 'succeeded'"
        done = f"SELECT target FROM attempt WHERE {stopped}"  # noqa: S608 - our own words
        told = "SELECT recipient || ' ' || incident FROM notice WHERE kind = 'acted'"
        ids = {str(c.id) for c in containers}
        stops = Counter(_id_of(row[0]) for row in self.rows(done))
        notices = Counter(row[0] for row in self.rows(told))
        return [
            *(f"stop of {c}" for c, times in stops.items() if times > 1 and c in ids),
            *(f"notice to {n}" for n, times in notices.items() if times > 1),
        ]

    def _touched(self) -> list[str]:
        touched = []
        for container in self.busy:
            before = container.attrs["State"]
            now = self.site.docker.containers.get(str(container.id)).attrs["State"]
            if any(now[key] != before[key] for key in ("Status", "Pid", "StartedAt")):
                touched.append(str(container.name))
        return touched

    def _unwanted(self) -> list[str]:
        """Attempts on anything that was not to be stopped."""
        query = "SELECT target FROM attempt WHERE remediation <> 'notify-only'"
        wanted = {str(c.id) for c in self._idle}
        return [row[0] for row in self.rows(query) if _id_of(row[0]) not in wanted]

    def _program(self, name: str) -> Daemon:
        return next(daemon for daemon in self.stage.daemons if daemon.name == name)

    def _run(self, name: str, gpu: int, **more: Any) -> Container:
        return run_gpu_container(
            self.site.docker,
            self.gpus,
            name,
            gpus=(gpu,),
            labels={"ds01.user": "alice"},
            **more,
        )


def _id_of(target: str) -> str:
    return target.partition(":")[2].partition("@")[0]


def forged(aim: Container, **labels: str) -> dict[str, str]:
    """The labels of the idle alert, aimed at one container."""
    return {
        "alertname": "DS01ContainerIdle",
        "container_id": str(aim.id),
        "container": str(aim.name),
        "severity": "warning",
        "user": "alice",
        **labels,
    }


def delivery_of(labels: dict[str, str], fingerprint: str, status: str = "firing") -> bytes:
    """Return a delivery of one alert with *labels*."""
    alert = {
        "status": status,
        "labels": labels,
        "annotations": {"summary": labels.get("summary", "")},
        "startsAt": "2026-01-01T00:00:00Z",
        "fingerprint": fingerprint,
    }
    body = {"version": "4", "groupKey": "{}", "receiver": "remediator", "alerts": [alert]}
    return json.dumps(body).encode()


@contextlib.contextmanager
def a_world(folder: Path) -> Iterator[World]:
    """A started world below *folder* (a short path, since it holds sockets)."""
    with Stage(folder) as stage, GpuHost(GPUS) as gpus:
        world = World(stage, gpus)
        world.start()
        yield world
