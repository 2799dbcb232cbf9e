"""A scrape of the exporter beside what Docker itself takes to list as many containers."""

import contextlib
import http.client
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from docker import DockerClient

from tests.bench.crowd import Crowd, grow_to
from tests.bench.footprint import Footprint, footprint_of
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, Verdict, at_most, below, load, number
from tests.bench.timing import Timing, measure
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.stage import Stage

SIZES = (10, 50, 200)
USERS = 50
_GPUS = 8
_BIRTHS = 20
_CPU_SECONDS = 10
_PASSING = 400
# Two p99s of the same thing differ by this much.
_SAME = 1.5
_NOISE_MS = 2.0
_LIST = b"GET /containers/json HTTP/1.0\r\nHost: docker\r\n\r\n"
_FAILING = b'ds01_collector_success{collector="inventory"} 0.0'
# What Prometheus 2.42 asks for.
_ACCEPT = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


class Exporter:
    """A running exporter, and a client that keeps its connection as Prometheus does."""

    def __init__(self, stage: Stage, engine: DockerEngine, host: GpuHost) -> None:
        port = free_port()
        self._daemon = stage.daemon(
            "exporter",
            [
                *(sys.executable, "-m", "remediator", "export", "--gpu-metrics"),
                *("--listen", f"{LOOPBACK}:{port}", "--docker-host", engine.url),
            ],
            ready=lambda: answers(port),
            environment={**os.environ, **host.environment},
        )
        self._client = http.client.HTTPConnection(LOOPBACK, port, timeout=30)

    def scrape(self, encoding: str = "gzip") -> bytes:
        headers = {"Accept": _ACCEPT, "Accept-Encoding": encoding}
        try:
            self._client.request("GET", "/metrics", headers=headers)
            return self._client.getresponse().read()
        except http.client.RemoteDisconnected:
            # It was not used for so long that the exporter closed it; the next one is new.
            self._client.close()
            return self.scrape(encoding)

    def sees(self, containers: int) -> bool:
        return self.scrape().count(b"\nds01_container_info{") == containers

    def footprint(self) -> Footprint:
        return footprint_of(self._daemon.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time it has used so far."""
        with open(f"/proc/{self._daemon.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _host(stage: Stage) -> Iterator[tuple[DockerEngine, DockerClient, GpuHost, Crowd]]:
    engine = stage.docker_engine()
    client = engine.client()
    with GpuHost(gpus=_GPUS) as host:
        yield engine, client, host, Crowd(client, host, USERS)


def bench_scrapes(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure at each of `SIZES`; then how soon what happens shows."""
    rows = []
    with _host(stage) as (engine, client, host, crowd):
        for size in sorted({pace.of(size) for size in SIZES}):
            grow_to(crowd, size)
            exporter = Exporter(stage, engine, host)
            eventually(lambda e=exporter, n=size: e.sees(n), 60, "all are shown")  # type: ignore[misc]
            rows.append(_compare(size, exporter, engine, client, pace.rounds))
        moments = _moments(exporter, engine, crowd, pace)
    return Result(
        [_scrape_table(rows), _moments_table(moments, rows[-1][0])],
        _verdicts(rows[-1][0], rows[-1][1], moments),
        {"scrape_bytes": moments.size, "scrape_cpu_percent": moments.busy},
    )


@dataclass(frozen=True, slots=True)
class Moments:
    """Milliseconds until a start shows and of the scrape that shows it; seconds until a frozen
    Docker is flagged; CPU in percent of a core; bytes of an answer.
    """

    births: tuple[float, ...]
    cold: tuple[float, ...]
    flagged: float
    idle: float
    busy: float
    size: float


def _verdicts(size: int, found: dict[str, Timing], moments: Moments) -> list[Verdict]:
    what = f"scrape at {size} containers"
    scrape, raw, sdk, frozen = (found[name] for name in ("scrape", "list", "sdk", "frozen"))
    return [
        at_most(
            f"{what}, raw list of containers",
            Amount(scrape.median, "ms"),
            Amount(raw.median, "ms"),
            0.33,
        ),
        at_most(f"{what}, SDK list", Amount(scrape.median, "ms"), Amount(sdk.median, "ms"), 0.33),
        below(f"{what}: p99", Amount(scrape.p99, "ms"), 20),
        below(
            "a started container is in the metrics",
            Amount(statistics.median(moments.births), "ms"),
            100,
        ),
        at_most(
            f"{what} with dockerd frozen: p99",
            Amount(frozen.p99, "ms"),
            Amount(max(scrape.p99, _NOISE_MS), "ms"),
            _SAME,
        ),
        below("a frozen dockerd is flagged", Amount(moments.flagged, "s"), 15),
    ]


def _compare(
    size: int, exporter: Exporter, engine: DockerEngine, client: DockerClient, rounds: int
) -> tuple[int, dict[str, Timing], int]:
    found = {
        "list": measure(lambda: _raw_list(engine), rounds=rounds),
        "sdk": measure(client.containers.list, rounds=rounds, times=5),
        "scrape": measure(exporter.scrape, rounds=rounds),
    }
    engine.freeze()
    try:
        found["frozen"] = measure(exporter.scrape, rounds=rounds)
    finally:
        engine.thaw()
    eventually(lambda: _FAILING not in exporter.scrape(), 60, "Docker is heard again")
    return size, found, exporter.scrape().count(b"\n")


def _scrape_table(rows: list[tuple[int, dict[str, Timing], int]]) -> Table:
    return Table(
        f"Scrape: the exporter with {_GPUS} simulated GPUs and containers of {USERS} users",
        (
            "containers",
            "raw list p50",
            "SDK list p50",
            "scrape p50",
            "scrape p99",
            "Docker frozen p50",
            "Docker frozen p99",
            "scrape / raw list",
            "lines",
        ),
        [
            (
                str(size),
                number(found["list"].median),
                number(found["sdk"].median),
                number(found["scrape"].median),
                number(found["scrape"].p99),
                number(found["frozen"].median),
                number(found["frozen"].p99),
                f"{found['scrape'].median / found['list'].median:.2f}",
                str(lines),
            )
            for size, found, lines in rows
        ],
        [
            "The raw list is one `GET /containers/json` on the engine's socket, the SDK list is"
            " `containers.list()`, which inspects each.",
            f"Whole scrapes by HTTP on loopback, OpenMetrics as Prometheus asks for; {load()}.",
        ],
    )


def _moments(exporter: Exporter, engine: DockerEngine, crowd: Crowd, pace: Pace) -> Moments:
    births, cold = zip(*(_birth(exporter, crowd) for _ in range(pace.of(_BIRTHS))), strict=True)
    watched = _CPU_SECONDS * pace.share
    return Moments(
        births,
        cold,
        size=len(exporter.scrape()),
        flagged=_flagged_after(exporter, engine),
        busy=_cpu_percent(exporter, pause=1, seconds=watched),
        idle=_cpu_percent(exporter, pause=None, seconds=watched),
    )


def _moments_table(moments: Moments, containers: int) -> Table:
    return Table(
        f"How soon it shows, at {containers} containers",
        ("what", "p50", "worst"),
        [
            ("a started container is in the metrics", *_spread(moments.births)),
            ("the scrape that first shows it", *_spread(moments.cold)),
            ("a frozen Docker is flagged (s)", number(moments.flagged), ""),
            ("CPU without scrapes (% of a core)", number(moments.idle), ""),
            ("CPU with a scrape each second (% of a core)", number(moments.busy), ""),
            ("size of the answer (KiB)", number(moments.size / 1024), ""),
        ],
    )


def _spread(numbers: tuple[float, ...]) -> tuple[str, str]:
    return number(statistics.median(numbers)), number(max(numbers))


def _birth(exporter: Exporter, crowd: Crowd) -> tuple[float, float]:
    """Return milliseconds from a container's start to its being shown, and of that scrape."""
    container_id = crowd.start_one()
    needle = f'ds01_container_running{{container_id="{container_id}"}} 1.0'.encode()
    started = time.perf_counter()
    while True:
        began = time.perf_counter()
        if needle in exporter.scrape():
            shown = time.perf_counter()
            break
    crowd.remove([container_id])
    return (shown - started) * 1000, (shown - began) * 1000


def _flagged_after(exporter: Exporter, engine: DockerEngine) -> float:
    """Return seconds until a frozen Docker shows as a failing collector."""
    engine.freeze()
    began = time.monotonic()
    try:
        eventually(lambda: _FAILING in exporter.scrape(), 60, "it is flagged")
        return time.monotonic() - began
    finally:
        engine.thaw()


def _cpu_percent(exporter: Exporter, *, pause: float | None, seconds: float) -> float:
    before, began = exporter.cpu_seconds(), time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(pause or seconds)
        if pause is not None:
            exporter.scrape()
    return 100 * (exporter.cpu_seconds() - before) / (time.monotonic() - began)


def _raw_list(engine: DockerEngine) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(engine.socket))
        client.sendall(_LIST)
        answer = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])
    return answer


