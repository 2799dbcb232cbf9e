"""Put together what the receiver serves beside deliveries: page, API, metrics, health."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flask import Flask

from remediator.clock import SystemClock
from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.inbox.pruning import Pruning
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.metrics import ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile
from remediator.web.prometheus import PrometheusReader
from remediator.web.sessions import session_key
from remediator.web.taking import Taking
from remediator.web.visitors import check_page
from remediator.wiring.keep_links import make_key
from remediator.wiring.policy_file import PolicyFile

log = logging.getLogger(__name__)


def make_page_app(
    settings: Settings,
    inbox: Inbox,
    metrics: ReceiverMetrics,
    taking: Taking,
    ring: Callable[[], None],
) -> Flask:
    """Return the Flask application, which shares the inbox and what takes deliveries."""
    _check_page(settings)
    Pruning(
        inbox, partial(_taken, settings.state_dir), SystemClock(), settings.keep_deliveries
    ).start()
    parts = ReceiverParts(
        inbox=inbox,
        token=TokenFile(settings.token_file) if settings.token_file else None,
        journal=partial(Journal.for_reading, settings.state_dir),
        # As it is in the file: an explanation is asked for by people who have just edited it.
        policy=PolicyFile(settings.policy).newest,
        ring=ring,
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
    return create_app(parts, taking)


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


def _check_page(settings: Settings) -> None:
    """Say what keeps people out of the page; deliveries are taken all the same."""
    try:
        check_page(settings.page)
    except SetupError as error:
        log.error("nobody can log in to the page: %s", error)  # noqa: TRY400
