"""Carry out one attempt: execute, verify, settle; and take up what a crash left behind."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client import Gauge

from remediator.core import notices
from remediator.core.attempts import IN_PROGRESS, AttemptState, Proof, Verification
from remediator.core.catalogue import offer_of
from remediator.core.lifecycle import keep_alive_helps
from remediator.core.policy import Audience, PolicyRule
from remediator.engine.epilog import Epilog
from remediator.engine.keeping import way_to_keep, why_kept
from remediator.engine.measuring import keep_delays
from remediator.engine.parts import EngineParts
from remediator.engine.steps import StepLog, is_old
from remediator.engine.telling import tell
from remediator.errors import (
    EffectUnknownError,
    JournalError,
    RefusedError,
    TargetGoneError,
)
from remediator.journal.attempts import AttemptRecord

log = logging.getLogger(__name__)

# What the sources said is not acted on later than this without asking them again.
_EVIDENCE_KEEPS = timedelta(milliseconds=500)
# So often it is looked at in a row before it is left for later.
_LOOKS = 3
# An effect that stays unknown for this long is a failure that a person has to look into.
_UNKNOWN_FOR_GOOD = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class _Left:
    """What `execute` left behind: nothing changed, something that is to be verified, or doubt."""

    message: str
    refused: bool = False
    doubt: bool = False


@dataclass(frozen=True, slots=True)
class Unproven:
    """An attempt that was carried out; until *deadline* its effect is looked for again."""

    record: AttemptRecord
    message: str
    deadline: datetime


class Carrying:
    """Carries attempts out.

    What cannot be proven at once is returned as `Unproven`, for `check` to look again: whoever
    waits for that keeps no hand that others need.
    """

    def __init__(
        self,
        parts: EngineParts,
        stopping: threading.Event,
        reconsider: Callable[[AttemptRecord], datetime | str],
    ) -> None:
        self._reconsider = reconsider
        self._epilog = Epilog(parts)
        self._parts = parts
        self._attempts = parts.journal.attempts
        self._stopping = stopping

    def carry_out(self, attempt_id: int) -> Unproven | None:
        """Carry out a planned attempt; at most one caller ever gets to do it."""
        planned = self._attempts.attempt(attempt_id)
        if planned is None:
            return None
        seen_at = planned.task.seen_at
        for _ in range(_LOOKS):
            if self._is_old(seen_at):
                # The journal or all hands were busy, or the clock was set: it may not be so now.
                answer = self._reconsider(planned)
                if isinstance(answer, str):
                    self._settle(planned, AttemptState.REFUSED, f"not carried out: {answer}")
                    return None
                seen_at = answer
            claimed = self._claim(planned, seen_at)
            if claimed is not None:
                record = self._attempts.attempt(attempt_id) if claimed else None
                return None if record is None else self._execute_and_look(record, seen_at)
        why = "the journal is so busy that what was seen is old when it is to be acted on"
        self._settle(planned, AttemptState.REFUSED, f"not carried out: {why}")
        return None

    def _is_old(self, seen_at: datetime | None) -> bool:
        return is_old(seen_at, self._parts.clock.now(), _EVIDENCE_KEEPS)

    def _claim(self, planned: AttemptRecord, seen_at: datetime | None) -> bool | None:
        """Move it to running; False if somebody else has it, or an operator stopped it meanwhile.

        Pause, breaker and extensions are asked in the transaction that claims: once `pause` or
        `extend` is answered, nothing begins. So is the time, and it returns None where others have
        kept it waiting for so long that what was seen is old.
        """
        with self._parts.journal.transaction():
            why = self._stopped(planned)
            if why is None and self._is_old(seen_at):
                return None
            if why is None:
                if offer_of(planned.remediation).lasting:
                    # Whatever happens from here on, it is put back.
                    self._parts.journal.lasting.begin(planned.id, self._parts.clock.now())
                return self._attempts.claim(planned.id, self._parts.clock.now())
            self._settle(planned, AttemptState.REFUSED, f"not carried out: {why}")
        return False

    def _stopped(self, planned: AttemptRecord) -> str | None:
        self._parts.clock_watch.check()
        operations = self._parts.journal.operations
        paused = operations.pause_reason()
        if paused is not None:
            return f"paused: {paused}"
        kept = why_kept(self._parts.journal, planned, self._parts.clock.now())
        if kept is not None:
            return kept
        if self._parts.journal.lasting.is_being_undone(planned.target_key):
            return "what was done to it before is being put back"
        breaker = operations.breaker()
        if breaker.open_because is not None and offer_of(planned.remediation).destructive:
            return f"the breaker is open: {breaker.open_because}"
        return None

    def take_up(self, attempt_id: int) -> Unproven | None:
        """Bring an attempt to its end that nobody has in hand: the worker died, or gave up."""
        # Whoever had it in hand may have settled it since the caller found it unsettled.
        record = self._attempts.attempt(attempt_id)
        if record is None or record.state not in IN_PROGRESS:
            return None
        log.warning(
            "attempt %s (%s) is taken up again: it was %s",
            record.id,
            record.remediation,
            record.state.value,
        )
        if record.state is AttemptState.UNKNOWN:
            message = record.message or "its effect was unknown"
            with self._running(record).track_inprogress():
                return self._look(self._unproven(record, message))
        if record.state is AttemptState.RUNNING and self._attempts.steps(record.id):
            return self._execute_and_look(record)
        begun = "its first step" if record.state is AttemptState.RUNNING else "it began"
        self._settle(record, AttemptState.REFUSED, f"the worker stopped before {begun}")
        return None

    def check(self, unproven: Unproven) -> Unproven | None:
        """Look once more for the effect; a worker that stops leaves that to the next one."""
        gauge = self._running(unproven.record)
        with gauge.track_inprogress():
            gauge.dec()
            if not self._stopping.is_set():
                return self._look(unproven)
            self._conclude(
                unproven, Verification(Proof.UNKNOWN, "the worker stopped before it was verified")
            )
        return None

    def _running(self, record: AttemptRecord) -> Gauge:
        return self._parts.metrics.running.labels(record.remediation)

    def _execute_and_look(
        self, record: AttemptRecord, seen_at: datetime | None = None
    ) -> Unproven | None:
        with self._running(record).track_inprogress():
            left = self._execute(record, seen_at)
            if left.refused:
                self._settle(record, AttemptState.REFUSED, left.message)
                return None
            if left.doubt:
                now = self._parts.clock.now()
                self._attempts.move(record.id, AttemptState.UNKNOWN, left.message, now)
            return self._look(self._unproven(record, left.message))

    def _unproven(self, record: AttemptRecord, message: str) -> Unproven:
        deadline = self._parts.clock.now() + record.task.verify_within
        return Unproven(record, message, deadline)

    def _execute(self, record: AttemptRecord, seen_at: datetime | None) -> _Left:
        steps = StepLog(self._parts, record.id, seen_at)
        try:
            remediation = self._parts.remediations[record.remediation]
            return _Left(remediation.execute(record.task, steps))
        except (TargetGoneError, RefusedError) as error:
            return _Left(str(error), refused=not (steps.begun or steps.before))
        except EffectUnknownError as error:
            return _Left(str(error), doubt=True)
        except JournalError:
            # What is not written down must not be done; what was begun is taken up later.
            raise
        except Exception as error:
            log.exception("attempt %s: a bug in %s", record.id, record.remediation)
            self._parts.metrics.errors.inc()
            return _Left(f"an error nobody foresaw: {type(error).__name__}", doubt=True)

    def _look(self, unproven: Unproven) -> Unproven | None:
        """Look once; conclude if it is proven or the verify window is over."""
        found = self._verify(unproven.record)
        if found.proof is not Proof.PROVEN and self._parts.clock.now() < unproven.deadline:
            # It stays counted as running while it waits for its next look.
            self._running(unproven.record).inc()
            return unproven
        self._conclude(unproven, found)
        return None

    def _conclude(self, unproven: Unproven, found: Verification) -> None:
        record, message = unproven.record, unproven.message
        if found.proof is Proof.PROVEN:
            self._settle(record, AttemptState.SUCCEEDED, message, found.says)
        elif found.proof is Proof.DISPROVEN:
            self._settle(record, AttemptState.FAILED, message, found.says)
        elif self._is_given_up(record):
            self._settle(record, AttemptState.FAILED, message, f"cannot be verified: {found.says}")
        else:
            now = self._parts.clock.now()
            self._attempts.move(record.id, AttemptState.UNKNOWN, f"{message}; {found.says}", now)
            log.warning("attempt %s: effect unknown: %s", record.id, notices.clean(found.says))

    def _is_given_up(self, record: AttemptRecord) -> bool:
        """Whether it has been unknown for too long; a worker that stops has not looked again."""
        age = self._parts.clock.now() - record.planned_at
        return age > _UNKNOWN_FOR_GOOD and not self._stopping.is_set()

    def _verify(self, record: AttemptRecord) -> Verification:
        try:
            return self._parts.remediations[record.remediation].verify(record.task)
        except Exception as error:
            # It has been executed: to fail here must not lead to executing it again.
            log.exception("attempt %s: a bug in verifying %s", record.id, record.remediation)
            self._parts.metrics.errors.inc()
            return Verification(Proof.UNKNOWN, f"an error nobody foresaw: {type(error).__name__}")

    def _settle(
        self, record: AttemptRecord, state: AttemptState, message: str, evidence: str = ""
    ) -> None:
        after = self._epilog.look(record, state)
        now = self._parts.clock.now()
        told = f"{message}; {evidence}" if evidence else message
        journal = self._parts.journal
        with journal.transaction():
            if not self._attempts.move(record.id, state, told, now):
                return
            if state is AttemptState.REFUSED:
                journal.lasting.drop(record.id)
            else:
                journal.incidents.settle(record.incident, f"{record.remediation} {state.value}")
            delays = keep_delays(journal, record, state, now)
            self._epilog.write(record, after, now)
            self._tell(record, state, told, now)
            # What was refused spends no allowance: it must not be tried again without a pause.
            pause = self._parts.recheck if state is AttemptState.REFUSED else timedelta()
            journal.incidents.look_again(record.incident, now + pause)
        metrics = self._parts.metrics
        metrics.attempts.labels(record.remediation, state.value).inc()
        for until, seconds in delays:
            metrics.observe_delay(until, seconds)
        took = (now - record.planned_at).total_seconds()
        metrics.attempt_seconds.labels(record.remediation).observe(max(took, 0.0))
        log.info(
            "attempt %s: %s %s after %.2f s: %s",
            record.id,
            record.remediation,
            state.value,
            took,
            notices.clean(told, 400),
        )

    def _tell(
        self, record: AttemptRecord, state: AttemptState, message: str, now: datetime
    ) -> None:
        if state is AttemptState.REFUSED:
            return
        incident = self._parts.journal.incidents.incident(record.incident)
        firings = self._parts.journal.incidents.firings(record.incident)
        if incident is None:
            return
        name, task = firings[-1].alert.name if firings else "", record.task
        matter = notices.Matter(
            incident=incident.id,
            host=self._parts.host,
            title=incident.title,
            owner=incident.owner,
            alert=name,
            evidence=self._evidence(record.incident),
            keep=way_to_keep(self._parts.links, task.target, incident.id, name, task.context, now),
        )
        rule = self._rule(record.policy_rule)
        audiences: tuple[Audience, ...] = rule.tell if rule else (Audience.ADMINS,)
        if state is AttemptState.FAILED:
            notice = notices.failed(matter, record.remediation, message)
            audiences = rule.escalate if rule else (Audience.ADMINS,)
        elif not offer_of(record.remediation).acts:
            summary = str(record.task.context.get("summary") or "")
            keepable = keep_alive_helps(matter.alert)
            notice = notices.informed(matter, summary, keepable=keepable)
        else:
            notice = notices.acted(matter, record.remediation, record.task.options, message)
        tell(self._parts, notice, audiences)

    def _evidence(self, incident: int) -> tuple[str, ...]:
        """Return what the sources said when it was decided to act."""
        decisions = self._parts.journal.decisions.of_incident(incident)
        acted_on = [d for d in decisions if d.verdict == "remediate"] or decisions
        reports = acted_on[-1].evidence if acted_on else ()
        return tuple(f"{report['source']}: {report['says']}" for report in reports)

    def _rule(self, name: str) -> PolicyRule | None:
        rules = self._parts.policy().rules
        return next((rule for rule in rules if rule.name == name), None)
