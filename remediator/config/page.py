"""Settings of the web page: who may look, who may command, and which proxy is believed."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import yaml

from remediator.config.reader import Read, Reader

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class PageSettings:
    """How people get in; without users file and proxy the receiver's token lets them look.

    ``proxy_addresses`` are believed about where a request comes from (``X-Forwarded-For`` and
    ``-Proto``) and, with ``proxy_user_header``, about who sends it. ``operators`` are the names
    in that header that may command; everybody else it names may look.
    """

    users_file: Path | None = None
    session: timedelta = timedelta(hours=12)
    secure_cookies: bool = False
    proxy_addresses: tuple[Network, ...] = ()
    proxy_user_header: str = ""
    proxy_secret_file: Path | None = None
    operators: tuple[str, ...] = ()

    @property
    def has_accounts(self) -> bool:
        """Whether anybody has a name here, so that the token need not stand for one."""
        return self.users_file is not None or bool(self.proxy_user_header)


def read_page(reader: Reader, node: yaml.Node, path: str) -> PageSettings:
    """Return the settings of the page; report what cannot be meant."""
    page = replace(PageSettings(), **reader.values(node, path, PAGE_FIELDS))  # type: ignore[arg-type]
    if page.proxy_user_header and not page.proxy_addresses:
        message = "needs proxy_addresses: anybody could send that header"
        reader.report(node, f"{path}.proxy_user_header", message)
    is_local = any(network.is_loopback for network in page.proxy_addresses)
    if page.proxy_user_header and is_local and page.proxy_secret_file is None:
        message = "needs proxy_secret_file: everybody on this machine comes from a loopback address"
        reader.report(node, f"{path}.proxy_user_header", message)
    return page


def _path(reader: Reader, node: yaml.Node, path: str) -> Path:
    return Path(reader.text(node, path))


def _names(reader: Reader, node: yaml.Node, path: str) -> tuple[str, ...]:
    return tuple(reader.text(n, f"{path}[{i}]") for i, n in enumerate(reader.sequence(node, path)))


def _networks(reader: Reader, node: yaml.Node, path: str) -> tuple[Network, ...]:
    nowhere: Network = ipaddress.IPv4Network("255.255.255.255/32")
    return tuple(
        reader.parsed(n, f"{path}[{i}]", parse_network, nowhere)
        for i, n in enumerate(reader.sequence(node, path))
    )


def parse_network(text: str) -> Network:
    """Return the addresses that ``10.0.0.1`` or ``10.0.0.0/8`` stands for, or ValueError."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is not an address such as 10.0.0.1 or 10.0.0.0/24') from error


def _session(reader: Reader, node: yaml.Node, path: str) -> timedelta:
    session = reader.duration(node, path)
    if session < timedelta(minutes=1):
        reader.report(node, path, "must be at least 1m")
    return session


PAGE_FIELDS: Mapping[str, tuple[str, Read]] = {
    "users_file": ("users_file", _path),
    "session": ("session", _session),
    "secure_cookies": ("secure_cookies", Reader.boolean),
    "proxy_addresses": ("proxy_addresses", _networks),
    "proxy_user_header": ("proxy_user_header", Reader.text),
    "proxy_secret_file": ("proxy_secret_file", _path),
    "operators": ("operators", _names),
}
