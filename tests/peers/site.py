"""A whole site on one machine: GPUs, Docker, Prometheus, Alertmanager, mail, and Remediator.

Everything is the real program, started on free loopback ports, but for the NVIDIA driver. The
rules and the Alertmanager routes are the shipped ones; only their pace is quicker.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests
import yaml
from docker import DockerClient

from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from tests.eventually import eventually
from tests.peers.alertmanager import Alertmanager
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.process import Daemon
from tests.peers.prometheus import Prometheus
from tests.peers.smtp import MailServer
from tests.peers.stage import Stage

ROOT = Path(__file__).resolve().parents[2]
HOST = "gpu-host"

# Seconds where a real site has minutes, and no other difference: the keys are DS01's own.
LIMITS: dict[str, Any] = {
    "defaults": {"idle_timeout_h": 0.0025},
    "policies": {"grace_period_m": 0.02, "sigterm_grace_s": 5},
    "container_types": {
        "docker": {"idle_timeout_h": 0.0025, "sigterm_grace_s": 5},
        "unknown": {"idle_timeout_h": 0.0025, "sigterm_grace_s": 5},
    },
}
POLICY: dict[str, Any] = {
    "mode": "act",
    "breaker": {"open_after": ["50 per 1h"]},
    "rules": [
        {
            "name": "idle container",
            "match": ['alertname="DS01ContainerIdle"'],
            "warn": {"before": "3s", "tell": ["owner"]},
            "do": [
                {
                    "stop-container": {"grace": "from-limits", "remove": True},
                    "attempts": ["2 per 6h"],
                    "cooldown": "5s",
                    "timeout": "30s",
                    "verify": {"within": "15s"},
                }
            ],
            "escalate": {"tell": ["admins"]},
            "tell": ["owner", "admins"],
        },
        {
            "name": "container soon idle for too long",
            "match": ['alertname="DS01ContainerIdleSoon"'],
            "do": [{"notify-only": None, "attempts": ["1 per 12h"]}],
            "tell": ["owner"],
        },
        {
            "name": "container about to be idle for too long",
            "match": ['alertname="DS01ContainerIdleFinal"'],
            "do": [{"notify-only": None, "attempts": ["1 per 12h"]}],
            "tell": ["owner"],
        },
    ],
}


@dataclass(slots=True)
class Site:
    """A site on *stage*. What a test does not start does not run, so that it can be missing.

    *waits* replaces every ``for`` of the shipped rules; *scrape* are further jobs of Prometheus;
    *more_settings* go over the settings that are written anyway, and what *environments* has for
    a program (``work``, say) over its environment, from its next start on.
    """

    stage: Stage
    engine: DockerEngine
    gpus: GpuHost
    policy: Mapping[str, Any] = field(default_factory=lambda: POLICY)
    limits: Mapping[str, Any] = field(default_factory=lambda: LIMITS)
    receiver_port: int = field(default_factory=free_port)
    worker_port: int = field(default_factory=free_port)
    exporter_port: int = field(default_factory=free_port)
    prometheus_url: str = ""
    mail: MailServer | None = None
    wall: str = "off"
    workers: int = 8
    waits: str | None = None
    scrape: Mapping[str, Sequence[str]] = field(default_factory=dict)
    more_settings: Mapping[str, Any] = field(default_factory=dict)
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    _docker: DockerClient | None = None

    @property
    def folder(self) -> Path:
        """Where this site keeps its files."""
        return self.stage.folder / "remediator"

    @property
    def state_dir(self) -> Path:
        """Where the inbox and the journal are."""
        return self.folder / "state"

    @property
    def url(self) -> str:
        """The receiver's address."""
        return f"http://{LOOPBACK}:{self.receiver_port}"

    @property
    def webhook(self) -> str:
        """Where Alertmanager posts."""
        return f"{self.url}/api/v1/alerts"

    @property
    def token(self) -> str:
        """The bearer token."""
        return self.token_file.read_text().strip()

    @property
    def token_file(self) -> Path:
        """The file that holds the bearer token."""
        return self.folder / "token"

    @property
    def docker(self) -> DockerClient:
        """A client of the engine, the same one each time."""
        if self._docker is None:
            self._docker = self.engine.client()
        return self._docker

    def prepare(self) -> Self:
        """Write every file that the programs read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token_file.touch(0o600)
        self.token_file.write_text(secrets.token_hex(32) + "\n")
        self._write("policy.yaml", self.policy)
        self._write("limits.yaml", self.limits)
        self._write("settings.yaml", self._settings())
        return self

    def start_exporter(self) -> Daemon:
        """Start the DS01 exporter, which stands in for DCGM's as well."""
        return self._program("export", f"http://{LOOPBACK}:{self.exporter_port}/health")

    def start_receiver(self) -> Daemon:
        """Start the receiver."""
        return self._program("serve", f"{self.url}/-/ready")

    def start_worker(self) -> Daemon:
        """Start the worker."""
        return self._program("work", f"http://{LOOPBACK}:{self.worker_port}/metrics")

    def start_prometheus(self, *alertmanagers: Alertmanager) -> Prometheus:
        """Start Prometheus with the shipped rules, scraping and evaluating every second."""
        exporter = f"{LOOPBACK}:{self.exporter_port}"
        prometheus = self.stage.prometheus(
            sorted((ROOT / "alert_rules").glob("*.yml")),
            {"ds01-exporter": [exporter], **self.scrape},
            alertmanagers=[alertmanager.address for alertmanager in alertmanagers],
            rule_interval="1s",
            waits=self.waits,
        )
        self.prometheus_url = prometheus.url
        self._write("settings.yaml", self._settings())
        return prometheus

    def start_alertmanager(self) -> Alertmanager:
        """Start Alertmanager with the shipped routes."""
        return self.stage.shipped_alertmanager(
            ROOT / "alertmanager" / "alertmanager.yml",
            self.webhook,
            self.token_file,
            mail=self.mail,
        )

    def start(self) -> Prometheus:
        """Start everything; return Prometheus, of which most questions are asked."""
        prometheus, _ = self.start_watching()
        self.start_receiver()
        self.start_worker()
        return prometheus

    def start_watching(self) -> tuple[Prometheus, Alertmanager]:
        """Start all but the receiver and the worker.

        Prometheus goes first: it takes 5 s before it scrapes, during which the others start.
        """
        self.prepare()
        alertmanager = self.start_alertmanager()
        prometheus = self.start_prometheus(alertmanager)
        self.start_exporter()
        return prometheus, alertmanager

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run one command of Remediator's and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "remediator", *arguments],
            check=False,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def journal(self) -> Journal:
        """Open the journal for reading."""
        return Journal.for_reading(self.state_dir)

    def inbox(self) -> Inbox:
        """Open the inbox for reading."""
        return Inbox.for_worker(self.state_dir / "inbox")

    def deliver(self, body: bytes, **headers: str) -> requests.Response:
        """Post *body* to the receiver as Alertmanager does."""
        return requests.post(
            self.webhook,
            data=body,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
                **headers,
            },
            timeout=10,
        )

    def until(self, query: str, expected: object, within: float = 30) -> None:
        """Wait until the first column of the first row of *query* on the journal is *expected*."""
        eventually(lambda: self.ask(query) == expected, within, f"{query} to give {expected!r}")

    def ask(self, query: str) -> object:
        """Return the first column of the first row of *query* on the journal, None without one."""
        return ask(self.state_dir, query)

    def _program(self, command: str, ready_url: str) -> Daemon:
        return self.stage.daemon(
            command,
            [sys.executable, "-m", "remediator", command],
            ready=lambda: _answers(ready_url),
            environment={**self.environment(), **self.environments.get(command, {})},
        )

    def environment(self) -> dict[str, str]:
        """The environment that the programs run in."""
        environment = {**os.environ, **self.gpus.environment}
        environment["REMEDIATOR_SETTINGS"] = str(self.folder / "settings.yaml")
        return environment

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "host": HOST,
            "state_dir": str(self.state_dir),
            "policy": str(self.folder / "policy.yaml"),
            "limits": str(self.folder / "limits.yaml"),
            "listen": f"{LOOPBACK}:{self.receiver_port}",
            "worker_listen": f"{LOOPBACK}:{self.worker_port}",
            "exporter_listen": f"{LOOPBACK}:{self.exporter_port}",
            "gpu_metrics": True,
            "token_file": str(self.token_file),
            "docker_host": self.engine.url,
            "docker_timeout": "4s",
            "recheck": "1s",
            "workers": self.workers,
            "wall": self.wall,
            # Nobody is to wait for what is not a flood.
            "digest": {"within": "1s"},
        }
        if self.prometheus_url:
            settings["prometheus_url"] = self.prometheus_url
        if self.mail is not None:
            settings["mail"] = self._mail_settings(self.mail)
        return {**settings, **self.more_settings}

    def _mail_settings(self, mail: MailServer) -> dict[str, Any]:
        password_file = self.folder / "mail-password"
        password_file.write_text(mail.password)
        return {
            "host": mail.host,
            "port": mail.port,
            "ca_file": str(mail.ca_file),
            "username": mail.user,
            "password_file": str(password_file),
            "from": "remediator@example.org",
            "pattern": "{user}@example.org",
            "admins": ["admins@example.org"],
            "timeout": "5s",
        }

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(dict(value), sort_keys=False))


def ask(state_dir: Path, query: str) -> object:
    """Return the first column of the first row of *query* on a journal, None without one."""
    journal = Journal.for_reading(state_dir)
    try:
        row = journal._database.row(query)
    finally:
        journal.close()
    return None if row is None else row[0]


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == requests.codes.ok
    except requests.RequestException:
        return False
