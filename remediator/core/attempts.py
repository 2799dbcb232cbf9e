"""The states of an attempt, and which may follow which.

planned -> running -> succeeded
                   -> failed      it did not do what it should
                   -> refused     nothing was changed
                   -> unknown     time ran out or the process died; being verified
unknown -> succeeded | failed     what the verification found
planned -> refused                the worker died before it began
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remediator.core.observation import Fact
from remediator.core.policy import Option
from remediator.core.targets import Target


class AttemptState(enum.Enum):
    """Where an attempt stands; the values are also the ``outcome`` label of a metric."""

    PLANNED = "planned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


# What may still change the machine, and what spends no allowance, since nothing was changed. Each
# decision asks it of every attempt: to look an enumeration up in a set takes ten times as long.
IN_PROGRESS = (AttemptState.PLANNED, AttemptState.RUNNING, AttemptState.UNKNOWN)
SPENDS_NOTHING = (AttemptState.REFUSED,)

LEGAL_MOVES = {
    AttemptState.PLANNED: frozenset({AttemptState.RUNNING, AttemptState.REFUSED}),
    AttemptState.RUNNING: frozenset(
        {
            AttemptState.SUCCEEDED,
            AttemptState.FAILED,
            AttemptState.REFUSED,
            AttemptState.UNKNOWN,
        }
    ),
    AttemptState.UNKNOWN: frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED}),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
    AttemptState.REFUSED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Task:
    """What an attempt has to know to be carried out, or to be taken up again after a crash.

    ``seen_at`` is when the look was over from which it was planned; None if nobody knows.
    """

    target: Target
    timeout: timedelta = timedelta(minutes=5)
    verify_within: timedelta = timedelta(minutes=2)
    options: Mapping[str, Option] = field(default_factory=dict)
    context: Mapping[str, Fact] = field(default_factory=dict)
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """What lasts, or has lasted, on one target since nothing did, while one part is put back.

    ``began`` are the tasks of all attempts, the oldest first and this one among them; ``remaining``
    are those of the others that must go on lasting.
    """

    began: tuple[Task, ...]
    remaining: tuple[Task, ...] = ()


class Proof(enum.Enum):
    """What a verification found."""

    PROVEN = "proven"
    DISPROVEN = "disproven"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether an attempt did what it should, with a sentence of evidence."""

    proof: Proof
    says: str


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """What later decisions need to know of an attempt; times are aware UTC datetimes."""

    target_key: str
    policy_rule: str
    rung: int
    remediation: str
    state: AttemptState
    planned_at: datetime
    ended_at: datetime | None = None
