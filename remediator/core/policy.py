"""The administrator's policy as values: which alert may lead to what, how often, who is told."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

from remediator.core.matchers import Matcher, all_match

Option = bool | int | str | timedelta | None
Options = Mapping[str, Option]

_NAME = "alertname"


class Mode(enum.Enum):
    """How far a policy rule may go, from watching to acting."""

    OBSERVE = "observe"
    NOTIFY = "notify"
    APPROVE = "approve"
    ACT = "act"

    def capped_by(self, other: "Mode") -> "Mode":
        """Return the more careful of the two."""
        return min(self, other, key=_CAREFUL_FIRST.index)


_CAREFUL_FIRST = tuple(Mode)


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
    # For each alert name that a rule asks for as it is, the rules that can match it, in order; and
    # those that can match an alert of any other name. What a long policy costs is paid here, once.
    _rules_by_name: Mapping[str, Sequence[PolicyRule]] = field(
        init=False, repr=False, compare=False
    )
    _rules_of_any_name: Sequence[PolicyRule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name, of_any_name = _sorted_by_name(self.rules)
        object.__setattr__(self, "_rules_by_name", by_name)
        object.__setattr__(self, "_rules_of_any_name", of_any_name)

    def rule_for(self, labels: Mapping[str, str]) -> PolicyRule | None:
        """Return the first rule that matches *labels*, as in Alertmanager's routing."""
        name = labels.get(_NAME, "")
        for rule in self._rules_by_name.get(name, self._rules_of_any_name):
            if all_match(rule.matchers, labels):
                return rule
        return None

    def never_touches(self, labels: Mapping[str, str]) -> Matcher | None:
        """Return the matcher that puts a container with *labels* out of reach, if one does."""
        return next((matcher for matcher in self.never if matcher.matches(labels)), None)


def _sorted_by_name(
    rules: Iterable[PolicyRule],
) -> tuple[dict[str, list[PolicyRule]], list[PolicyRule]]:
    """Return the rules that can match each alert name some rule asks for, and any other name."""
    by_name: dict[str, list[PolicyRule]] = {}
    of_any_name: list[PolicyRule] = []
    for rule in rules:
        name = _name_asked_for(rule)
        if name is None:
            of_any_name.append(rule)
            for candidates in by_name.values():
                candidates.append(rule)
        else:
            by_name.setdefault(name, of_any_name.copy()).append(rule)
    return by_name, of_any_name


def _name_asked_for(rule: PolicyRule) -> str | None:
    """Return the only alert name that *rule* can match, None if there may be others."""
    for matcher in rule.matchers:
        if matcher.label == _NAME and matcher.operator == "=":
            return matcher.value
    return None
