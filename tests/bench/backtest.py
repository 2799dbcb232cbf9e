"""`remediator backtest` over a week of 200 containers, beside only reading the same samples."""

import struct
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np
import requests

from remediator.backtest.backtest import Result as Backtested
from remediator.backtest.prometheus_history import PrometheusHistory
from remediator.core.policy import Mode
from remediator.wiring.backtest import Prepared, Wanted, prepare, run
from tests.bench.pace import Pace
from tests.bench.report import Amount, Result, Table, at_most, number
from tests.peers.prometheus import Prometheus
from tests.peers.stage import Stage

_ROOT = Path(__file__).parents[2]
_CONTAINERS = 200
_WEEK_SECONDS = 7 * 86400
_STEP_SECONDS = 30
_BATCH_SECONDS = 1800
_PAGE = timedelta(hours=6)
_CONSTANTS: Mapping[str, float] = {
    "ds01_container_running": 1,
    "ds01_container_grace_seconds": 600,
    "ds01_container_idle_timeout_seconds": 1800,
    "ds01_container_max_runtime_seconds": 1e6,
    "ds01_container_gpu_idle_percent_threshold": 5,
    "ds01_container_cpu_idle_percent_threshold": 2,
    "ds01_container_network_idle_bytes_threshold": 2**20,
}
_DS01 = {"instance": "gpu1:9101", "job": "ds01-exporter"}
_DCGM = {"instance": "gpu1:9400", "job": "dcgm-exporter"}
Labels = Mapping[str, str]


def bench_backtest(stage: Stage, pace: Pace) -> Result:
    """Measure a week, or that share of it."""
    containers, seconds = pace.of(_CONTAINERS), pace.of(_WEEK_SECONDS)
    rules = sorted((_ROOT / "alert_rules").glob("*.yml"))
    prometheus = stage.prometheus(
        rule_interval="30s",
        arguments=[
            "--web.enable-remote-write-receiver",
            f"--storage.tsdb.retention.time={2 * _WEEK_SECONDS}s",
        ],
    )
    end = int(time.time()) // 3600 * 3600 - 7200
    begin = end - seconds
    samples = _fill(prometheus, begin, end, containers)
    # What they record now would make all older samples too old to be taken.
    prometheus.load(rules)
    wanted = Wanted(
        prometheus=prometheus.url,
        samples=None,
        rules=[],
        policy=_ROOT / "compose" / "policy.example.yaml",
        begin=begin * 1000,
        end=end * 1000,
        step=None,
        page=_PAGE,
        warm_up=timedelta(seconds=1),
        mode=Mode.ACT,
        now=int(time.time() * 1000),
    )
    plain, plain_cpu = _seconds(lambda: _read_plainly(prepare(wanted), prometheus.url))
    reading, read_cpu = _seconds(lambda: _read(prepare(wanted)))
    found: list[Backtested] = []
    whole, own_cpu = _seconds(lambda: found.extend(run(prepare(wanted), None, lambda _: None)))
    rows = [
        ("reading the samples with requests, nothing done", number(plain), number(plain_cpu)),
        ("reading them as the backtest does, nothing done", number(reading), number(read_cpu)),
        ("the whole backtest", number(whole), number(own_cpu)),
    ]
    title = f"A backtest of {seconds / 86400:.3g} days, {containers} containers, every 30 s"
    note = f"{samples / 1e6:.1f} million samples, all shipped rules, {len(found[0].fired)} firings."
    table = Table(title, ("what", "seconds", "of its own processor time"), rows, (note,))
    verdict = at_most("a backtest, beside reading", Amount(whole, "s"), Amount(plain, "s"), 2)
    return Result((table,), (verdict,), {"backtest_samples_per_second": samples / whole})


def _read_plainly(prepared: Prepared, url: str) -> None:
    """Read every metric as a script would: page by page, each answer as JSON."""
    stretch, length = prepared.span.evaluated, prepared.page
    with requests.Session() as session:
        for begin in range(stretch.begin, stretch.end, length):
            end = min(begin + length, stretch.end)
            for metric in sorted(prepared.backtest.metrics):
                asked = {"query": f"{metric}[{end - begin}ms]", "time": f"{(end - 1) / 1000:.3f}"}
                answer = session.get(f"{url}/api/v1/query", params=asked, timeout=300)
                answer.raise_for_status()
                assert answer.json()["status"] == "success"


def _read(prepared: Prepared) -> None:
    history = prepared.history
    assert isinstance(history, PrometheusHistory)
    metrics = prepared.backtest.metrics
    for _ in history.pages(metrics, prepared.span.evaluated, prepared.page):
        pass


