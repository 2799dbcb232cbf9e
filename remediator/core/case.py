"""What one decision is made from, and what it may be."""

import enum
from dataclasses import dataclass
from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.approvals import Approval
from remediator.core.attempts import PastAttempt
from remediator.core.extensions import Extension
from remediator.core.observation import Observation
from remediator.core.policy import Policy, Rung


class HoldReason(enum.Enum):
    """Why nothing is done, in the order of the guards; also the ``reason`` label of a metric."""

    RESOLVED = "resolved"
    NO_POLICY_RULE = "no_policy_rule"
    PAUSED = "paused"
    OBSERVE_ONLY = "observe_only"
    NOTIFY_ONLY = "notify_only"
    EXEMPT = "exempt"
    UNCONFIRMED = "unconfirmed"
    TARGET_GONE = "target_gone"
    CONDITION_GONE = "condition_gone"
    IN_PROGRESS = "in_progress"
    WARNING_DUE = "warning_due"
    WARNED = "warned"
    COOLDOWN = "cooldown"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    BUDGET = "budget"
    BREAKER_OPEN = "breaker_open"
    WAITING_FOR_APPROVAL = "waiting_for_approval"


@dataclass(frozen=True, slots=True)
class Remediate:
    """Carry out ``rung`` of ``policy_rule``, which is number ``number`` of its ladder from 0."""

    policy_rule: str
    number: int
    rung: Rung


@dataclass(frozen=True, slots=True)
class Hold:
    """Do nothing; ``until`` is set where waiting alone would change the answer.

    ``because`` is for a person. ``instead`` says what would have been decided if the mode had
    allowed it, or what waits for a warning or an approval that has to be given now. ``opens`` is
    why the breaker opens with it, and empty otherwise.
    """

    reason: HoldReason
    because: str
    until: datetime | None = None
    instead: "Remediate | Hold | None" = None
    opens: str = ""


Decision = Remediate | Hold


@dataclass(frozen=True, slots=True)
class Breaker:
    """The host's breaker: why it is open, if it is, and when a person last closed it."""

    open_because: str | None = None
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What the journal remembers when a decision is made.

    ``attempts`` are those that this decision can depend on: what counts on its target, whatever is
    in progress on the host, and what fills a quota. ``warned_at`` is when this very target was
    warned under this policy rule. ``approvals`` are the questions of this incident, newest last.
    ``kept`` is the newest extension of the target, whether it still holds or not.
    """

    attempts: tuple[PastAttempt, ...] = ()
    warned_at: datetime | None = None
    paused: str | None = None
    breaker: Breaker = Breaker()
    approvals: tuple[Approval, ...] = ()
    kept: Extension | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """Everything one decision is made from; ``now`` is an aware UTC datetime."""

    alert: Alert
    policy: Policy
    history: History
    observation: Observation | None
    now: datetime
