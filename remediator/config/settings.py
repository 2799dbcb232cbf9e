"""Settings: addresses, paths and names of secret files. Read once, when a program starts.

The file gives the ground, the environment (``REMEDIATOR_…``) overrides it, and flags override
both. Secrets are never in here, only the files that hold them.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import yaml

from remediator.config.digest import read_digest
from remediator.config.page import PageSettings, read_page
from remediator.config.reader import Read, Reader, read_nodes
from remediator.config.units import parse_unit
from remediator.core.notices import DigestRule
from remediator.errors import SetupError

_MiB = 1024 * 1024
_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host (a name or an address) and a TCP port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class MailSettings:
    """How mail is sent and to whom; ``pattern`` turns a user's name into an address."""

    host: str = ""
    port: int = 25
    security: str = "starttls"
    ca_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    sender: str = "remediator@localhost"
    pattern: str = ""
    passwd_domain: str = ""
    users: Mapping[str, str] = field(default_factory=dict)
    admins: tuple[str, ...] = ()
    timeout: timedelta = timedelta(seconds=20)


# What the units read, so that commands without a word about it mean the same installation.
USUAL_FILE = Path("/etc/remediator/settings.yaml")
_DIGEST = DigestRule()
# What keeps a GPU open and can be stopped for a while, in the order in which it is stopped:
# exporters before the engine that they ask (mig-parted's hooks.sh, and NVIDIA's packages). Not
# here: nvidia-fabricmanager, which resets on Ampere's NVSwitch need, and nvidia-persistenced,
# whose persistence mode nvidia-smi handles itself.
_GPU_SERVICES = (
    "nvidia-dcgm-exporter.service",
    "dcgm-exporter.service",
    "ds01-dcgm-exporter.service",
    "nvidia-dcgm.service",
    "nvidia-hostengine.service",
    "nvsm-mqtt.service",
    "nvsm-notifier.service",
    "nvsm-api-gateway.service",
    "nvsm-core.service",
    "nvsm.service",
    "display-manager.service",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their defaults."""

    host: str = field(default_factory=socket.gethostname)
    state_dir: Path = Path("/var/lib/remediator")
    policy: Path = Path("/etc/remediator/policy.yaml")
    limits: Path | None = None
    listen: Address = Address("127.0.0.1", 9095)
    worker_listen: Address = Address("127.0.0.1", 9096)
    exporter_listen: Address = Address("127.0.0.1", 9101)
    gpu_metrics: bool = False
    permitted_host_users: tuple[str, ...] = ("root",)
    permitted_processes: tuple[str, ...] = ()
    gpu_services: tuple[str, ...] = _GPU_SERVICES
    dcgm_unit: str = "nvidia-dcgm-exporter.service"
    dcgm_container: str = ""
    dcgm_url: str = "http://127.0.0.1:9400/metrics"
    nvidia_smi: str = "nvidia-smi"
    dbus_address: str | None = None
    events_log: Path = Path("/var/log/ds01/events.jsonl")
    ds01_state_dir: Path = Path("/var/lib/ds01")
    token_file: Path | None = None
    page_url: str = ""
    link_key_file: Path | None = None
    largest_body: int = 32 * _MiB
    prometheus_url: str = "http://127.0.0.1:9090"
    prometheus_timeout: timedelta = timedelta(seconds=5)
    prometheus_freshness: timedelta = timedelta(minutes=2)
    alertmanager_url: str = "http://127.0.0.1:9093"
    docker_host: str | None = None
    docker_timeout: timedelta = timedelta(seconds=10)
    recheck: timedelta = timedelta(seconds=15)
    workers: int = 8
    keep_incidents: timedelta = timedelta(days=400)
    keep_deliveries: timedelta = timedelta(days=14)
    wall: str = "owner"
    mail: MailSettings = MailSettings()
    page: PageSettings = field(default_factory=PageSettings)
    digest: DigestRule = _DIGEST
    templates_dir: Path | None = None
    chat_urls_file: Path | None = None
    chat_timeout: timedelta = timedelta(seconds=20)

    @property
    def inbox_dir(self) -> Path:
        """The folder that the receiver writes: it needs no rights to any other."""
        return self.state_dir / "inbox"


def parse_address(text: str) -> Address:
    """Return the address that ``127.0.0.1:9095`` or ``[::1]:9095`` stands for, or ValueError."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\s\[\]]+)):(\d{1,5})", text)
    if found is None or int(found[3]) > _LARGEST_PORT:
        raise ValueError(f'"{text}" is not an address such as 127.0.0.1:9095')
    return Address(found[1] or found[2], int(found[3]))


