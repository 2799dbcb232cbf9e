"""A real Alertmanager on free loopback ports, alone or as one of a mesh."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import requests
import yaml

from tests.peers.missing import require_tool
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.process import Daemon
from tests.peers.smtp import MailServer

_TIMEOUT_SECONDS = 10

# The labels that name one target; the shipped remediation route groups by all labels instead.
TARGET_LABELS = ("alertname", "instance", "container_id", "UUID", "GPU_I_ID")


def per_target_configuration(
    webhook_url: str,
    token_file: Path | None = None,
    *,
    group_wait: str = "0s",
    group_interval: str = "1s",
) -> dict[str, Any]:
    """A configuration that posts every alert to *webhook_url*, one group per target."""
    webhook: dict[str, Any] = {"url": webhook_url, "send_resolved": True}
    if token_file is not None:
        webhook["http_config"] = {"authorization": {"credentials_file": str(token_file)}}
    return {
        "route": {
            "receiver": "remediator",
            "group_by": list(TARGET_LABELS),
            "group_wait": group_wait,
            "group_interval": group_interval,
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "remediator", "webhook_configs": [webhook]}],
    }


def shipped_configuration(
    path: Path,
    webhook_url: str,
    token_file: Path | None = None,
    *,
    mail: MailServer | None = None,
    group_wait: str = "0s",
    group_interval: str = "1s",
) -> dict[str, Any]:
    """The configuration file at *path*, with this machine's addresses and shorter waits.

    Routes, matchers, inhibition, receivers and templates stay as they are. Without a *mail*
    server the mail receivers stay too and their mails go to a port that nobody listens on.
    """
    configuration: dict[str, Any] = yaml.safe_load(path.read_text())
    configuration["templates"] = [
        str(path.parent / pattern) for pattern in configuration.get("templates", [])
    ]
    configuration["global"] = {**configuration.get("global", {}), **_smtp_settings(mail)}
    for receiver in configuration["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = webhook_url
            webhook.pop("http_config", None)
            if token_file is not None:
                webhook["http_config"] = {"authorization": {"credentials_file": str(token_file)}}
        for email in receiver.get("email_configs", []):
            _send_mail_to(email, mail)
    _hurry(configuration["route"], group_wait, group_interval)
    return configuration


def _smtp_settings(mail: MailServer | None) -> dict[str, Any]:
    if mail is None:
        return {"smtp_smarthost": f"{LOOPBACK}:{free_port()}"}
    return {
        "smtp_smarthost": mail.address,
        "smtp_from": "alertmanager@gpu-host.example",
        "smtp_auth_username": mail.user,
        "smtp_auth_password": mail.password,
        "smtp_require_tls": True,
    }


def _send_mail_to(email: dict[str, Any], mail: MailServer | None) -> None:
    for key in ("smarthost", "auth_username", "auth_password", "auth_password_file"):
        email.pop(key, None)
    if mail is not None:
        email["tls_config"] = {"ca_file": str(mail.ca_file)}


def _hurry(route: dict[str, Any], group_wait: str, group_interval: str) -> None:
    route["group_wait"] = group_wait
    route["group_interval"] = group_interval
    for child in route.get("routes", []):
        _hurry(child, group_wait, group_interval)


class Alertmanager:
    """One Alertmanager, with its configuration and storage in *folder*.

    It is alone unless told of *peers*: the ``mesh_address`` of others makes a high-availability
    pair, where each starts with the addresses of those started before it.
    """

    def __init__(
        self,
        folder: Path,
        webhook_url: str = "",
        token_file: Path | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        mesh: bool = False,
        peers: Iterable[str] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.address = f"{LOOPBACK}:{self.port}"
        self.url = f"http://{self.address}"
        peers = list(peers)
        self.mesh_address = f"{LOOPBACK}:{free_port()}" if mesh or peers else ""
        self._configuration = config or per_target_configuration(webhook_url, token_file)
        self.daemon = Daemon(
            "alertmanager",
            [
                require_tool("prometheus-alertmanager"),
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
                # Empty means no mesh; without it, it refuses to start on a loopback-only host.
                f"--cluster.listen-address={self.mesh_address}",
                *(f"--cluster.peer={peer}" for peer in peers),
                # It waits for ten of these before its first notification.
                "--cluster.gossip-interval=50ms",
                *arguments,
            ],
            folder,
            ready=self.is_ready,
        )

    @classmethod
    def from_shipped(
        cls,
        folder: Path,
        config_path: Path,
        webhook_url: str,
        token_file: Path | None = None,
        *,
        mail: MailServer | None = None,
    ) -> Self:
        """One with the routes of *config_path*; see `shipped_configuration`."""
        config = shipped_configuration(config_path, webhook_url, token_file, mail=mail)
        return cls(folder, config=config)

    def start(self) -> Self:
        """Start, on the storage of an earlier start if there was one."""
        self._write_configuration()
        self.daemon.start()
        return self

    def stop(self) -> None:
        """Stop as an operator would."""
        self.daemon.stop()

    def kill(self) -> None:
        """Stop as a power failure would."""
        self.daemon.kill()

    def is_ready(self) -> bool:
        """Whether it takes alerts."""
        try:
            return requests.get(f"{self.url}/-/ready", timeout=_TIMEOUT_SECONDS).ok
        except requests.RequestException:
            return False

    def configure(self, config: Mapping[str, Any]) -> None:
        """Replace the configuration; raises what Alertmanager says against it."""
        self._configuration = config
        self._write_configuration()
        self._checked(requests.post(f"{self.url}/-/reload", timeout=_TIMEOUT_SECONDS))

    def post(self, alerts: Iterable[Mapping[str, Any]]) -> None:
        """Hand over *alerts* (``labels``, ``annotations``, ``startsAt``) as Prometheus does."""
        self._checked(
            requests.post(
                f"{self.url}/api/v2/alerts",
                json=[dict(alert) for alert in alerts],
                timeout=_TIMEOUT_SECONDS,
            )
        )

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts it holds, as its API gives them."""
        answer = requests.get(f"{self.url}/api/v2/alerts", timeout=_TIMEOUT_SECONDS)
        self._checked(answer)
        alerts: list[dict[str, Any]] = answer.json()
        return alerts

    def _checked(self, answer: requests.Response) -> None:
        if not answer.ok:
            raise ValueError(answer.text)

    def _write_configuration(self) -> None:
        text = yaml.safe_dump(dict(self._configuration), sort_keys=False)
        (self.folder / "alertmanager.yml").write_text(text)
