"""Tell an incident from the journal: everything known, done and said about it, in order."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from remediator.core.alerts import Origin
from remediator.core.attempts import AttemptState
from remediator.core.extensions import clock_of
from remediator.core.lifecycle import keep_alive_helps
from remediator.journal.approvals import ApprovalRecord
from remediator.journal.attempts import AttemptRecord
from remediator.journal.decisions import DecisionRecord
from remediator.journal.incidents import FiringRecord, Incident
from remediator.journal.journal import Journal
from remediator.journal.notices import NoticeRecord
from remediator.journal.operations import CommandRecord

_UNDER_WAY = "under way, or cut off if the worker does not run"
_CUT_OFF = "cut off: the worker died during this step"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a word for what, a sentence, and further lines of detail."""

    at: datetime
    what: str
    text: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """One incident with its events, the oldest first; ``kept`` is until when and by whom it is."""

    incident: Incident
    events: tuple[Event, ...]
    kept: str | None = None


def tell(journal: Journal, incident_id: int) -> Story | None:
    """Return the story of an incident, None if there is no such incident."""
    incident = journal.incidents.incident(incident_id)
    if incident is None:
        return None
    events = [
        *_of_firings(journal.incidents.firings(incident_id)),
        *_of_decisions(journal.decisions.of_incident(incident_id)),
        *_of_attempts(journal, journal.attempts.of_incident(incident_id)),
        *_of_notices(journal.notices.of_incident(incident_id)),
        *_of_approvals(journal.approvals.of_incident(incident_id)),
        *_of_commands(journal.operations.of_incident(incident_id)),
    ]
    if incident.closed_at is not None:
        events.append(Event(incident.closed_at, "closed", incident.outcome or "closed"))
    # Python's sort is stable: what has the same time stays in the order of cause and effect.
    ordered = tuple(sorted(events, key=lambda event: event.at))
    return Story(incident, ordered, _kept(journal, incident))


def _kept(journal: Journal, incident: Incident) -> str | None:
    """Return who kept the incident's container last, if that was while it was open."""
    kind, _, container = incident.subject.partition(":")
    names = [record.alert.name for record in journal.incidents.firings(incident.id)]
    if kind != "container" or not any(map(keep_alive_helps, names)):
        return None
    kept = journal.extensions.last(container, None)
    if kept is None or kept.until <= incident.opened_at:
        return None
    if incident.closed_at is not None and kept.given_at > incident.closed_at:
        return None
    return f"until {clock_of(kept.until)}, {kept.by}"


def _of_firings(firings: list[FiringRecord]) -> Iterator[Event]:
    for record in firings:
        alert = record.alert
        labels = tuple(f"{name}={value}" for name, value in sorted(alert.labels.items()))
        identity = f"fingerprint {alert.firing.fingerprint}, startsAt {alert.firing.starts_at}"
        if alert.origin is Origin.EPILOG:
            text = f"{alert.name} by the {record.receiver}"
            yield Event(alert.starts_at, "noticed", text, labels)
            if record.resolved_at is not None:
                yield Event(record.resolved_at, "ended", f"{alert.name}: nothing is left of it")
            continue
        yield Event(alert.starts_at, "fired", alert.name, (*labels, identity))
        times = "once" if record.deliveries == 1 else f"{record.deliveries} times"
        numbers = f"{record.first_delivery}"
        if record.last_delivery != record.first_delivery:
            numbers += f" to {record.last_delivery}"
        text = f"{alert.name} to receiver {record.receiver}, {times} (delivery {numbers})"
        yield Event(record.received_at, "delivered", text)
        if record.resolved_at is not None:
            yield Event(record.resolved_at, "resolved", alert.name)


def _of_decisions(decisions: list[DecisionRecord]) -> Iterator[Event]:
    for decision in decisions:
        evidence = tuple(
            f"{report['source']} {report['verdict']}: {report['says']}"
            for report in decision.evidence
        )
        rule = f' (policy rule "{decision.policy_rule}")' if decision.policy_rule else ""
        if decision.verdict == "remediate":
            yield Event(decision.at, "decided", f"remediate: {decision.because}{rule}", evidence)
            continue
        again = ""
        if decision.times > 1:
            again = f", {decision.times} times until {decision.last_at:%H:%M:%S} UTC"
        text = f"hold, {decision.reason}: {decision.because}{rule}{again}"
        yield Event(decision.at, "decided", text, evidence)


def _of_attempts(journal: Journal, attempts: list[AttemptRecord]) -> Iterator[Event]:
    for attempt in attempts:
        name = f"attempt {attempt.id}: {attempt.remediation}"
        is_undoing = journal.lasting.is_being_undone(attempt.target_key)
        is_busy = attempt.state is AttemptState.RUNNING or is_undoing
        yield Event(attempt.planned_at, "planned", f"{name} on {attempt.target_key}")
        for step in journal.attempts.steps(attempt.id):
            result = step.result or (_UNDER_WAY if is_busy else _CUT_OFF)
            took = ""
            if step.ended_at is not None:
                took = f" ({(step.ended_at - step.began_at).total_seconds():.2f} s)"
            yield Event(step.began_at, "step", f"{step.name}: {step.detail}", (f"{result}{took}",))
        if attempt.ended_at is not None:
            text = f"{name} {attempt.state.value}: {attempt.message}"
            yield Event(attempt.ended_at, "settled", text)
        lasted = journal.lasting.of_attempt(attempt.id)
        if lasted is not None:
            at, text = lasted.at, f"{name}: {lasted.result}"
            yield Event(at, "restored" if lasted.is_over else "to restore", text)


def _of_notices(notices: list[NoticeRecord]) -> Iterator[Event]:
    for notice in notices:
        letter = notice.letter
        to = f"{letter.notifier} to {letter.recipient}"
        if notice.state == "sent" and notice.sent_at is not None:
            text = f"{letter.kind.value} by {to}: {letter.subject}"
            yield Event(notice.sent_at, "told", text, (notice.result or "",))
        else:
            tries = f"{notice.tries} tries" if notice.tries else "not tried yet"
            why = f", {notice.result}" if notice.result else ""
            text = f"{letter.kind.value} by {to} is {notice.state} ({tries}{why}): {letter.subject}"
            yield Event(notice.created_at, "to tell", text)


def _of_approvals(approvals: list[ApprovalRecord]) -> Iterator[Event]:
    for record in approvals:
        until = f"{record.approval.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        text = f"may {record.remediation} be done? To be answered until {until}"
        yield Event(record.approval.asked_at, "asked", text)


def _of_commands(commands: list[CommandRecord]) -> Iterator[Event]:
    for command in commands:
        word = "followed" if command.accepted else "refused"
        reason = command.argument.get("reason", "")
        said = f' ("{reason}")' if reason else ""
        text = f"{command.action} by {command.actor}{said}, {word}: {command.answer}"
        yield Event(command.taken_at, "command", text)