def parse_url(text: str) -> str:
    """Return an http(s) URL without its trailing slash, or ValueError.

    URLs of the settings are shown in logs, evidence and pages, so that none may hold a password.
    """
    if "@" in text.partition("://")[2].partition("/")[0]:
        # Not repeated, since it would be shown with its password.
        raise ValueError("a URL with a user or password in it, which others would get to see")
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        raise ValueError(f'"{text}" is not a URL such as http://127.0.0.1:9090')
    return text.rstrip("/")


def settings_file(environment: Mapping[str, str]) -> Path | None:
    """Return the file to read: REMEDIATOR_SETTINGS, else the usual one where there is one."""
    named = environment.get("REMEDIATOR_SETTINGS")
    if named:
        return Path(named)
    return USUAL_FILE if USUAL_FILE.exists() else None


def read_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Return the settings of the file at *path* (None: the defaults) under *environment*.

    ConfigError lists everything wrong with the file, SetupError names a bad variable.
    """
    settings = Settings()
    if path is not None:
        reader, node = read_nodes(path)
        settings = _settings(reader, node)
        reader.finish()
    return with_environment(settings, environment)


def with_environment(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """Return *settings* with what *environment* overrides; SetupError names a bad variable."""
    changes: dict[str, object] = {}
    for variable, (name, parse) in ENVIRONMENT.items():
        text = environment.get(variable, "")
        if not text:
            continue
        try:
            changes[name] = parse(text)
        except ValueError as error:
            raise SetupError(f"environment variable {variable}: {error}") from error
    return replace(settings, **changes)  # type: ignore[arg-type]  # names and types by the table


ENVIRONMENT: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "REMEDIATOR_STATE_DIR": ("state_dir", Path),
    "REMEDIATOR_POLICY": ("policy", Path),
    "REMEDIATOR_LIMITS": ("limits", Path),
    "REMEDIATOR_LISTEN": ("listen", parse_address),
    "REMEDIATOR_WORKER_LISTEN": ("worker_listen", parse_address),
    "REMEDIATOR_EXPORTER_LISTEN": ("exporter_listen", parse_address),
    "REMEDIATOR_TOKEN_FILE": ("token_file", Path),
    "REMEDIATOR_PAGE_URL": ("page_url", parse_url),
    "REMEDIATOR_PROMETHEUS_URL": ("prometheus_url", parse_url),
    "REMEDIATOR_ALERTMANAGER_URL": ("alertmanager_url", parse_url),
    "REMEDIATOR_HOST": ("host", str),
    "REMEDIATOR_NVIDIA_SMI": ("nvidia_smi", str),
    "DOCKER_HOST": ("docker_host", str),
    "DBUS_SYSTEM_BUS_ADDRESS": ("dbus_address", str),
}


def _path(reader: Reader, node: yaml.Node, path: str) -> Path:
    return Path(reader.text(node, path))


def _texts(reader: Reader, node: yaml.Node, path: str) -> tuple[str, ...]:
    return tuple(reader.text(n, f"{path}[{i}]") for i, n in enumerate(reader.sequence(node, path)))


def _unit(reader: Reader, node: yaml.Node, path: str) -> str:
    return reader.parsed(node, path, parse_unit, "")


def _units(reader: Reader, node: yaml.Node, path: str) -> tuple[str, ...]:
    return tuple(
        _unit(reader, n, f"{path}[{i}]") for i, n in enumerate(reader.sequence(node, path))
    )


def _pairs(reader: Reader, node: yaml.Node, path: str) -> dict[str, str]:
    fields = reader.mapping(node, path)
    return {name: reader.text(value, f"{path}.{name}") for name, value in fields.items()}


def _pattern(reader: Reader, node: yaml.Node, path: str) -> str:
    text = reader.text(node, path)
    if text and ("{user}" not in text or "@" not in text or text.count("{") != 1):
        reader.report(node, path, f'"{text}" is not a pattern such as {{user}}@example.org')
    return text


def _domain(reader: Reader, node: yaml.Node, path: str) -> str:
    text = reader.text(node, path)
    if not re.fullmatch(r"[A-Za-z0-9.-]*", text, re.ASCII):
        reader.report(node, path, f'"{text}" is not a domain such as example.org')
    return text


def _address(reader: Reader, node: yaml.Node, path: str) -> Address:
    return reader.parsed(node, path, parse_address, Address("127.0.0.1", 0))


def _url(reader: Reader, node: yaml.Node, path: str) -> str:
    return reader.parsed(node, path, parse_url, "")


def _lasting(least: timedelta, because: str = "") -> Read:
    """Return what reads a duration of at least *least*."""
    return lambda reader, node, path: reader.duration(node, path, least, because)


def _at_least_one(reader: Reader, node: yaml.Node, path: str) -> int:
    return reader.integer(node, path, least=1)


def _port(reader: Reader, node: yaml.Node, path: str) -> int:
    port = reader.integer(node, path, least=1)
    if port > _LARGEST_PORT:
        reader.report(node, path, f"must be at most {_LARGEST_PORT}, not {port}")
    return port


def _one_of(*choices: str) -> Read:
    return lambda reader, node, path: reader.choice(node, path, choices, "choice")


def _mail(reader: Reader, node: yaml.Node, path: str) -> MailSettings:
    values = reader.values(node, path, MAIL_FIELDS)
    return replace(MailSettings(), **values)  # type: ignore[arg-type]


# Without time for an answer there is none, and without a pause there is nothing but looking.
_SOME_TIME = _lasting(timedelta(milliseconds=100))
_A_SECOND = _lasting(timedelta(seconds=1))
# No limit of a policy may forget an attempt, and no delivery may go that a crash has taken again.
_KEPT_INCIDENTS = _lasting(timedelta(days=60), ": attempts count for up to 31 days")
_KEPT_DELIVERIES = _lasting(timedelta(hours=1), ": a crash may have them taken again")

MAIL_FIELDS: Mapping[str, tuple[str, Read]] = {
    "host": ("host", Reader.text),
    "port": ("port", _port),
    "security": ("security", _one_of("starttls", "tls", "none")),
    "ca_file": ("ca_file", _path),
    "username": ("username", Reader.text),
    "password_file": ("password_file", _path),
    "from": ("sender", Reader.text),
    "pattern": ("pattern", _pattern),
    "passwd_domain": ("passwd_domain", _domain),
    "users": ("users", _pairs),
    "admins": ("admins", _texts),
    "timeout": ("timeout", _SOME_TIME),
}


SETTINGS_FIELDS: Mapping[str, tuple[str, Read]] = {
    "host": ("host", Reader.text),
    "state_dir": ("state_dir", _path),
    "policy": ("policy", _path),
    "limits": ("limits", _path),
    "listen": ("listen", _address),
    "worker_listen": ("worker_listen", _address),
    "exporter_listen": ("exporter_listen", _address),
    "gpu_metrics": ("gpu_metrics", Reader.boolean),
    "permitted_host_users": ("permitted_host_users", _texts),
    "permitted_processes": ("permitted_processes", _texts),
    "gpu_services": ("gpu_services", _units),
    "dcgm_unit": ("dcgm_unit", _unit),
    "dcgm_container": ("dcgm_container", Reader.text),
    "dcgm_url": ("dcgm_url", _url),
    "nvidia_smi": ("nvidia_smi", Reader.text),
    "dbus_address": ("dbus_address", Reader.text),
    "events_log": ("events_log", _path),
    "ds01_state_dir": ("ds01_state_dir", _path),
    "token_file": ("token_file", _path),
    "page_url": ("page_url", _url),
    "link_key_file": ("link_key_file", _path),
    "largest_body": ("largest_body", _at_least_one),
    "prometheus_url": ("prometheus_url", _url),
    "prometheus_timeout": ("prometheus_timeout", _SOME_TIME),
    "prometheus_freshness": ("prometheus_freshness", _A_SECOND),
    "alertmanager_url": ("alertmanager_url", _url),
    "docker_host": ("docker_host", Reader.text),
    "docker_timeout": ("docker_timeout", _SOME_TIME),
    "recheck": ("recheck", _A_SECOND),
    "workers": ("workers", _at_least_one),
    "keep_incidents": ("keep_incidents", _KEPT_INCIDENTS),
    "keep_deliveries": ("keep_deliveries", _KEPT_DELIVERIES),
    "wall": ("wall", _one_of("owner", "everyone", "off")),
    "mail": ("mail", _mail),
    "page": ("page", read_page),
    "digest": ("digest", read_digest),
    "templates_dir": ("templates_dir", _path),
    "chat_urls_file": ("chat_urls_file", _path),
    "chat_timeout": ("chat_timeout", _SOME_TIME),
}


def _settings(reader: Reader, node: yaml.Node) -> Settings:
    values = reader.values(node, "", SETTINGS_FIELDS)
    if "dcgm_unit" in values and "dcgm_container" in values:
        message = "give dcgm_unit or dcgm_container: the exporter has one owner"
        reader.report(node, "dcgm_container", message)
    return replace(Settings(), **values)  # type: ignore[arg-type]
