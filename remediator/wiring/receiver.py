"""Put the receiver together. Nothing here can act: no path leads to Docker, NVML or D-Bus.

Deliveries are taken before the page is there: what serves it is imported a moment later, and not
at all by the parent process, which only watches.
"""

import logging
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from remediator.clock import SystemClock
from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.inbox.bell import Rope
from remediator.inbox.store import Inbox
from remediator.metrics import ReceiverMetrics
from remediator.web.auth import TokenFile, accepts_body
from remediator.web.connection import Limits
from remediator.web.late import LateApp
from remediator.web.serving import ReceiverServer, listen
from remediator.web.taking import Taking

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)

_LEAST_MEMORY = 64 * 1024 * 1024


def make_receiver(settings: Settings) -> LateApp:
    """Return the receiver's application; InboxError if the inbox can't be opened."""
    inbox = Inbox.for_receiver(settings.inbox_dir)
    metrics = ReceiverMetrics(CollectorRegistry())
    metrics.lost.set(inbox.lost)
    ring = Rope(settings.inbox_dir).ring
    token = token_of(settings)
    taking = Taking(inbox, token, ring, metrics, SystemClock(), settings.largest_body)

    def make_page() -> "Flask":
        from remediator.wiring.page import make_page_app  # noqa: PLC0415 - only where it runs

        return make_page_app(settings, inbox, metrics, taking, ring)

    return LateApp(taking, make_page)


def run_receiver(settings: Settings) -> None:
    """Serve until told to stop; SetupError or InboxError before anything is served."""
    token = token_of(settings)
    _check_token(settings, token)
    Inbox.for_receiver(settings.inbox_dir).close()
    listener = listen(settings.listen.host, settings.listen.port)
    log.info("taking deliveries on http://%s/api/v1/alerts", settings.listen)
    limits = Limits(settings.largest_body, memory=max(4 * settings.largest_body, _LEAST_MEMORY))
    make_app = partial(make_receiver, settings)
    ReceiverServer(make_app, listener, limits, partial(accepts_body, token)).serve()


def token_of(settings: Settings) -> TokenFile | None:
    """Return the bearer token's file, if there is one."""
    return TokenFile(settings.token_file) if settings.token_file else None


def _check_token(settings: Settings, token: TokenFile | None) -> None:
    if token is None:
        if not settings.listen.is_loopback:
            raise SetupError(
                f"listening on {settings.listen} needs a bearer token: set token_file in the"
                " settings or REMEDIATOR_TOKEN_FILE, or listen on 127.0.0.1"
            )
        return
    token.read()
    if token.is_exposed():
        log.warning("%s: everybody on this machine can read it: chmod o-rwx", settings.token_file)
