"""Put the receiver together. Nothing here can act: no path leads to Docker, NVML or D-Bus."""

from functools import partial

from flask import Flask
from prometheus_client import CollectorRegistry

from remediator.clock import SystemClock
from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.inbox.bell import ring
from remediator.inbox.store import Inbox
from remediator.metrics import ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile
from remediator.web.serving import ReceiverServer
from remediator.wiring.policy_file import PolicyFile


def make_receiver(settings: Settings) -> Flask:
    """Return the receiver's application; InboxError if the inbox can't be opened."""
    return create_app(
        ReceiverParts(
            inbox=Inbox.for_receiver(settings.state_dir),
            token=TokenFile(settings.token_file) if settings.token_file else None,
            policy=PolicyFile(settings.policy).current,
            ring=partial(ring, settings.state_dir),
            metrics=ReceiverMetrics(CollectorRegistry()),
            clock=SystemClock(),
            largest_body=settings.largest_body,
        )
    )


def run_receiver(settings: Settings) -> None:
    """Serve until told to stop; SetupError or InboxError before anything is served."""
    if settings.token_file is not None:
        TokenFile(settings.token_file).read()
    elif not settings.listen.is_loopback:
        raise SetupError(
            f"listening on {settings.listen} needs a bearer token: set token_file in the settings"
            " or REMEDIATOR_TOKEN_FILE, or listen on 127.0.0.1"
        )
    Inbox.for_receiver(settings.state_dir).close()
    ReceiverServer(partial(make_receiver, settings), str(settings.listen)).run()
