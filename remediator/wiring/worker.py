"""Put the worker together and run it."""

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO

from prometheus_client import CollectorRegistry, start_http_server

from remediator.clock import Clock, SystemClock
from remediator.config.limits_file import LimitsFile
from remediator.config.settings import Settings
from remediator.core.policy import Policy
from remediator.engine.clock_watch import ClockWatch
from remediator.engine.outbox import Outbox
from remediator.engine.parts import EngineParts
from remediator.engine.worker import Worker
from remediator.errors import ConfigError, SetupError
from remediator.inbox.bell import Bell
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.keep_links import LinkKey
from remediator.metrics import WorkerMetrics
from remediator.readiness import tell_ready
from remediator.wiring.keep_links import KeepLinks, key_file_of
from remediator.wiring.notices import make_people, make_wording
from remediator.wiring.policy_file import PolicyFile
from remediator.wiring.quiesce import MadeQuiesce, make_quiesce
from remediator.wiring.remediations import make_keepable, make_remediations

log = logging.getLogger(__name__)

# A container's longest grace by default, and time to settle.
_GRACE = timedelta(seconds=75)


@dataclass(frozen=True, slots=True)
class MadeWorker:
    """A worker with what has to be closed after it."""

    worker: Worker
    journal: Journal
    bell: Bell
    lock: IO[str]
    quiesce: MadeQuiesce


def make_worker(
    settings: Settings, policy: Callable[[], Policy], metrics: WorkerMetrics, clock: Clock
) -> MadeWorker:
    """Return a worker ready to run; ConfigError or JournalError if it can't be made."""
    policy()
    limits = LimitsFile(settings.limits)
    lock = _only_worker(settings.state_dir)
    quiesce = make_quiesce(settings, clock)
    metrics.quiesced_services.set_function(quiesce.recovery.stopped_count)
    # Before anything else: what a crash has left stopped is what everybody is missing.
    quiesce.recovery.start()
    journal = Journal.for_worker(settings.state_dir)
    metrics.restore(journal.tallies.all())
    people = make_people(settings)
    parts = EngineParts(
        host=settings.host,
        journal=journal,
        policy=policy,
        remediations=make_remediations(settings, limits, quiesce),
        containers=make_keepable(settings, limits),
        links=KeepLinks(settings.page_url, LinkKey(key_file_of(settings))),
        directory=people.directory,
        wording=make_wording(settings, metrics),
        metrics=metrics,
        clock=clock,
        recheck=settings.recheck,
        clock_watch=ClockWatch(journal, clock),
        keep=settings.keep_incidents,
        digest=settings.digest,
    )
    outboxes = [Outbox(notifier, parts) for notifier in people.notifiers]
    settings.inbox_dir.mkdir(parents=True, exist_ok=True)
    bell = Bell(settings.inbox_dir)
    worker = Worker(
        parts,
        partial(Inbox.for_worker, settings.inbox_dir),
        bell,
        outboxes,
        settings.workers,
    )
    return MadeWorker(worker, journal, bell, lock, quiesce)


def _only_worker(folder: Path) -> IO[str]:
    """Return the lock that keeps a second worker off *folder*; the kernel frees it at the end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "worker.lock").open("a")
    except OSError as error:
        raise SetupError(f"cannot write in state_dir {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise SetupError(f"another worker runs on {folder}: stop it first") from error
    return lock


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; SIGHUP reads the policy again. Ends the process."""
    clock = SystemClock()
    metrics = WorkerMetrics(CollectorRegistry())
    policy_file = PolicyFile(settings.policy)
    policy_file.reload()
    metrics.policy_reload_successful.set(1)
    metrics.policy_reload_time.set(clock.now().timestamp())
    made = make_worker(settings, policy_file.current, metrics, clock)

    def reload() -> None:
        try:
            policy_file.reload()
        except ConfigError as error:
            metrics.policy_reload_successful.set(0)
            log.error("the policy in force stays, the new one is refused:\n%s", error)  # noqa: TRY400
            return
        metrics.policy_reload_successful.set(1)
        metrics.policy_reload_time.set(clock.now().timestamp())
        log.info("policy read again from %s", policy_file.path)

    _on_signals(made.worker.stop, reload)
    _serve_metrics(settings, metrics)
    mode = policy_file.current().mode.value
    log.info("worker started on %s, mode %s, policy %s", settings.host, mode, settings.policy)
    tell_ready()
    made.worker.run(_GRACE)
    made.quiesce.recovery.stop()
    made.bell.close()
    made.journal.close()
    made.lock.close()
    logging.shutdown()
    # A thread may still wait for a container to stop: the journal knows, the next start goes on.
    os._exit(0)


def _serve_metrics(settings: Settings, metrics: WorkerMetrics) -> None:
    address = settings.worker_listen
    try:
        start_http_server(address.port, address.host, registry=metrics.registry)
    except OSError as error:
        message = f"cannot serve the worker's metrics on {address}: {error.strerror}"
        raise SetupError(f"{message}; set REMEDIATOR_WORKER_LISTEN") from error


def _on_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    """Handle signals in threads of their own: a handler must not take a lock."""

    def stopping(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=stop, daemon=True).start()

    def reloading(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=reload, daemon=True).start()

    signal.signal(signal.SIGTERM, stopping)
    signal.signal(signal.SIGINT, stopping)
    signal.signal(signal.SIGHUP, reloading)