def _seconds(action: Callable[[], None]) -> tuple[float, float]:
    """Return how long *action* takes, and how much of the processor this process spends on it."""
    wall, own = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - own


def _fill(prometheus: Prometheus, begin: int, end: int, containers: int) -> int:
    """Write the samples by remote write, half an hour of all series at a time."""
    count = 0
    for first in range(begin, end, _BATCH_SECONDS):
        stamps = np.arange(first, min(first + _BATCH_SECONDS, end), _STEP_SECONDS, dtype=np.int64)
        body = bytearray()
        for labels, values in _series(stamps, begin, containers):
            message = _labels(labels) + _samples(stamps, values)
            body += b"\x0a" + _varint(len(message)) + message
            count += len(stamps)
        answer = requests.post(
            f"{prometheus.url}/api/v1/write",
            data=_snappy(bytes(body)),
            headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
            timeout=60,
        )
        answer.raise_for_status()
    return count


def _series(stamps: np.ndarray, begin: int, containers: int) -> Iterator[tuple[Labels, np.ndarray]]:
    ones = np.ones(len(stamps))
    for exporter in (_DS01, _DCGM):
        yield {"__name__": "up", **exporter}, ones
    for name in ("ds01_exporter_info", "ds01_inventory_age_seconds"):
        yield {"__name__": name, **_DS01}, ones
    yield {"__name__": "ds01_gpu_demand_ratio", **_DS01}, ones / 2
    dice = np.random.default_rng(begin)
    for container in range(containers):
        yield from _container(container, stamps, begin, dice)


def _container(
    container: int, stamps: np.ndarray, begin: int, dice: np.random.Generator
) -> Iterator[tuple[Labels, np.ndarray]]:
    uuid, slot = f"GPU-{container}", str(container)
    own = {"container_id": f"{container:03}" * 21, **_DS01}
    card = {"gpu": slot, "UUID": uuid, "device": f"nvidia{container}", **_DCGM}
    ones, busy = np.ones(len(stamps)), ((stamps - begin) // 3600 + container) % 7 < 4
    info = {
        "container": f"job-{container}",
        "user": f"user{container % 40}",
        "interface": "docker",
        "container_type": "docker",
        "exempt": "false",
    }
    yield {"__name__": "ds01_container_info", **info, **own}, ones
    yield {"__name__": "ds01_container_gpu", "gpu_slot": slot, "UUID": uuid, **own}, ones
    born = begin - 3600 - container
    yield {"__name__": "ds01_container_started_time_seconds", **own}, ones * born
    for name, value in _CONSTANTS.items():
        yield {"__name__": name, **own}, ones * value
    worked = (stamps - begin) * (0.3 if container % 5 else 0.001) * (1 + container / 997)
    for name in ("cpu_usage_seconds", "network_receive_bytes", "network_transmit_bytes"):
        yield {"__name__": f"ds01_container_{name}_total", **own}, worked * 1.0
    used = busy * 90 + dice.integers(0, 4, len(stamps))
    yield {"__name__": "DCGM_FI_DEV_GPU_UTIL", **card}, used * 1.0
    yield {"__name__": "DCGM_FI_DEV_GPU_TEMP", **card}, 50.0 + dice.integers(0, 30, len(stamps))
    gpu = {"gpu": slot, "gpu_uuid": uuid, "slot": slot, "mig_enabled": "false", **_DS01}
    yield {"__name__": "ds01_gpu_slot_info", **gpu}, ones
    yield {"__name__": "ds01_gpu_info", "gpu": slot, "UUID": uuid, **_DS01}, ones
    yield {"__name__": "ds01_gpu_recovery_action", "UUID": uuid, **_DS01}, ones * 0


def _labels(labels: Labels) -> bytes:
    return b"".join(
        b"\x0a" + _field(_field(name.encode(), b"\x0a") + _field(value.encode(), b"\x12"))
        for name, value in sorted(labels.items())
    )


def _field(text: bytes, tag: bytes = b"") -> bytes:
    return tag + _varint(len(text)) + text


def _samples(stamps: np.ndarray, values: np.ndarray) -> bytes:
    """Return samples as protobuf has them: of today's moments each takes 18 bytes."""
    rows = np.zeros((len(stamps), 18), np.uint8)
    rows[:, :3] = (0x12, 0x10, 0x09)
    rows[:, 3:11] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = 0x10
    for place in range(6):
        septet = (stamps * 1000 >> 7 * place) & 0x7F
        rows[:, 12 + place] = septet | (0x80 if place < 5 else 0)
    return rows.tobytes()


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _snappy(data: bytes) -> bytes:
    """Return *data* as snappy's block format, all of it literal."""
    return _varint(len(data)) + b"\xfc" + struct.pack("<I", len(data) - 1) + data
