"""Take operators' commands from the inbox and answer them, each exactly once."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from remediator.core.approvals import Answer
from remediator.core.commands import NEEDS_INCIDENT, NEEDS_REASON, Action
from remediator.core.notices import clean
from remediator.engine.extending import Extending, Wish
from remediator.engine.parts import EngineParts
from remediator.errors import CommandError
from remediator.inbox.store import Inbox, StoredCommand
from remediator.journal import journal
from remediator.journal.operations import CommandRecord

log = logging.getLogger(__name__)

_LONGEST_REASON = 1000
_LARGEST_NUMBER = 2**63 - 1


class _RefusedError(CommandError):
    """A command that cannot be followed; the text is the answer."""


@dataclass(frozen=True, slots=True)
class _Command:
    """A command that makes sense in itself."""

    action: Action
    actor: str
    reason: str
    incident: int | None
    question: int | None
    now: datetime
    wish: Wish | CommandError | None = None


class Commands:
    """Follows commands; a command, its effect and the answer to it are one transaction.

    Commands come from the network side, so that nothing in them is taken for granted; who gave
    one is what the receiver or the command line says.
    """

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._journal = parts.journal
        self._extending = Extending(parts.journal, parts.containers)
        self._follow = {
            Action.PAUSE: self._pause,
            Action.RESUME: self._resume,
            Action.CLOSE_BREAKER: self._close_breaker,
            Action.APPROVE: self._approve,
            Action.REJECT: self._reject,
            Action.EXTEND: self._extend,
        }

    def take_all(self, inbox: Inbox) -> int:
        """Answer every command that is there; return how many that were."""
        name = inbox.identity()
        taken = 0
        last = self._journal.intake.mark().last_command
        while stored := inbox.commands_after(last, most=1):
            last = stored[0].id
            self._take(name, stored[0])
            taken += 1
        return taken

    def _take(self, inbox: str, stored: StoredCommand) -> None:
        argument = _argument_of(stored.body)
        wish = self._wish(argument)
        with self._journal.transaction():
            # Only now: it may have been a while until it was known what is wished for, and what
            # was planned before this transaction has to be older.
            now = self._parts.clock.now()
            if not self._journal.intake.advance_command(stored.id):
                return
            incident = _number(argument.get("incident"))
            if isinstance(wish, Wish):
                incident = self._extending.incident_of(wish)
                argument["container_id"] = wish.kept.target.id
            accepted = True
            try:
                self._refuse_old(stored)
                command = _read(argument, clean(stored.actor) or "unknown", incident, now)
                answer = self._follow[command.action](replace(command, wish=wish))
            except CommandError as refusal:
                accepted, answer = False, str(refusal)
            known = incident is not None and self._journal.incidents.incident(incident) is not None
            record = CommandRecord(
                actor=clean(stored.actor),
                action=clean(argument.get("action", "")),
                argument=argument,
                given_at=stored.received_at,
                taken_at=now,
                accepted=accepted,
                answer=answer,
                incident=incident if known else None,
            )
            self._journal.operations.keep(inbox, stored.id, record)
        word = "accepted" if accepted else "refused"
        log.info("%s by %s is %s: %s", record.action, record.actor, word, answer)

    def _wish(self, argument: Mapping[str, str]) -> Wish | CommandError | None:
        """Return what is to be kept; no transaction may wait for what it takes to find that."""
        if argument.get("action") != Action.EXTEND.value:
            return None
        return self._extending.find(argument, self._parts.clock.now())

    def _refuse_old(self, stored: StoredCommand) -> None:
        """Refuse what was given to a journal that has forgotten it: it may have been followed.

        Else a backup in the journal's place would be resumed by a command of last week, and do
        with its incident 17 what was approved for another one.
        """
        pause = self._journal.operations.pause_in_force()
        if pause and pause.actor == journal.ACTOR and stored.received_at <= pause.began_at:
            raise _RefusedError("it was given before the journal lost what it knew: give it again")

    def _pause(self, command: _Command) -> str:
        self._journal.operations.pause(command.reason, command.actor, command.now)
        return "paused: nothing new is begun until it is resumed; what runs comes to its end"

    def _resume(self, command: _Command) -> str:
        if not self._journal.operations.resume(command.actor, command.now):
            raise _RefusedError("it is not paused")
        self._journal.incidents.look_at_all(command.now)
        return "resumed: every open incident is looked at anew"

    def _close_breaker(self, command: _Command) -> str:
        if not self._journal.operations.close_breaker(command.actor, command.reason, command.now):
            raise _RefusedError("the breaker is not open")
        self._journal.incidents.look_at_all(command.now)
        return "the breaker is closed: every open incident is decided anew, nothing is replayed"

    def _approve(self, command: _Command) -> str:
        return self._answer(command, Answer.APPROVED)

    def _reject(self, command: _Command) -> str:
        return self._answer(command, Answer.REJECTED)

    def _extend(self, command: _Command) -> str:
        if isinstance(command.wish, Wish):
            return self._extending.follow(command.wish, command.actor, command.reason, command.now)
        raise command.wish or _RefusedError("nobody knows what is to be kept")

    def _answer(self, command: _Command, answer: Answer) -> str:
        number = command.incident or 0
        if self._journal.incidents.incident(number) is None:
            raise _RefusedError(f"there is no incident {number}")
        question = self._journal.approvals.waiting(number, command.now)
        if question is None:
            raise _RefusedError(f"incident {number} does not wait for an approval")
        if command.question not in {None, question.id}:
            # Whoever read one question must not answer another that has taken its place.
            raise _RefusedError(f"incident {number} waits with another question now: look again")
        self._journal.approvals.answer(
            question.id, answer, command.actor, command.reason, command.now
        )
        self._journal.incidents.look_again(number, command.now)
        until = f"{question.approval.expires_at:%Y-%m-%d %H:%M:%S} UTC"
        if answer is Answer.REJECTED:
            return f"{question.remediation} is rejected for as long as incident {number} lasts"
        return f"{question.remediation} is approved until {until}, if all sources still agree"


def _argument_of(body: bytes) -> dict[str, str]:
    """Return what the network side stored, as clean texts; nothing if it is no JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {
        clean(name): clean(str(item), _LONGEST_REASON)
        for name, item in list(value.items())[:16]
        if item is not None
    }


def _read(argument: Mapping[str, str], actor: str, incident: int | None, now: datetime) -> _Command:
    try:
        action = Action(argument.get("action", ""))
    except ValueError as error:
        names = ", ".join(action.value for action in Action)
        raise _RefusedError(f"there is no such command; there are {names}") from error
    reason = clean(argument.get("reason", ""), _LONGEST_REASON)
    if action in NEEDS_REASON and not reason:
        raise _RefusedError(f"{action.value} needs a reason")
    if action in NEEDS_INCIDENT and incident is None:
        raise _RefusedError(f"{action.value} needs the number of an incident")
    question = _number(argument.get("question"))
    if question is None and "question" in argument:
        raise _RefusedError("there is no such question")
    return _Command(action, actor, reason, incident, question, now)


def _number(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdecimal()) or len(text) > len("9" * 19):
        return None
    return int(text) if 0 < int(text) <= _LARGEST_NUMBER else None
