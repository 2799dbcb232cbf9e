"""The shipped rules in a real Prometheus, and the shipped inhibition in a real Alertmanager."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest

from tests.alert_rules.shipped import ALERTMANAGER, RULE_FILES
from tests.eventually import eventually
from tests.peers.alertmanager import Alertmanager
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.prometheus import Prometheus

pytestmark = pytest.mark.integration


class FakeHost:
    """Serves the metrics of one idle container at one address, GPU and container alike."""

    def __init__(self) -> None:
        self.timeout_seconds = 3
        self.util = "0"
        self.keep_alive_until = 0.0
        self.reported = True
        self.answers = True
        self.started_at = time.time() - 3600
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = host.page().encode()
                self.send_response(200 if host.answers else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.address = f"{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def page(self) -> str:
        age = time.time() - self.started_at
        values = {
            "info": 1,
            "running": 1,
            "started_time_seconds": self.started_at,
            "grace_seconds": 0,
            "idle_timeout_seconds": self.timeout_seconds,
            "gpu_idle_percent_threshold": 5,
            "cpu_idle_percent_threshold": 2,
            "network_idle_bytes_threshold": 1048576,
            "keep_alive_until_seconds": self.keep_alive_until,
            "cpu_usage_seconds_total": age * 0.001,
            "network_receive_bytes_total": age * 10,
            "network_transmit_bytes_total": age * 10,
        }
        extra = {"info": ',container="train",user="ada",interface="api",container_type="docker"'}
        lines = ["ds01_exporter_info 1", f'DCGM_FI_DEV_GPU_UTIL{{UUID="GPU-a"}} {self.util}']
        if self.reported:
            lines.append('ds01_container_gpu{container_id="c1",UUID="GPU-a"} 1')
            lines += [
                f'ds01_container_{name}{{container_id="c1"{extra.get(name, "")}}} {value:.17g}'
                for name, value in values.items()
            ]
        return "\n".join(lines) + "\n"


@pytest.fixture
def host() -> Iterator[FakeHost]:
    with FakeHost() as host:
        yield host


@pytest.fixture
def prometheus(tmp_path: Path, host: FakeHost) -> Iterator[Prometheus]:
    """One second instead of fifteen, everywhere."""
    server = Prometheus(tmp_path, RULE_FILES, {"ds01-exporter": [host.address]})
    server.start()
    try:
        yield server
    finally:
        server.stop()


def idle_seconds(prometheus: Prometheus) -> float:
    """What the clock read last, whether or not it stands."""
    samples = prometheus.query("last_over_time(ds01:container_idle_seconds[5m])")
    return samples[0].value if samples else -1


def fires(prometheus: Prometheus) -> bool:
    return bool(prometheus.firing("DS01ContainerIdle"))


def test_an_idle_container_is_due_when_its_timeout_is_over(
    prometheus: Prometheus, host: FakeHost
) -> None:
    host.timeout_seconds = 10
    eventually(lambda: idle_seconds(prometheus) == 0, 8, "the clock starts at 0")
    started = time.monotonic()

    eventually(lambda: prometheus.firing("DS01ContainerIdleSoon"), 12, "the first warning")
    warned = time.monotonic() - started
    (alert,) = eventually(lambda: prometheus.firing("DS01ContainerIdle"), 6, "the alert")
    due = time.monotonic() - started

    assert host.timeout_seconds * 0.8 <= warned + 1 <= due
    assert abs(due - host.timeout_seconds) <= 2.5
    assert abs(idle_seconds(prometheus) - (time.monotonic() - started)) <= 2
    assert host.timeout_seconds < float(alert["value"]) <= host.timeout_seconds + 2


def test_gaps_neither_restart_the_clock_nor_resolve_the_alert(
    prometheus: Prometheus, host: FakeHost
) -> None:
    eventually(lambda: fires(prometheus), 25, "the alert")
    before = idle_seconds(prometheus)

    host.answers = False
    eventually(lambda: not prometheus.query("ds01:container_idle_seconds"), 5, "the clock stands")
    assert fires(prometheus)
    host.answers = True
    eventually(lambda: prometheus.query("ds01:container_idle_seconds"), 5, "the clock goes on")

    assert fires(prometheus)
    assert idle_seconds(prometheus) > before


def test_a_killed_prometheus_goes_on_counting_where_it_was(prometheus: Prometheus) -> None:
    before = eventually(lambda: max(idle_seconds(prometheus), 0), 15, "some idleness")

    prometheus.kill()
    prometheus.start()
    eventually(lambda: idle_seconds(prometheus) > before + 1, 15, "the clock goes on")

    (resets,) = prometheus.query("resets(ds01:container_idle_seconds[5m])")
    assert resets.value == 0


@pytest.mark.parametrize("change", ["busy", "keep-alive", "gone"])
def test_the_alert_resolves_within_three_seconds_when_its_cause_is_gone(
    prometheus: Prometheus, host: FakeHost, change: str
) -> None:
    eventually(lambda: fires(prometheus), 25, "the alert")

    if change == "busy":
        host.util = "80"
    elif change == "keep-alive":
        host.keep_alive_until = time.time() + 3600
    else:
        host.reported = False

    eventually(lambda: not fires(prometheus), 3, "the alert resolves")


def test_the_greater_alert_of_a_container_inhibits_the_lesser_of_the_same_one(
    tmp_path: Path,
) -> None:
    def alert(name: str, container_id: str) -> dict[str, dict[str, str]]:
        labels = {"alertname": name, "instance": "a:9101", "container_id": container_id}
        return {"labels": labels}

    server = Alertmanager.from_shipped(tmp_path, ALERTMANAGER, f"http://{LOOPBACK}:{free_port()}")
    server.start()
    try:
        server.post(
            [
                alert("DS01ContainerIdleSoon", "c1"),
                alert("DS01ContainerIdleFinal", "c1"),
                alert("DS01ContainerIdle", "c1"),
                alert("DS01ContainerIdleSoon", "c2"),
                alert("DS01ContainerIdleFinal", "c2"),
            ]
        )
        expected = {"DS01ContainerIdle c1", "DS01ContainerIdleFinal c2"}
        eventually(lambda: _uninhibited(server) == expected, 5, f"only {expected} are told")
    finally:
        server.stop()


def _uninhibited(server: Alertmanager) -> set[str]:
    return {
        f"{alert['labels']['alertname']} {alert['labels']['container_id']}"
        for alert in server.alerts()
        if not alert["status"]["inhibitedBy"]
    }
