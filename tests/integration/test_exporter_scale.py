"""The exporter beside many containers: what it asks of Docker, and what it keeps."""

import os
import re
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from docker import DockerClient
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.bench.crowd import Crowd
from tests.bench.footprint import footprint_of
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine, remove_containers
from tests.peers.gpu.host import GpuHost
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.process import Daemon
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

REQUEST = re.compile(rb"^([A-Z]+) (?:/v[\d.]+)?(/\S*) HTTP/1\.", re.MULTILINE)
INSPECT = re.compile(r"GET /containers/([0-9a-f]{64})/json")
MIB = 1024
# Enough for every cache to be as full as it gets, and for the allocator to have its arenas.
WARM_UP = 50
PASSING = 150
# The SDK keeps up to 25 connections to a local engine per client, one for each path (docker 7.2),
# and there are three clients at most. One left behind for each container would be over this.
MOST_FILES = 110


class CountingProxy:
    """A Docker socket in front of another one, which writes down what is asked.

    Questions have no bodies, so whatever a client sends are heads of requests.
    """

    def __init__(self, path: Path, behind: Path) -> None:
        self.url = f"unix://{path}"
        self._behind = behind
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Shutting down is what wakes the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def asked(self) -> list[str]:
        """Every request so far, as method and path."""
        return list(self._asked)

    @property
    def inspected(self) -> Counter[str]:
        """How often each container was inspected, by id."""
        found = (INSPECT.match(request) for request in self.asked)
        return Counter(request[1] for request in found if request)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(str(self._behind))
            for source, sink, is_client in ((client, engine, True), (engine, client, False)):
                threading.Thread(
                    target=self._carry, args=(source, sink, is_client), daemon=True
                ).start()

    def _carry(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if is_client:
                    requests = REQUEST.findall(data)
                    self._asked += [
                        f"{method.decode()} {path.decode()}" for method, path in requests
                    ]
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            source.close()


@pytest.fixture
def host() -> Iterator[GpuHost]:
    with GpuHost(gpus=2) as host:
        yield host


@pytest.fixture(scope="module")
def scale_engine(module_stage: Stage) -> DockerEngine:
    """An engine with nothing else on it: all containers are counted."""
    return module_stage.docker_engine()


@pytest.fixture
def docker_client(scale_engine: DockerEngine) -> Iterator[DockerClient]:
    client = scale_engine.client()
    yield client
    remove_containers(client)


@pytest.fixture
def proxy(scale_engine: DockerEngine, tmp_path: Path) -> Iterator[CountingProxy]:
    with CountingProxy(tmp_path / "docker.sock", scale_engine.socket) as proxy:
        yield proxy


class Exporter:
    """An exporter that runs."""

    def __init__(self, daemon: Daemon, port: int) -> None:
        self.daemon = daemon
        self._url = f"http://{LOOPBACK}:{port}/metrics"

    def scrape(self) -> Counter[str]:
        """Return how many series of each name there are."""
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            text = answer.read().decode()
        return Counter(s.name for family in read_text(text) for s in family.samples)

    def sees(self, containers: int) -> bool:
        return self.scrape()["ds01_container_info"] == containers


@pytest.fixture
def exporter(stage: Stage, host: GpuHost, proxy: CountingProxy) -> Exporter:
    port = free_port()
    daemon = stage.daemon(
        "exporter",
        [
            *(sys.executable, "-m", "remediator", "export", "--gpu-metrics"),
            *("--listen", f"{LOOPBACK}:{port}", "--docker-host", proxy.url),
        ],
        ready=lambda: answers(port),
        environment={**os.environ, **host.environment},
    )
    return Exporter(daemon, port)


def test_scrapes_ask_docker_nothing_and_each_container_is_inspected_once(
    docker_client: DockerClient, host: GpuHost, proxy: CountingProxy, request: pytest.FixtureRequest
) -> None:
    ids = Crowd(docker_client, host).start(20)
    # When its first feed of events ends, an exporter asks for those of two seconds before that
    # began as well, and looks at whatever was born in them.
    until = time.monotonic() + 2.5
    eventually(lambda: time.monotonic() > until, 5, "their births are past")
    exporter: Exporter = request.getfixturevalue("exporter")
    eventually(lambda: exporter.sees(20), 20, "all containers are shown")
    before, began = proxy.asked, time.monotonic()

    for _ in range(100):
        exporter.scrape()

    # What the inventory asks by itself, every few seconds, whoever scrapes: on a busy machine a
    # hundred scrapes take a while.
    during = proxy.asked[len(before) :]
    assert len(during) < 20 + 2 * (time.monotonic() - began) < 100, during
    assert proxy.inspected == dict.fromkeys(ids, 1)


def test_a_new_container_is_inspected_once_at_its_birth_and_once_at_its_start(
    docker_client: DockerClient, host: GpuHost, proxy: CountingProxy, exporter: Exporter
) -> None:
    crowd = Crowd(docker_client, host)
    eventually(lambda: exporter.scrape()["ds01_inventory_age_seconds"], 20, "the first list")
    [first] = crowd.start(1)
    eventually(lambda: exporter.sees(1), 20, "the first is shown")
    crowd.start(5)
    eventually(lambda: exporter.sees(6), 20, "all are shown")

    assert len(proxy.inspected) == 6
    assert first in proxy.inspected
    assert max(proxy.inspected.values()) <= 2


def test_nothing_is_kept_of_containers_that_came_and_went(
    docker_client: DockerClient, host: GpuHost, exporter: Exporter
) -> None:
    crowd = Crowd(docker_client, host)
    crowd.start(10)
    pid = exporter.daemon.pid
    scraping = threading.Event()
    scraper = threading.Thread(target=scrape_until, args=(exporter, scraping), daemon=True)
    scraper.start()
    crowd.pass_through(WARM_UP)
    eventually(lambda: exporter.sees(10), 10, "only those that stay are left")
    # What they use is measured ahead, every two seconds.
    usage = "ds01_container_cpu_usage_seconds_total"
    eventually(lambda: exporter.scrape()[usage] == 10, 10, "nobody else's use is shown")
    series, before = exporter.scrape(), footprint_of(pid)

    crowd.pass_through(PASSING)
    eventually(lambda: exporter.sees(10), 10, "only those that stay are left")
    scraping.set()
    scraper.join()

    eventually(lambda: footprint_of(pid).threads <= before.threads, 5, "no thread is left")
    after = footprint_of(pid)
    eventually(lambda: exporter.scrape() == series, 10, "the same series as before are shown")
    assert after.files < MOST_FILES
    assert 0 < after.own_kib < before.own_kib + 2 * MIB


def scrape_until(exporter: Exporter, end: threading.Event) -> None:
    while not end.wait(0.1):
        exporter.scrape()
