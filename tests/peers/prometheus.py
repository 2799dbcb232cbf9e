"""A real Prometheus on a free loopback port."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import requests
import yaml

from tests.peers.missing import require_tool
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.process import Daemon

_TIMEOUT_SECONDS = 10
# It waits for every target and every group of rules that is in the middle of something.
_RELOAD_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant query's answer."""

    labels: Mapping[str, str]
    value: float


def _eager(program: str) -> list[str]:
    """Take over newly discovered targets at once instead of after up to 5 s.

    Discovery itself looks every 5 s, counted from the start, and nothing changes that. The option
    is hidden, and unknown to older versions, which then take their time.
    """
    option = "--scrape.discovery-reload-interval=100ms"
    asked = subprocess.run([program, option, "--version"], capture_output=True, check=False)
    return [option] if asked.returncode == 0 else []


class Prometheus:
    """One Prometheus, with its configuration and storage in *folder*.

    *scrape* maps a job to its addresses (``host:port``); everything is scraped and evaluated
    every *interval*. *rule_interval* replaces the interval that groups of the rule files ask for,
    and *waits* every ``for`` and ``keep_firing_for``, so that shipped rules can be watched without
    waiting for minutes.
    """

    def __init__(
        self,
        folder: Path,
        rule_files: Iterable[Path] = (),
        scrape: Mapping[str, Sequence[str]] | None = None,
        interval: str = "1s",
        alertmanagers: Iterable[str] = (),
        *,
        rule_interval: str | None = None,
        waits: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._interval = interval
        self._rule_interval = rule_interval
        self._waits = waits
        self._rule_files = [Path(path) for path in rule_files]
        self._scrape = {job: list(addresses) for job, addresses in (scrape or {}).items()}
        self._alertmanagers = list(alertmanagers)
        program = require_tool("prometheus")
        self.daemon = Daemon(
            "prometheus",
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={LOOPBACK}:{self.port}",
                "--web.enable-lifecycle",
                *_eager(program),
                *arguments,
            ],
            folder,
            ready=self.is_ready,
        )

    @property
    def address(self) -> str:
        """Its ``host:port``, to be scraped at."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Start, on the storage of an earlier start if there was one."""
        self._write_configuration()
        self.daemon.start()
        return self

    def load(self, rule_files: Iterable[Path]) -> None:
        """Have other rule files from now on."""
        self._rule_files = [Path(path) for path in rule_files]
        self.reload()

    def stop(self) -> None:
        """Stop as an operator would."""
        self.daemon.stop()

    def kill(self) -> None:
        """Stop as a power failure would."""
        self.daemon.kill()

    def is_ready(self) -> bool:
        """Whether it serves queries."""
        try:
            return requests.get(f"{self.url}/-/ready", timeout=_TIMEOUT_SECONDS).ok
        except requests.RequestException:
            return False

    def reload(self) -> None:
        """Read configuration and rules again; raises what Prometheus says against them."""
        self._write_configuration()
        answer = requests.post(f"{self.url}/-/reload", timeout=_RELOAD_SECONDS)
        if not answer.ok:
            # The answer says that something is wrong; what it is, only the log does.
            raise ValueError(f"{answer.text}{self.daemon.log_tail(5)}")

    def scrape_every(self, interval: str) -> None:
        """Scrape, and evaluate what has no interval of its own, every *interval* from now on."""
        self._interval = interval
        self.reload()

    def add_target(self, job: str, address: str) -> None:
        """Scrape one more address, from now on."""
        self._scrape.setdefault(job, []).append(address)
        self.reload()

    def remove_target(self, job: str, address: str) -> None:
        """Scrape one address no longer."""
        self._scrape[job].remove(address)
        self.reload()

    def query(self, expression: str) -> list[Sample]:
        """The samples of an instant vector, now."""
        result = self._api("query", query=expression)["result"]
        return [Sample(row["metric"], float(row["value"][1])) for row in result]

    def alerts(self) -> list[dict[str, Any]]:
        """Its active alerts, pending and firing, as its API gives them."""
        alerts: list[dict[str, Any]] = self._api("alerts")["alerts"]
        return alerts

    def firing(self, alertname: str) -> list[dict[str, Any]]:
        """The firing ones of *alertname*."""
        return [
            alert
            for alert in self.alerts()
            if alert["labels"]["alertname"] == alertname and alert["state"] == "firing"
        ]

    def targets_up(self) -> dict[str, bool]:
        """Which scraped addresses answered the last scrape."""
        return {row.labels["instance"]: row.value == 1 for row in self.query("up")}

    def _api(self, path: str, **parameters: str) -> dict[str, Any]:
        answer = requests.get(
            f"{self.url}/api/v1/{path}", params=parameters, timeout=_TIMEOUT_SECONDS
        )
        content = answer.json()
        if content["status"] != "success":
            raise ValueError(content["error"])
        data: dict[str, Any] = content["data"]
        return data

    def _write_configuration(self) -> None:
        configuration = {
            "global": {
                "scrape_interval": self._interval,
                "scrape_timeout": self._interval,
                "evaluation_interval": self._interval,
            },
            "rule_files": [str(self._rule_file(path)) for path in self._rule_files],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": addresses}]}
                for job, addresses in self._scrape.items()
            ],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": self._alertmanagers}]}]},
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def _rule_file(self, path: Path) -> Path:
        if self._rule_interval is None and self._waits is None:
            return path.resolve()
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            if self._rule_interval is not None:
                group["interval"] = self._rule_interval
            for rule in group["rules"]:
                for wait in {"for", "keep_firing_for"} & rule.keys():
                    rule[wait] = self._waits or rule[wait]
        copy = self.folder / "rules" / path.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(yaml.safe_dump(rules, sort_keys=False))
        return copy
