"""What is believed of a proxy in front: where a request comes from, how, and who sends it.

Headers are believed only of the addresses in the settings. On a shared machine everybody comes
from 127.0.0.1, so that a proxy which names users there has to know a secret as well.
"""

import hmac
import ipaddress
from dataclasses import dataclass

from flask import Request

from remediator.config.page import PageSettings
from remediator.errors import SetupError
from remediator.web.auth import TokenFile

SECRET_HEADER = "X-Remediator-Proxy-Secret"  # noqa: S105 - the name of a header


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies that are believed; none if the settings name none."""

    page: PageSettings

    def are_believed(self, request: Request) -> bool:
        """Tell whether *request* comes from one of them; SetupError if its secret has no file."""
        try:
            address = ipaddress.ip_address(request.remote_addr or "")
        except ValueError:
            return False
        if not any(address in network for network in self.page.proxy_addresses):
            return False
        if self.page.proxy_secret_file is None:
            return True
        given = request.headers.get(SECRET_HEADER, "")
        expected = TokenFile(self.page.proxy_secret_file).read()
        return hmac.compare_digest(given.encode(), expected.encode())

    def user(self, request: Request) -> str | None:
        """Return the name of who sends *request*, if a proxy is believed about that."""
        header = self.page.proxy_user_header
        if not header or not self.are_believed(request):
            return None
        return request.headers.get(header, "").strip()[:64] or None

    def address(self, request: Request) -> str:
        """Return where *request* comes from: what the nearest proxy saw, or the connection."""
        seen = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
        return seen if seen and self._knows(request) else request.remote_addr or "unknown"

    def is_secure(self, request: Request) -> bool:
        """Tell whether the browser's own connection is encrypted."""
        if self.page.secure_cookies:
            return True
        return request.headers.get("X-Forwarded-Proto") == "https" and self._knows(request)

    def _knows(self, request: Request) -> bool:
        try:
            return self.are_believed(request)
        except SetupError:
            return False
