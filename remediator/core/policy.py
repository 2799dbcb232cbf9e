"""The administrator's policy as values: which alert may lead to what, how often, who is told."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from remediator.core.matchers import Matcher, all_match

Option = bool | int | str | timedelta | None
Options = Mapping[str, Option]


class Mode(enum.Enum):
    """How far a policy rule may go, from watching to acting."""

    OBSERVE = "observe"
    NOTIFY = "notify"
    APPROVE = "approve"
    ACT = "act"

    def capped_by(self, other: "Mode") -> "Mode":
        """Return the more careful of the two."""
        order = list(Mode)
        return min(self, other, key=order.index)


@dataclass(frozen=True, slots=True)
class Audience:
    """Who can be told: the owner, the admins, or a list of the policy with its addresses."""

    name: str
    addresses: tuple[str, ...] = ()

    OWNER: ClassVar["Audience"]
    ADMINS: ClassVar["Audience"]


Audience.OWNER = Audience("owner")
Audience.ADMINS = Audience("admins")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``count`` in any stretch of ``window``: ``2 per 6h``."""

    count: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell people ``before`` the first attempt, and give them that long to answer."""

    before: timedelta
    tell: tuple[Audience, ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """One remediation of a policy rule's ladder, with its own allowance."""

    remediation: str
    options: Options = field(default_factory=dict)
    attempts: tuple[Limit, ...] = (Limit(1, timedelta(hours=24)),)
    cooldown: timedelta = timedelta(minutes=10)
    timeout: timedelta = timedelta(minutes=5)
    verify_within: timedelta = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One entry of the policy: which alerts it is about, and what is done about them."""

    name: str
    matchers: tuple[Matcher, ...]
    rungs: tuple[Rung, ...]
    mode: Mode = Mode.ACT
    warn: Warn | None = None
    tell: tuple[Audience, ...] = (Audience.ADMINS,)
    escalate: tuple[Audience, ...] = (Audience.ADMINS,)
    approve_within: timedelta = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy; ``mode`` is the most that any rule below may do.

    ``budget`` limits the attempts of one remediation on the whole host; over it, one waits.
    ``open_after`` limits all destructive ones together; over it, the breaker opens, and a person
    has to close it.
    """

    mode: Mode = Mode.OBSERVE
    rules: tuple[PolicyRule, ...] = ()
    never: tuple[Matcher, ...] = ()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    budget: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    open_after: tuple[Limit, ...] = (Limit(10, timedelta(hours=1)), Limit(30, timedelta(hours=24)))

    def rule_for(self, labels: Mapping[str, str]) -> PolicyRule | None:
        """Return the first rule that matches *labels*, as in Alertmanager's routing."""
        for rule in self.rules:
            if all_match(rule.matchers, labels):
                return rule
        return None

    def never_touches(self, labels: Mapping[str, str]) -> Matcher | None:
        """Return the matcher that puts a container with *labels* out of reach, if one does."""
        return next((matcher for matcher in self.never if matcher.matches(labels)), None)
