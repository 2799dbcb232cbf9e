"""The worker's loop: take deliveries, look at what is due, carry out what was decided."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from remediator.core.attempts import AttemptState
from remediator.engine.carrying import Carrying, Unproven
from remediator.engine.commands import Commands
from remediator.engine.intake import Intake
from remediator.engine.looking import Looking
from remediator.engine.outbox import Outbox
from remediator.engine.parts import EngineParts
from remediator.engine.pools import Pools
from remediator.engine.pruning import Pruning
from remediator.engine.returning import Returning
from remediator.engine.undoing import Undoing
from remediator.errors import InboxError, JournalError, StoreError
from remediator.inbox.bell import Bell
from remediator.inbox.store import Inbox
from remediator.journal.attempts import AttemptRecord

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_LONGEST_WAIT = timedelta(seconds=1)
_LOOKERS = 8
# Those that look for an effect again and again, by remediation, and their pause before each look.
_CHECKERS = 2
_BETWEEN_CHECKS = timedelta(milliseconds=250)
# How long an attempt rests before it is taken up again: if its effect is unknown, or if the
# journal failed it and is to be tried anew.
_UNKNOWN_RESTS = timedelta(seconds=30)
_OTHERS_REST = timedelta(seconds=2)


class Worker:
    """Runs until `stop` is called; what it had in hand then is finished or taken up next time.

    Looking and acting have threads of their own, and acting has them by remediation, *workers* of
    each: containers that take their minute to stop keep no other kind waiting, and an effect that
    is not proven yet keeps no hand. An incident is looked at by one thread at a time.
    """

    def __init__(
        self,
        parts: EngineParts,
        open_inbox: Callable[[], Inbox],
        bell: Bell,
        outboxes: Sequence[Outbox],
        workers: int,
    ) -> None:
        self._parts = parts
        self._open_inbox = open_inbox
        self._inbox: Inbox | None = None
        self._bell = bell
        self._outboxes = outboxes
        self._stopping = threading.Event()
        self._intake = Intake(parts)
        self._commands = Commands(parts)
        self._pruning = Pruning(parts.journal, parts.clock, parts.keep)
        self._returning = Returning(parts.journal, parts.clock, parts.metrics)
        self._looking = Looking(parts)
        self._carrying = Carrying(parts, self._stopping, self._looking.reconsider)
        self._undoing = Undoing(parts)
        self._lookers = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="look")
        self._hands = Pools(workers, "attempt")
        self._checkers = Pools(_CHECKERS, "check")
        self._lock = threading.Lock()
        self._looked_at: set[int] = set()
        self._in_hand: set[int] = set()
        self._rested_since: dict[int, datetime] = {}
        self._trouble = ""
        self._troubled = threading.Event()
        self._needs_rest = threading.Event()

    def run(self, grace: timedelta) -> bool:
        """Work until stopped, then wait up to *grace*; return whether all was finished."""
        for outbox in self._outboxes:
            outbox.start()
        self._look_at_all()
        while not self._stopping.is_set():
            self._troubled.clear()
            self.work_once()
            if self._needs_rest.is_set():
                # Everything that failed is still due: without a rest this would go in a circle.
                self._needs_rest.clear()
                self._stopping.wait(_LONGEST_WAIT.total_seconds())
            else:
                self._bell.wait(self._until_due())
            if not self._troubled.is_set():
                self._trouble = ""
        return self._finish(grace)

    def _look_at_all(self) -> None:
        """Make up at once for looks that a crash has cut off, whose lease may last for minutes."""
        try:
            self._parts.journal.incidents.look_at_all(self._parts.clock.now())
        except JournalError as error:
            self._report_trouble("incidents are looked at when they are due", error)

    def stop(self) -> None:
        """Take nothing new and come to an end."""
        self._stopping.set()
        self._bell.ring()

    def work_once(self) -> None:
        """Do one round: whatever is there to be taken, taken up or looked at is handed out."""
        try:
            self._parts.clock_watch.check()
            self._take_deliveries()
            self._take_up()
            for incident in self._parts.journal.incidents.due(self._parts.clock.now()):
                self._hand_out_look(incident)
            for attempt in self._undoing.take_due():
                self._hands.submit("undo", partial(self._undo, attempt))
            self._pruning.step()
            self._parts.metrics.notices_waiting.set(self._parts.journal.notices.waiting())
            is_open = self._parts.journal.operations.breaker_in_force() is not None
            self._parts.metrics.breaker_open.set(is_open)
            # Last, as it writes: on a full disk everything before it is done all the same.
            self._returning.step()
        except StoreError as error:
            self._report_trouble("nothing is done until this is repaired", error)
            self._parts.metrics.errors.inc()
        except Exception:
            # The loop is what all others live by: whatever went wrong, it goes round again.
            log.exception("a bug; the next round may go well")
            self._parts.metrics.errors.inc()

    def _take_deliveries(self) -> None:
        try:
            if self._inbox is not None and not self._inbox.is_in_place():
                # What it still holds was acknowledged, and may be nowhere else.
                self._take_from(self._inbox)
                self._close_inbox()
            if self._inbox is None:
                self._inbox = self._open_inbox()
            self._take_from(self._inbox)
        except InboxError as error:
            # What is known already goes on without it, and the next round opens it afresh.
            self._close_inbox()
            self._report_trouble("no delivery can be taken yet", error, logging.WARNING)

    def _take_from(self, inbox: Inbox) -> None:
        try:
            self._intake.begin(inbox)
            self._commands.take_all(inbox)
        finally:
            # Also where no command can be followed: it measures how old the oldest one is.
            self._intake.take_all(inbox)

    def _close_inbox(self) -> None:
        if self._inbox is not None:
            self._inbox.close()
            self._inbox = None

    def _take_up(self) -> None:
        """Find attempts that nobody has in hand: after a crash, or when the journal failed."""
        unsettled = self._parts.journal.attempts.unsettled()
        with self._lock:
            known = {record.id for record in unsettled}
            self._rested_since = {n: at for n, at in self._rested_since.items() if n in known}
        for record in unsettled:
            with self._lock:
                looked_at = record.incident in self._looked_at
                if looked_at or record.id in self._in_hand or self._rests(record):
                    continue
                self._in_hand.add(record.id)
            # An unknown effect is only looked at: that needs no hand.
            pools = self._checkers if record.state is AttemptState.UNKNOWN else self._hands
            take_up = partial(self._carrying.take_up, record.id)
            pools.submit(record.remediation, partial(self._begin, record.id, take_up))

    def _rests(self, record: AttemptRecord) -> bool:
        since = self._rested_since.get(record.id)
        if since is None:
            return False
        rest = _UNKNOWN_RESTS if record.state is AttemptState.UNKNOWN else _OTHERS_REST
        return self._parts.clock.now() - since < rest

    def _hand_out_look(self, incident: int) -> None:
        with self._lock:
            if incident in self._looked_at:
                return
            self._looked_at.add(incident)
        self._lookers.submit(self._look, incident)

    def _look(self, incident: int) -> None:
        planned: AttemptRecord | None = None
        try:
            if not self._stopping.is_set():
                planned = self._guarded(f"incident {incident}", self._plan, incident)
        finally:
            # The attempt is in hand before the incident is let go, so that nobody takes it up.
            with self._lock:
                if planned is not None:
                    self._in_hand.add(planned.id)
                self._looked_at.discard(incident)
            if planned is not None:
                carry_out = partial(self._carrying.carry_out, planned.id)
                begin = partial(self._begin, planned.id, carry_out)
                self._hands.submit(planned.remediation, begin)
            self._done()

    def _plan(self, incident: int) -> AttemptRecord | None:
        planned = self._looking.look(incident)
        return None if planned is None else self._parts.journal.attempts.attempt(planned)

    def _begin(self, attempt: int, act: Callable[[], Unproven | None]) -> None:
        if self._stopping.is_set():
            self._let_go(attempt)
        else:
            self._go_on(attempt, act)

    def _check(self, unproven: Unproven) -> None:
        # Others get their turn between two looks.
        self._stopping.wait(_BETWEEN_CHECKS.total_seconds())
        self._go_on(unproven.record.id, partial(self._carrying.check, unproven))

    def _go_on(self, attempt: int, act: Callable[[], Unproven | None]) -> None:
        unproven: Unproven | None = None
        try:
            unproven = self._guarded(f"attempt {attempt}", lambda _: act(), attempt)
        finally:
            if unproven is None:
                self._let_go(attempt)
            else:
                self._checkers.submit(unproven.record.remediation, partial(self._check, unproven))

    def _undo(self, attempt: int) -> None:
        try:
            if self._stopping.is_set():
                return
            if self._guarded(f"putting back attempt {attempt}", self._undoing.undo, attempt):
                # Where its turn has not come the bell stays silent, or this would go in a circle.
                self._done()
        finally:
            self._undoing.let_go(attempt)

    def _let_go(self, attempt: int) -> None:
        with self._lock:
            self._in_hand.discard(attempt)
            self._rested_since[attempt] = self._parts.clock.now()
        self._done()

    def _done(self) -> None:
        for outbox in self._outboxes:
            outbox.wake()
        self._bell.ring()

    def _guarded(self, what: str, act: Callable[[T], R], subject: T) -> R | None:
        """Call *act*; whatever goes wrong is logged and the work goes on with the next one."""
        try:
            return act(subject)
        except JournalError as error:
            self._report_trouble(f"{what} waits", error)
        except Exception:
            log.exception("%s: a bug; it is looked at again later", what)
        self._parts.metrics.errors.inc()
        return None

    def _report_trouble(self, what: str, error: StoreError, level: int = logging.ERROR) -> None:
        """Say it once; the same trouble at the next round is not news."""
        self._troubled.set()
        if isinstance(error, JournalError):
            self._needs_rest.set()
        if str(error) != self._trouble:
            log.log(level, "%s: %s", what, error)
        self._trouble = str(error)

    def _until_due(self) -> timedelta:
        if self._stopping.is_set():
            return timedelta()
        try:
            due = self._parts.journal.incidents.next_due()
        except JournalError:
            return _LONGEST_WAIT
        wait = _LONGEST_WAIT if due is None else due - self._parts.clock.now()
        # What is due is being looked at, and the end of a look rings the bell.
        return min(wait, _LONGEST_WAIT) if wait > timedelta() else _LONGEST_WAIT

    def _finish(self, grace: timedelta) -> bool:
        deadline = time.monotonic() + grace.total_seconds()
        self._lookers.shutdown(wait=False)
        while time.monotonic() < deadline:
            with self._lock:
                if not self._in_hand and not self._looked_at:
                    break
            time.sleep(0.02)
        self._hands.shut_down()
        self._checkers.shut_down()
        for outbox in self._outboxes:
            outbox.stop(timedelta(seconds=max(0.1, deadline - time.monotonic())))
        with self._lock:
            left = sorted(self._in_hand)
        if left:
            log.warning("attempts %s are not finished; they are taken up at the next start", left)
        return not left
