"""What is compared with: Debian's `webhook`, and the packages that the measurements need."""

import json
import os
import subprocess
from pathlib import Path

from tests.peers.missing import find_tool, require_tool
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.process import Daemon
from tests.peers.stage import Stage

# Program -> Debian package.
_PACKAGES = {"webhook": "webhook", "wrk": "wrk"}


def install() -> None:
    """Install from Debian what is missing, if we are root; otherwise the part says what is."""
    missing = [package for program, package in _PACKAGES.items() if find_tool(program) is None]
    if not missing or os.geteuid() != 0:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        subprocess.run(["apt-get", "--quiet=2", *command], env=quiet, check=True)


class Webhook:
    """Debian's `webhook`, which runs /bin/true for each delivery, then answers, and keeps none."""

    def __init__(self, stage: Stage) -> None:
        install()
        port = free_port()
        hooks = stage.folder / f"hooks-{port}.json"
        hook = {
            "id": "bench",
            "execute-command": "/bin/true",
            # Without, it answers before it has run anything.
            "include-command-output-in-response": True,
        }
        hooks.write_text(json.dumps([hook]))
        self.url = f"http://{LOOPBACK}:{port}/hooks/bench"
        self.port = port
        self._daemon: Daemon = stage.daemon(
            "webhook",
            [require_tool("webhook"), "-hooks", str(hooks), "-ip", LOOPBACK, "-port", str(port)],
            ready=lambda: answers(port),
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._daemon.pid

    def stop(self) -> None:
        """Stop it."""
        self._daemon.stop()


def delivery_file(folder: Path, alerts: int) -> Path:
    """Return a file with a delivery of so many alerts, as long as Alertmanager's are."""
    path = folder / f"delivery-{alerts}.json"
    path.write_bytes(delivery(alerts))
    return path


def delivery(alerts: int, first: int = 0) -> bytes:
    """Return a delivery of so many alerts about as many containers, of about 1 KB each."""
    body = {
        "version": "4",
        "groupKey": '{}:{alertname="DS01ContainerIdle"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "remediator",
        "groupLabels": {"alertname": "DS01ContainerIdle"},
        "commonLabels": {"alertname": "DS01ContainerIdle"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [_alert(number) for number in range(first, first + alerts)],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def _alert(number: int) -> dict[str, object]:
    return {
        "status": "firing",
        "labels": {
            "alertname": "DS01ContainerIdle",
            "container": f"crowd-{number}",
            "container_id": f"{number:064x}",
            "gpu_uuid": f"GPU-{number:08x}-0000-0000-0000-000000000000",
            "instance": f"host-{number // 8}:9101",
            "job": "ds01-exporter",
            "severity": "warning",
            "user": f"user{number % 50}",
        },
        "annotations": {
            "summary": "A container holds a GPU and does not use it.",
            "description": f"Container crowd-{number} of user{number % 50} has been idle for longer"
            " than its limit allows: its GPU at 0 %, its CPU at 0.3 %, and no network. " * 2,
            "runbook_url": "https://runbooks.example.org/alert_rules/runbooks/DS01ContainerIdle.md",
        },
        "startsAt": "2026-03-01T12:00:00.123Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph?g0.expr=ds01_container_idle_seconds&g0.tab=1",
        "fingerprint": f"{number:016x}",
    }
