"""The shipped rules in a real Prometheus."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest

from tests.alert_rules.shipped import RULE_FILES, alerts
from tests.eventually import eventually, patience
from tests.peers.ports import LOOPBACK
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
        self.uuid = f"GPU-{self._server.server_port}"

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
        lines = ["ds01_exporter_info 1", f'DCGM_FI_DEV_GPU_UTIL{{UUID="{self.uuid}"}} {self.util}']
        if self.reported:
            lines.append(f'ds01_container_gpu{{container_id="c1",UUID="{self.uuid}"}} 1')
            lines += [
                f'ds01_container_{name}{{container_id="c1"{extra.get(name, "")}}} {value:.17g}'
                for name, value in values.items()
            ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Watch:
    """What a Prometheus knows of one host."""

    prometheus: Prometheus
    host: FakeHost

    def firing(self, alertname: str) -> list[dict[str, Any]]:
        alerts = self.prometheus.firing(alertname)
        return [alert for alert in alerts if alert["labels"]["instance"] == self.host.address]

    def is_due(self) -> bool:
        return bool(self.firing("DS01ContainerIdle"))

    def clock(self) -> float | None:
        """The proven idle seconds, while they are judged."""
        return self.value("ds01:container_idle_seconds{%s}")

    def last_clock(self) -> float:
        """The proven idle seconds, as judged last; -1 before the first time."""
        value = self.value("last_over_time(ds01:container_idle_seconds{%s}[5m])")
        return -1 if value is None else value

    def began_at_0(self) -> bool:
        """Whether the clock has begun, and at 0, which it shows for a second only."""
        return self.value("min_over_time(ds01:container_idle_seconds{%s}[1m])") == 0

    def clock_resets(self) -> float | None:
        """How often the clock went back."""
        return self.value("resets(ds01:container_idle_seconds{%s}[5m])")

    def value(self, expression: str) -> float | None:
        """The value of an expression, in which %s stands for this host."""
        samples = self.prometheus.query(expression % f'instance="{self.host.address}"')
        return samples[0].value if samples else None


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One for all hosts, with one second instead of fifteen everywhere."""
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), RULE_FILES)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def watch(prometheus: Prometheus) -> Iterator[Watch]:
    with FakeHost() as host:
        prometheus.add_target("ds01-exporter", host.address)
        yield Watch(prometheus, host)
        prometheus.remove_target("ds01-exporter", host.address)


def test_an_idle_container_is_due_when_its_timeout_is_over(watch: Watch) -> None:
    watch.host.timeout_seconds = 10
    eventually(watch.began_at_0, 10, "the clock starts at 0")
    first_judged = "min_over_time(ds01:container_judged_time_seconds{%s}[1m])"
    started = eventually(lambda: watch.value(first_judged), 5, "when the clock started")
    late = 2 * patience()

    eventually(lambda: watch.firing("DS01ContainerIdleSoon"), 12, "the first warning")
    warned = time.time() - started
    (alert,) = eventually(lambda: watch.firing("DS01ContainerIdle"), 6, "the alert")
    due = time.time() - started

    assert 9 - 2 <= warned <= 9 + late
    assert 11 - 2 <= due <= 11 + late
    assert warned < due
    assert due - late <= float(alert["value"]) <= due + 2
    assert alert["labels"]["container_id"] == "c1"
    assert "its limit is 10s" in alert["annotations"]["description"]


def test_whoever_follows_an_alert_to_prometheus_finds_what_it_found(watch: Watch) -> None:
    eventually(watch.is_due, 15, "the alert")
    (expression,) = (a["expr"] for a in alerts() if a["alert"] == "DS01ContainerIdle")

    found = watch.prometheus.query(expression)

    assert watch.host.address in [sample.labels["instance"] for sample in found]


def test_a_failed_scrape_neither_restarts_the_clock_nor_resolves_the_alert(watch: Watch) -> None:
    eventually(watch.is_due, 15, "the alert")

    watch.host.answers = False
    eventually(lambda: watch.clock() is None, 5, "the clock stands")
    due_meanwhile = watch.is_due()
    watch.host.answers = True
    eventually(lambda: watch.clock() is not None, 5, "the clock goes on")

    assert due_meanwhile
    assert watch.is_due()
    assert watch.clock_resets() == 0


@pytest.mark.parametrize("change", ["busy", "keep-alive", "gone"])
def test_the_alert_resolves_within_three_seconds_when_its_cause_is_gone(
    watch: Watch, change: str
) -> None:
    eventually(watch.is_due, 15, "the alert")

    if change == "busy":
        watch.host.util = "80"
    elif change == "keep-alive":
        watch.host.keep_alive_until = time.time() + 3600
    else:
        watch.host.reported = False

    eventually(lambda: not watch.is_due(), 3, "the alert resolves")


def test_blank_values_make_no_container_idle(watch: Watch) -> None:
    watch.host.util = "9223372036854775794"
    cpu = f'ds01:container_cpu_percent{{instance="{watch.host.address}"}}'
    eventually(lambda: watch.prometheus.query(cpu), 10, "the CPU is judged")
    judged_blank = watch.last_clock()

    watch.host.util = "0"
    eventually(watch.began_at_0, 5, "the clock starts with the first value")

    assert judged_blank == -1


def test_a_killed_prometheus_goes_on_counting_where_it_was(watch: Watch) -> None:
    before = eventually(lambda: max(watch.last_clock(), 0), 15, "some idleness")

    watch.prometheus.kill()
    watch.prometheus.start()
    eventually(lambda: watch.last_clock() > before + 1, 15, "the clock goes on")

    assert watch.clock_resets() == 0


def test_who_works_when_prometheus_comes_back_is_not_due(watch: Watch) -> None:
    eventually(watch.is_due, 15, "the alert")
    active = "count_over_time((ds01:container_idle_seconds{%s} == 0)[3s:1s]) >= 3"

    # Killed before it can say that its rules have ended, it shows for minutes what they wrote; and
    # with the rules back after the first scrape, no evaluation of theirs sees what was before.
    watch.prometheus.load([])
    watch.prometheus.kill()
    watch.host.util = "80"
    watch.prometheus.start()
    eventually(lambda: watch.value("DCGM_FI_DEV_GPU_UTIL{%s} == 80"), 15, "it is scraped")
    watch.prometheus.load(RULE_FILES)
    eventually(lambda: watch.value(active), 15, "the container is seen to work")

    assert not watch.firing("DS01ContainerIdle")
    assert not watch.firing("DS01ContainerIdleSoon")