def bench_churn(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Let hundreds of containers come and go, and look at what the exporter keeps of them."""
    with _host(stage) as (engine, _, host, crowd):
        crowd.start(SIZES[0])
        exporter = Exporter(stage, engine, host)
        rows = [_held(0, exporter)]
        for passed in sorted({pace.of(_PASSING // 4), pace.of(_PASSING // 2), pace.of(_PASSING)}):
            crowd.pass_through(passed - int(rows[-1][0]))
            eventually(lambda: exporter.sees(SIZES[0]), 30, "those that stay are shown")
            rows.append(_held(passed, exporter))
    table = Table(
        f"What is kept after containers came and went, beside {SIZES[0]} that stay",
        ("came and went", "memory (KiB)", "files", "threads", "series", "scrape p50", "p99"),
        rows,
        ["Memory is the proportional set size. The first row is from before the warm-up."],
    )
    return Result([table])


def _held(passed: int, exporter: Exporter) -> tuple[str, ...]:
    eventually(lambda: exporter.sees(SIZES[0]), 30, "those that stay are shown")
    timing, held = measure(exporter.scrape, rounds=3), exporter.footprint()
    series = sum(not line.startswith(b"#") for line in exporter.scrape().splitlines())
    return (
        str(passed),
        *map(str, (held.memory_kib, held.files, held.threads, series)),
        *(number(timing.median), number(timing.p99)),
    )
