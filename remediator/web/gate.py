"""Who is let in to the page and the API, and what a form must prove before it is believed."""

import logging
import time
from dataclasses import dataclass

from flask import Request, g

from remediator.errors import SetupError
from remediator.web.proxies import Proxies
from remediator.web.sessions import Sessions
from remediator.web.throttle import Throttle
from remediator.web.visitors import Visitor, Visitors

log = logging.getLogger(__name__)

CSRF_HEADER = "X-CSRF-Token"
_LONGEST_PASSWORD = 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody is not let in, with the status that says so."""

    status: int
    says: str
    retry_after: int = 0


STRANGER = Refusal(401, "log in first")
NOT_ALLOWED = Refusal(403, "only operators may command: ask for the role")
FOREIGN_FORM = Refusal(403, "this form is too old, or not one of ours: load the page again")
BROKEN = Refusal(503, "nobody can be let in at the moment: see the receiver's log")
WRONG = Refusal(401, "no account has this name and password")


class Gate:
    """Lets people in, for one request at a time."""

    def __init__(
        self, visitors: Visitors, sessions: Sessions, proxies: Proxies, throttle: Throttle
    ) -> None:
        self._visitors = visitors
        self._sessions = sessions
        self._proxies = proxies
        self._throttle = throttle
        self._trouble = ""

    @property
    def has_names(self) -> bool:
        """Whether people log in by a name."""
        return self._visitors.has_names

    def admit(self, request: Request) -> Refusal | None:
        """Let in who may look, and remember them for this request."""
        try:
            visitor = self._visitors.identify(request)
        except SetupError as error:
            return self._broken(error)
        if visitor is None:
            return STRANGER
        g.visitor = visitor
        return None

    def admit_command(self, request: Request, form_token: str) -> Refusal | None:
        """Let in who may command; where a browser vouches for them, by a form of ours alone."""
        refusal = self.admit(request)
        if refusal is not None:
            return refusal
        if visitor().by_browser and not self._sessions.is_own_form(form_token):
            return FOREIGN_FORM
        return None if visitor().is_operator else NOT_ALLOWED

    def log_in(self, request: Request, name: str, password: str) -> Refusal | None:
        """Begin a session; the refusal is the same whether the name or the password is wrong."""
        address = self._proxies.address(request)
        wait = self._throttle.wait(address, name, time.monotonic())
        if wait > 0:
            says = f"too many tries: wait {int(wait) + 1} seconds"
            return Refusal(429, says, int(wait) + 1)
        try:
            is_in = len(password) <= _LONGEST_PASSWORD and self._visitors.log_in(name, password)
        except SetupError as error:
            return self._broken(error)
        if not is_in:
            log.warning("a login failed: name %s, from %s", name[:64], address)
            return WRONG
        self._throttle.forget(address, name)
        log.info("%s logged in from %s", name, address)
        return None

    def _broken(self, error: SetupError) -> Refusal:
        if str(error) != self._trouble:
            log.error("nobody can be let in to the page: %s", error)
        self._trouble = str(error)
        return BROKEN


def visitor() -> Visitor:
    """Return who was let in to this request."""
    found: Visitor = g.visitor
    return found
