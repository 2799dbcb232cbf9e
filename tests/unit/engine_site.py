"""The engine over the real journal and inbox, with fakes for machine, people and time.

`EngineSite` drives its parts in one thread, in the worker's order, so that a test knows what has
happened when a call returns. Tests of the threads themselves use `EngineSite.working`.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from remediator.core.alerts import Alert
from remediator.core.notices import DigestRule, NoticeKind
from remediator.core.policy import Limit, Policy, Rung
from remediator.database import Database, open_writer
from remediator.engine.carrying import Carrying, Unproven
from remediator.engine.clock_watch import ClockWatch
from remediator.engine.commands import Commands
from remediator.engine.intake import Intake
from remediator.engine.looking import Looking
from remediator.engine.outbox import Outbox
from remediator.engine.parts import EngineParts
from remediator.engine.undoing import Undoing
from remediator.engine.worker import Worker
from remediator.errors import JournalError
from remediator.inbox.bell import Bell
from remediator.inbox.store import Inbox
from remediator.journal import journal as journals
from remediator.journal.journal import Journal
from remediator.journal.operations import CommandRecord
from remediator.metrics import WorkerMetrics
from remediator.notifiers.templates import Templates
from remediator.notifiers.wording import Wording
from remediator.remediations.interface import Remediation
from tests.builders import SECOND, a_policy, a_rule, a_rung
from tests.fakes import FakeDirectory, FakeNotifier, FakeRemediation, HandClock
from tests.fakes_keeping import FakeKeepables, FakeLinks


def hurried(remediation: str = "stop-container", *limits: Limit) -> Rung:
    """Return a rung that is verified once: the clock of these tests stands still meanwhile."""
    return replace(a_rung(remediation, *limits), verify_within=timedelta())


def body_of(*alerts: Alert, **more: object) -> bytes:
    """Return *alerts* as Alertmanager would post them."""
    body = {
        "version": "4",
        "groupKey": "{}",
        "receiver": "remediator",
        "alerts": [
            {
                "status": alert.status.value,
                "labels": dict(alert.labels),
                "annotations": dict(alert.annotations),
                "startsAt": alert.firing.starts_at,
                "fingerprint": alert.firing.fingerprint,
            }
            for alert in alerts
        ],
        **more,
    }
    return json.dumps(body).encode()


class EngineSite:
    """One machine with an engine that works in *folder*; made again, it is the same one restarted.

    ``policy`` may be replaced at any time, as by a reload.
    """

    def __init__(
        self,
        folder: Path,
        policy: Policy | None = None,
        remediations: Mapping[str, Remediation] | None = None,
        clock: HandClock | None = None,
        database: Database | None = None,
        *,
        inbox_folder: Path | None = None,
        digest: DigestRule | None = None,
    ) -> None:
        self.folder = folder
        self.inbox_folder = inbox_folder or folder
        self.policy = policy or a_policy(a_rule(hurried()))
        self.clock = clock or HandClock()
        self.stop_container = FakeRemediation()
        self.notify_only = FakeRemediation("notify-only")
        mine = {fake.name: fake for fake in (self.stop_container, self.notify_only)}
        self.containers = FakeKeepables()
        self.links = FakeLinks()
        self.inbox = Inbox.for_receiver(self.inbox_folder)
        self.journal = Journal(database or open_journal(folder))
        self.metrics = WorkerMetrics(CollectorRegistry())
        self.parts = EngineParts(
            host="gpu1",
            journal=self.journal,
            policy=lambda: self.policy,
            remediations=remediations or mine,
            containers=self.containers,
            links=self.links,
            directory=FakeDirectory(),
            wording=Wording(Templates(), _nothing),
            metrics=self.metrics,
            clock=self.clock,
            recheck=15 * SECOND,
            clock_watch=ClockWatch(self.journal, self.clock),
            digest=digest or DigestRule(),
        )
        self.stopping = threading.Event()
        self.intake = Intake(self.parts)
        self.commands = Commands(self.parts)
        self.looking = Looking(self.parts)
        self.carrying = Carrying(self.parts, self.stopping, self.looking.reconsider)
        self.undoing = Undoing(self.parts)
        self.mail, self.wall = FakeNotifier("mail"), FakeNotifier("wall")
        self.outboxes = [self.outbox(self.mail), self.outbox(self.wall)]

    def outbox(self, notifier: FakeNotifier) -> Outbox:
        return Outbox(notifier, self.parts)

    def close(self) -> None:
        self.inbox.close()
        self.journal.close()

    def deliver(self, *alerts: Alert, **more: object) -> None:
        """Store a delivery and take it."""
        self.store(body_of(*alerts, **more))
        self.intake.take_all(self.inbox)

    def command(self, action: str, actor: str = "alice", **argument: object) -> CommandRecord:
        """Give a command, have it taken, and return the answer."""
        body = json.dumps({"action": action, **argument}).encode()
        number = self.inbox.give(body, actor, self.clock.now())
        self.intake.begin(self.inbox)
        self.commands.take_all(self.inbox)
        answer = self.journal.operations.answer_to(self.inbox.identity(), number)
        assert answer is not None
        return answer

    def store(self, body: bytes) -> int:
        """Store what the network side was sent."""
        return self.inbox.store(body, "127.0.0.1", self.clock.now())

    def look(self) -> list[int]:
        """Look at what is due, once; return the attempts that were planned."""
        due = self.journal.incidents.due(self.clock.now())
        planned = [self.looking.look(incident) for incident in due]
        return [attempt for attempt in planned if attempt is not None]

    def round(self) -> None:
        """Do everything there is to be done now, as the worker does."""
        self.parts.clock_watch.check()
        self.intake.take_all(self.inbox)
        for record in self.journal.attempts.unsettled():
            self.carrying.take_up(record.id)
        while self.journal.incidents.due(self.clock.now()):
            for attempt in self.look():
                self.carrying.carry_out(attempt)
        self.put_back()

    def put_back(self) -> None:
        """Put back what nothing asks for any more."""
        for attempt in self.undoing.take_due():
            try:
                self.undoing.undo(attempt)
            finally:
                self.undoing.let_go(attempt)

    def carry_out(self, attempt: int) -> None:
        """Carry out an attempt, and look for its effect until that is proven or it is too late."""
        self.settle(self.carrying.carry_out(attempt))

    def settle(self, unproven: Unproven | None) -> None:
        """Look for an effect as the worker's checkers do."""
        while unproven is not None:
            unproven = self.carrying.check(unproven)

    def send(self) -> None:
        """Send what is due."""
        for outbox in self.outboxes:
            outbox.send_due()

    @contextmanager
    def working(
        self,
        open_inbox: Callable[[], Inbox] | None = None,
        *,
        grace: timedelta = 5 * SECOND,
        workers: int = 4,
    ) -> Iterator["RunningWorker"]:
        """Run a `Worker` on the same journal and inbox in a thread, as its program does."""
        bell = Bell(self.inbox_folder)
        outboxes = [self.outbox(self.mail), self.outbox(self.wall)]
        open_inbox = open_inbox or partial(Inbox.for_worker, self.inbox_folder)
        running = RunningWorker(Worker(self.parts, open_inbox, bell, outboxes, workers), grace)
        try:
            yield running
        finally:
            running.stop()
            bell.close()

    def states(self) -> list[str]:
        """The states of all attempts, in order."""
        return [row[0] for row in self.ask("SELECT state FROM attempt ORDER BY id")]

    def reasons(self, incident: int = 1) -> list[str | None]:
        """Why nothing was done, decision by decision; None where something was."""
        return [decision.reason for decision in self.journal.decisions.of_incident(incident)]

    def told(self, kind: NoticeKind | None = None) -> list[str]:
        """To whom notices were addressed, in order."""
        sql = "SELECT recipient, kind FROM notice ORDER BY id"
        return [row[0] for row in self.ask(sql) if kind is None or row[1] == kind.value]

    def metric(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(f"remediator_{name}", labels)
        assert value is not None, f"there is no metric {name} with {labels}"
        return value

    def ask(self, sql: str) -> list[Any]:
        return ask(self.folder, sql)

    def due_at(self, incident: int = 1) -> datetime | None:
        found = self.journal.incidents.incident(incident)
        assert found is not None
        return found.next_look_at


class RunningWorker:
    """A worker in a thread; ``finished`` is what its `run` returned."""

    def __init__(self, worker: Worker, grace: timedelta) -> None:
        self._worker = worker
        self.finished: bool | None = None
        self._thread = threading.Thread(target=self._run, args=[grace])
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Let it take nothing new, as SIGTERM does."""
        self._worker.stop()

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        self._worker.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the worker does not stop"

    def _run(self, grace: timedelta) -> None:
        self.finished = self._worker.run(grace)


def _nothing() -> None:
    """Do nothing about a template that fails: there is none."""


def open_journal(folder: Path) -> Database:
    """Open the journal's database as the worker does."""
    return open_writer(folder / journals.FILE, journals.__package__ or "", JournalError)


def ask(folder: Path, sql: str) -> list[Any]:
    """Return what another program reads in the journal."""
    connection = sqlite3.connect(folder / journals.FILE)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@contextmanager
def unwritable(folder: Path, table: str, event: str = "UPDATE") -> Iterator[None]:
    """Let SQLite refuse an *event* on *table*, as it refuses all on a full disk."""
    connection = sqlite3.connect(folder / journals.FILE, isolation_level=None)
    connection.execute(
        f"CREATE TRIGGER broken BEFORE {event} ON {table}"
        " BEGIN SELECT RAISE(ABORT, 'no space left'); END"
    )
    try:
        yield
    finally:
        connection.execute("DROP TRIGGER broken")
        connection.close()
