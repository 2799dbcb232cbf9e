"""What an operator can ask of the worker, and what each command needs."""

import enum


class Action(enum.Enum):
    """A command; the values are what stands in the inbox and on the command line."""

    PAUSE = "pause"
    RESUME = "resume"
    CLOSE_BREAKER = "close-breaker"
    APPROVE = "approve"
    REJECT = "reject"
    EXTEND = "extend"


# Whoever takes over must be able to read why: only resuming and approving speak for themselves.
NEEDS_REASON = frozenset({Action.PAUSE, Action.CLOSE_BREAKER, Action.REJECT})
NEEDS_INCIDENT = frozenset({Action.APPROVE, Action.REJECT})
