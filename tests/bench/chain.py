"""A chain from a metric to a dead container: Remediator's, and a bare one beside it.

Both hang on the same Prometheus and the same Alertmanager. The bare one ends in a Flask
application that stops whatever container an alert names and asks nobody.
"""

import contextlib
import http.server
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from docker import DockerClient

from tests.bench.crowd import Crowd
from tests.eventually import eventually
from tests.peers.alertmanager import Alertmanager, per_target_configuration
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.prometheus import Prometheus
from tests.peers.site import Site
from tests.peers.stage import Stage

ALERT = "DS01ContainerIdle"
OURS, BARE = "remediator", "bare"
FOR_SECONDS = 2
_GPUS = 8
# It exits on SIGTERM at once: what is measured is the way there.
COMMAND = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait")
# As it is unless somebody sets it; what is on trial in tests looks again after a second.
DEFAULTS = {"recheck": "15s"}
_JOB = "bench"
_BARE = """
import sys
import docker
from flask import Flask, request
app, client = Flask("bare"), docker.DockerClient(base_url=sys.argv[1])
@app.post("/")
def stop():
    for alert in request.json["alerts"]:
        if alert["status"] == "firing":
            client.containers.get(alert["labels"]["container_id"]).stop()
    return ""
app.run("127.0.0.1", int(sys.argv[2]), threaded=True)
"""
# Everything may be done, as often as it is asked for and at once: no cap is what is measured.
_POLICY: dict[str, Any] = {
    "mode": "act",
    "breaker": {"open_after": ["100000 per 1h"]},
    "rules": [
        {
            "name": "idle container",
            "match": [f'alertname="{ALERT}"'],
            "do": [
                {
                    "stop-container": {"grace": "30s", "remove": False},
                    "attempts": ["3 per 1h"],
                    "cooldown": "1s",
                    "timeout": "60s",
                    "verify": {"within": "30s"},
                }
            ],
            "tell": [],
        }
    ],
}


class IdleMetric:
    """An exporter of one gauge: which containers are said to be idle, and for which chain."""

    def __init__(self) -> None:
        self._idle: dict[str, str] = {}
        metric = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = metric.page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.address = f"{LOOPBACK}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def set(self, container_id: str, chain: str) -> None:
        """Say from now on that it is idle."""
        self._idle[container_id] = chain

    def forget(self, container_ids: Iterable[str]) -> None:
        """Say nothing more of them."""
        for container_id in container_ids:
            self._idle.pop(container_id, None)

    def page(self) -> str:
        """Return what is scraped."""
        lines = [
            f'bench_idle{{container_id="{one}",chain="{chain}"}} 1\n'
            for one, chain in list(self._idle.items())
        ]
        return "# TYPE bench_idle gauge\n" + "".join(lines)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class Deaths:
    """When each container died, by the engine's own events; seconds of the wall clock."""

    def __init__(self, client: DockerClient) -> None:
        self._at: dict[str, float] = {}
        self._events = client.api.events(decode=True, filters={"event": "die"})
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def of(self, container_id: str, within: float = 60) -> float:
        """Return when it died, waiting for that."""
        eventually(lambda: container_id in self._at, within, f"{container_id[:12]} to die")
        return self._at[container_id]

    def close(self) -> None:
        """Stop listening."""
        self._events.close()
        self._thread.join(5)

    def _listen(self) -> None:
        for event in self._events:
            self._at[event["id"]] = event["timeNano"] / 1e9


@dataclass(slots=True)
class Chain:
    """Both chains, started; ``alertmanager`` is handed the alerts unless Prometheus does it."""

    site: Site
    crowd: Crowd
    client: DockerClient
    prometheus: Prometheus
    alertmanager: Alertmanager
    metric: IdleMetric
    deaths: Deaths
    started: float = field(default_factory=time.monotonic)

    def fire(self, ours: list[str], bare: list[str]) -> dict[str, dict[str, str]]:
        """Have alerts about these fire in Prometheus; return the labels by container."""
        for chain, ids in ((OURS, ours), (BARE, bare)):
            for container_id in ids:
                self.metric.set(container_id, chain)
        wanted = {*ours, *bare}
        eventually(lambda: wanted <= self._firing().keys(), 60, "all alerts to fire")
        return self._firing()

    def until_measured(self, ids: Iterable[str]) -> None:
        """Wait until what each did can be told: its counters were scraped four seconds ago."""
        wanted = set(ids)

        def are_scraped() -> bool:
            query = "ds01_container_cpu_usage_seconds_total offset 4s"
            return wanted <= {one.labels["container_id"] for one in self.prometheus.query(query)}

        eventually(are_scraped, 60, "all counters to be scraped")

    def _firing(self) -> dict[str, dict[str, str]]:
        return {a["labels"]["container_id"]: a["labels"] for a in self.prometheus.firing(ALERT)}


@contextlib.contextmanager
def started_chain(
    stage: Stage, *, wired: bool, settings: Mapping[str, Any] | None = None
) -> Iterator[Chain]:
    """Start both chains; if *wired*, Prometheus hands its alerts to Alertmanager itself."""
    engine = stage.docker_engine()
    with GpuHost(gpus=_GPUS) as gpus:
        site = Site(
            stage, engine, gpus, policy=_POLICY, limits={}, more_settings=settings or {}
        ).prepare()
        alertmanager = stage.alertmanager(config=_routes(site, _bare_app(stage, engine)))
        metric, client = IdleMetric(), engine.client()
        site.start_exporter()
        prometheus = _prometheus(stage, site, metric, alertmanager if wired else None)
        site.prometheus_url = prometheus.url
        site.prepare()
        site.start_receiver()
        site.start_worker()
        deaths = Deaths(client)
        try:
            crowd = Crowd(client, gpus, command=COMMAND)
            yield Chain(site, crowd, client, prometheus, alertmanager, metric, deaths)
        finally:
            deaths.close()
            metric.close()


def _bare_app(stage: Stage, engine: DockerEngine) -> str:
    port = free_port()
    stage.daemon(
        "bare",
        [sys.executable, "-c", _BARE, engine.url, str(port)],
        ready=lambda: answers(port),
        environment=dict(os.environ),
    )
    return f"http://{LOOPBACK}:{port}/"


def _routes(site: Site, bare_url: str) -> dict[str, Any]:
    config = per_target_configuration(site.webhook, site.token_file)
    config["route"]["routes"] = [{"matchers": [f'chain="{BARE}"'], "receiver": BARE}]
    config["receivers"].append({"name": BARE, "webhook_configs": [{"url": bare_url}]})
    return config


def _prometheus(
    stage: Stage, site: Site, metric: IdleMetric, alertmanager: Alertmanager | None
) -> Prometheus:
    rules = stage.folder / "bench-rules.yml"
    rule = {"alert": ALERT, "expr": "bench_idle > 0", "for": f"{FOR_SECONDS}s"}
    rules.write_text(yaml.safe_dump({"groups": [{"name": "bench", "rules": [rule]}]}))
    prometheus = stage.prometheus(
        [rules],
        {"ds01-exporter": [f"{LOOPBACK}:{site.exporter_port}"], _JOB: [metric.address]},
        alertmanagers=[alertmanager.address] if alertmanager else [],
    )
    eventually(lambda: len(prometheus.targets_up()) == 2, 30, "both are scraped")
    return prometheus
