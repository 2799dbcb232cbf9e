"""Put the receiver together. Nothing here can act: no path leads to Docker, NVML or D-Bus."""

import logging
from functools import partial
from pathlib import Path

from flask import Flask
from prometheus_client import CollectorRegistry

from remediator.clock import SystemClock
from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.inbox.bell import ring
from remediator.inbox.pruning import Pruning
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.metrics import ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile, accepts_body
from remediator.web.connection import Limits
from remediator.web.prometheus import PrometheusReader
from remediator.web.serving import ReceiverServer, listen
from remediator.web.sessions import session_key
from remediator.web.visitors import check_page
from remediator.wiring.keep_links import make_key
from remediator.wiring.policy_file import PolicyFile

log = logging.getLogger(__name__)

_LEAST_MEMORY = 64 * 1024 * 1024


def make_receiver(settings: Settings) -> Flask:
    """Return the receiver's application; InboxError if the inbox can't be opened."""
    inbox = Inbox.for_receiver(settings.inbox_dir)
    metrics = ReceiverMetrics(CollectorRegistry())
    metrics.lost.set(inbox.lost)
    Pruning(
        inbox, partial(_taken, settings.state_dir), SystemClock(), settings.keep_deliveries
    ).start()
    return create_app(
        ReceiverParts(
            inbox=inbox,
            token=_token_of(settings),
            journal=partial(Journal.for_reading, settings.state_dir),
            # As it is in the file: an explanation is asked for by people who have just edited it.
            policy=PolicyFile(settings.policy).newest,
            ring=partial(ring, settings.inbox_dir),
            metrics=metrics,
            clock=SystemClock(),
            largest_body=settings.largest_body,
            host=settings.host,
            page=settings.page,
            session_key=session_key(settings.inbox_dir),
            ask_prometheus=PrometheusReader(
                settings.prometheus_url, settings.prometheus_timeout.total_seconds()
            ).newest,
            link_key=make_key(settings),
        )
    )


def run_receiver(settings: Settings) -> None:
    """Serve until told to stop; SetupError or InboxError before anything is served."""
    token = _token_of(settings)
    _check_token(settings, token)
    _check_page(settings)
    Inbox.for_receiver(settings.inbox_dir).close()
    listener = listen(settings.listen.host, settings.listen.port)
    log.info("taking deliveries on http://%s/api/v1/alerts", settings.listen)
    limits = Limits(settings.largest_body, memory=max(4 * settings.largest_body, _LEAST_MEMORY))
    make_app = partial(make_receiver, settings)
    ReceiverServer(make_app, listener, limits, partial(accepts_body, token)).serve()


def _taken(state_dir: Path) -> tuple[str, int, int]:
    """Return how far the worker has come, and in which inbox; nowhere while it is paused."""
    journal = Journal.for_reading(state_dir)
    try:
        mark = journal.intake.mark()
        if journal.operations.pause_in_force() is not None:
            # It may be the clock that is wrong, and with it what is old.
            return "", 0, 0
    finally:
        journal.close()
    return mark.inbox, mark.last_delivery, mark.last_command


def _token_of(settings: Settings) -> TokenFile | None:
    return TokenFile(settings.token_file) if settings.token_file else None


def _check_page(settings: Settings) -> None:
    """Say what keeps people out of the page; deliveries are taken all the same."""
    try:
        check_page(settings.page)
    except SetupError as error:
        log.error("nobody can log in to the page: %s", error)  # noqa: TRY400


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
