"""Give the worker an operator's command, and learn what became of it.

The command goes into the inbox; it is the worker that follows it or refuses. Nothing is done here.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from remediator.clock import Clock
from remediator.core.commands import NEEDS_INCIDENT, NEEDS_REASON, Action
from remediator.core.extensions import Via
from remediator.core.notices import clean
from remediator.errors import JournalError
from remediator.inbox.store import Inbox
from remediator.web import shapes
from remediator.web.facts import Facts

# The worker answers within milliseconds. For longer nobody waits here: the receiver has one
# thread, and deliveries come first; who asked looks again.
_PATIENCE_SECONDS = 0.15
_POLL_SECONDS = 0.01
_LONGEST_REASON = 1000
_LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Commands:
    """Takes commands for the worker of one inbox; *ring* wakes it."""

    inbox: Inbox
    facts: Facts
    ring: Callable[[], None]
    clock: Clock

    def give(self, order: shapes.Order, actor: str) -> shapes.Command:
        """Store a command and return it with its answer, if that comes at once.

        ValueError says what is missing, InboxError that it could not be stored.
        """
        body = json.dumps(_body(order)).encode()
        given_at = self.clock.now()
        number = self.inbox.give(body, actor, given_at)
        self.ring()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answered = self._answered(number)
            if answered is not None:
                return answered
            time.sleep(_POLL_SECONDS)
        return _unanswered(number, given_at)

    def look(self, number: int) -> shapes.Command | None:
        """Return what has become of a command by now; None if there was none of that number."""
        answered = self._answered(number)
        if answered is not None:
            return answered
        stored = self.inbox.commands_after(number - 1, 1)
        if not stored or stored[0].id != number:
            return None
        return _unanswered(number, stored[0].received_at)

    def _answered(self, number: int) -> shapes.Command | None:
        try:
            return self.facts.answer_to(self.inbox.identity(), number)
        except JournalError:
            return None


def _unanswered(number: int, given_at: datetime) -> shapes.Command:
    return shapes.Command(number, given_at, None, None, None, None, None)


def _body(order: shapes.Order) -> dict[str, object]:
    action = Action(order.action)
    reason = clean(order.reason, _LONGEST_REASON)
    if action in NEEDS_REASON and not reason:
        raise ValueError(f"{action.value} needs a reason")
    body: dict[str, object] = {"action": action.value}
    if reason:
        body["reason"] = reason
    if action in NEEDS_INCIDENT:
        if order.incident is None or not 0 < order.incident <= _LARGEST_NUMBER:
            raise ValueError(f"{action.value} needs the number of an incident")
        body["incident"] = order.incident
        if order.question is not None:
            body["question"] = order.question
    if action is Action.EXTEND:
        body |= _extension(order)
    return body


def _extension(order: shapes.Order) -> dict[str, object]:
    container, duration = clean(order.container), clean(order.duration)
    if not (container and duration):
        raise ValueError("extend needs a container and a duration such as 4h")
    return {"container": container, "duration": duration, "via": Via.PAGE.value}
