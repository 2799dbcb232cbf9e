"""Put back what remediations did, once the incident that asked for it is closed.

Nothing that keeps an operator in charge holds this up: not a pause, not the breaker, not a mode.
"""

import logging
import threading

from remediator.core import notices
from remediator.core.attempts import AttemptState, Stack
from remediator.core.policy import Audience, PolicyRule
from remediator.engine.parts import EngineParts
from remediator.engine.steps import StepLog
from remediator.engine.telling import tell
from remediator.errors import JournalError, RemediationError, SourceError
from remediator.journal.attempts import AttemptRecord
from remediator.remediations.interface import Lasting

log = logging.getLogger(__name__)

# After this many tries, some twenty minutes, people are told that it is not put back yet.
_TELL_AT = 9


class Undoing:
    """Puts back what is due, on each target one at a time; a try that fails is made again."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._lasting = parts.journal.lasting
        self._lock = threading.Lock()
        self._in_hand: set[int] = set()

    def take_due(self) -> list[int]:
        """Return the attempts whose effects are to be put back now, none of them twice."""
        self._parts.metrics.lasting_effects.set(self._lasting.in_force())
        due = self._lasting.due(self._parts.clock.now())
        with self._lock:
            taken = [attempt for attempt in due if attempt not in self._in_hand]
            self._in_hand.update(taken)
        return taken

    def let_go(self, attempt: int) -> None:
        """Say that nobody has it in hand any more."""
        with self._lock:
            self._in_hand.discard(attempt)

    def undo(self, attempt: int) -> bool:
        """Put back what an attempt did; False while something else is done to its target."""
        tries = self._lasting.take(attempt, self._parts.clock.now())
        if tries is None:
            return False
        try:
            record = self._record(attempt)
            steps = StepLog(self._parts, attempt)
            undo = self._remediation(record).undo
            result = undo(record.task, steps, self._stack(attempt))
        except (SourceError, RemediationError) as error:
            self._put_off(attempt, str(error), tries)
        except JournalError:
            raise
        except Exception as error:
            log.exception("attempt %s: a bug in putting it back", attempt)
            self._parts.metrics.errors.inc()
            self._put_off(attempt, f"an error nobody foresaw: {type(error).__name__}", tries)
        else:
            # Of what never took effect people have heard that it failed.
            is_news = steps.begun or record.state is AttemptState.SUCCEEDED
            self._end(record, result, is_news=is_news)
        return True

    def _record(self, attempt: int) -> AttemptRecord:
        record = self._parts.journal.attempts.attempt(attempt)
        if record is None:
            raise LookupError(f"attempt {attempt} is not in the journal")
        return record

    def _remediation(self, record: AttemptRecord) -> Lasting:
        remediation = self._parts.remediations.get(record.remediation)
        if isinstance(remediation, Lasting):
            return remediation
        raise LookupError(f"{record.remediation} cannot put anything back")

    def _stack(self, attempt: int) -> Stack:
        stack = self._lasting.stack(attempt)
        return Stack(
            began=tuple(self._record(number).task for number, _ in stack),
            remaining=tuple(self._record(number).task for number, remains in stack if remains),
        )

    def _end(self, record: AttemptRecord, result: str, *, is_news: bool) -> None:
        with self._parts.journal.transaction():
            self._lasting.end(record.id, result, self._parts.clock.now())
            rule, matter = self._rule(record), self._matter(record)
            if is_news and matter is not None:
                notice = notices.restored(matter, record.remediation, result)
                tell(self._parts, notice, rule.tell if rule else (Audience.ADMINS,))
        log.info(
            "attempt %s: %s has ended: %s",
            record.id,
            record.remediation,
            notices.clean(result, 400),
        )

    def _put_off(self, attempt: int, why: str, tries: int) -> None:
        with self._parts.journal.transaction():
            self._lasting.put_off(attempt, f"not put back yet: {why}")
            if tries == _TELL_AT:
                self._tell_trouble(attempt, why)
        log.warning("attempt %s is not put back yet: %s", attempt, notices.clean(why, 400))

    def _tell_trouble(self, attempt: int, why: str) -> None:
        record = self._record(attempt)
        matter, rule = self._matter(record), self._rule(record)
        if matter is None:
            return
        message = f"what it did cannot be put back: {why}; it is tried again"
        notice = notices.failed(matter, record.remediation, message)
        tell(self._parts, notice, rule.escalate if rule else (Audience.ADMINS,))

    def _matter(self, record: AttemptRecord) -> notices.Matter | None:
        incident = self._parts.journal.incidents.incident(record.incident)
        if incident is None:
            return None
        firings = self._parts.journal.incidents.firings(record.incident)
        return notices.Matter(
            incident=incident.id,
            host=self._parts.host,
            title=incident.title,
            owner=incident.owner,
            alert=firings[-1].alert.name if firings else "",
            evidence=(f"attempt {record.id}: {record.message}",),
        )

    def _rule(self, record: AttemptRecord) -> PolicyRule | None:
        rules = self._parts.policy().rules
        return next((rule for rule in rules if rule.name == record.policy_rule), None)
