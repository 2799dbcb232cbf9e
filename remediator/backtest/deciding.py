"""What the policy would have done about alerts of the past, decided by the real `decide`.

Each alert is looked at when it fires, whenever waiting alone would change the answer, and again
after at most five minutes, as the worker does. What is done succeeds at once: a container that is
stopped or removed is gone, and its alerts with it; any other remediation leaves the alert as it
was. Nobody approves, extends or closes the breaker.
"""

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from remediator.backtest.alert_states import Fired
from remediator.backtest.facts import Facts
from remediator.backtest.observing import observe
from remediator.core.alerts import Alert, Firing, Status
from remediator.core.attempts import AttemptState, PastAttempt
from remediator.core.case import Breaker, Case, Decision, History, Hold, HoldReason, Remediate
from remediator.core.catalogue import Kind, offer_of
from remediator.core.decision import before_looking, decide
from remediator.core.observation import Observation
from remediator.core.policy import Policy
from remediator.core.targets import Subject, subject_of

_SOONEST = timedelta(seconds=15)
_LATEST = timedelta(minutes=5)
# Waiting changes none of these.
_FOR_GOOD = frozenset({HoldReason.NO_POLICY_RULE, HoldReason.OBSERVE_ONLY, HoldReason.NOTIFY_ONLY})


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that would have been done."""

    at: datetime
    remediation: str
    policy_rule: str
    subject: Subject
    fired: Fired
    owner: str | None
    title: str

    @property
    def ends_container(self) -> bool:
        """Whether it stops or removes a container."""
        offer = offer_of(self.remediation)
        return offer.kind is Kind.CONTAINER and offer.destructive


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning that would have been given."""

    at: datetime
    policy_rule: str
    subject: Subject


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The last reason for which nothing was done about a firing, and since when."""

    at: datetime
    reason: HoldReason
    because: str


@dataclass(slots=True)
class Story:
    """What would have become of one firing; *moot* says that its container was gone by then."""

    fired: Fired
    deeds: list[Deed] = field(default_factory=list)
    warned: list[Warned] = field(default_factory=list)
    held: dict[HoldReason, HeldBack] = field(default_factory=dict)
    last: HeldBack | None = None
    moot: bool = False

    def held_by(self, reason: HoldReason) -> bool:
        """Whether it was held for *reason* before anything was done."""
        held = self.held.get(reason)
        return held is not None and (not self.deeds or held.at <= self.deeds[0].at)


@dataclass(slots=True)
class Outcome:
    """What a policy would have done about all alerts; *breaker_at* is when its breaker opened."""

    stories: list[Story]
    breaker_at: datetime | None = None

    @property
    def deeds(self) -> list[Deed]:
        """Everything that would have been done, in order."""
        found = (deed for story in self.stories for deed in story.deeds)
        return sorted(found, key=lambda deed: (deed.at, str(deed.subject)))


def decide_all(fired: Iterable[Fired], policy: Policy, facts: Facts, end: int) -> Outcome:
    """Return what *policy* would have done about the alerts until *end* (milliseconds)."""
    return _Deciding(policy, facts, end).over(fired)


class _Deciding:
    def __init__(self, policy: Policy, facts: Facts, end: int) -> None:
        self._policy = policy
        self._facts = facts
        self._end = end
        self._attempts: list[PastAttempt] = []
        self._warnings: dict[tuple[int, str, str], datetime] = {}
        self._breaker = Breaker()
        self._ended: set[Subject] = set()
        self._breaker_at: datetime | None = None

    def over(self, fired: Iterable[Fired]) -> Outcome:
        stories = [Story(one) for one in sorted(fired, key=lambda one: (one.fired_at, one.labels))]
        looks = [(time_of(story.fired.fired_at), number) for number, story in enumerate(stories)]
        heapq.heapify(looks)
        while looks:
            now, number = heapq.heappop(looks)
            story = stories[number]
            resolved_at = story.fired.resolved_at
            if now >= time_of(self._end if resolved_at is None else resolved_at):
                continue
            again = self._look(story, number, now)
            if again is not None:
                heapq.heappush(looks, (again, number))
        return Outcome(stories, self._breaker_at)

    def _look(self, story: Story, number: int, now: datetime) -> datetime | None:
        """Decide about a firing; return when to look at it again."""
        alert = _alert(story.fired)
        subject = subject_of(alert.labels)
        if subject in self._ended:
            story.moot = not story.deeds
            return None
        case = Case(alert, self._policy, History(), None, now)
        decision: Decision | None = before_looking(case)
        rule = self._policy.rule_for(alert.labels)
        if decision is None and rule is not None:
            seen = self._observed(story, alert, now)
            case = replace(case, observation=seen, history=self._history(number, seen, rule.name))
            decision = decide(case)
        if isinstance(decision, Remediate):
            return self._do(story, case, decision)
        if decision is None or decision.reason in _FOR_GOOD:
            self._hold(story, decision, now)
            return None
        return self._wait(story, number, case, decision)

    def _observed(self, story: Story, alert: Alert, now: datetime) -> Observation:
        seen = observe(alert, self._policy, self._facts, now)
        seen = replace(seen, active_since=time_of(story.fired.active_at))
        key = seen.target.key if seen.target else None
        lasting = next(
            (
                attempt.remediation
                for attempt in self._attempts
                if attempt.target_key == key
                and offer_of(attempt.remediation).lasting
                and any(deed.remediation == attempt.remediation for deed in story.deeds)
            ),
            None,
        )
        return replace(seen, in_vain=f"{lasting} lasts already") if lasting else seen

    def _history(self, number: int, seen: Observation, rule: str) -> History:
        key = seen.target.key if seen.target else ""
        return History(
            attempts=tuple(self._attempts),
            warned_at=self._warnings.get((number, key, rule)),
            breaker=self._breaker,
        )

    def _do(self, story: Story, case: Case, decision: Remediate) -> datetime | None:
        seen, now = case.observation, case.now
        subject = subject_of(case.alert.labels)
        deed = Deed(
            now,
            decision.rung.remediation,
            decision.policy_rule,
            subject,
            story.fired,
            seen.owner if seen else None,
            seen.title if seen else "",
        )
        story.deeds.append(deed)
        story.last = None
        self._attempts.append(
            PastAttempt(
                target_key=seen.target.key if seen and seen.target else "",
                policy_rule=decision.policy_rule,
                rung=decision.number,
                remediation=deed.remediation,
                state=AttemptState.SUCCEEDED,
                planned_at=now,
                ended_at=now,
            )
        )
        if deed.ends_container:
            self._ended.add(subject)
            return None
        return now + _SOONEST

    def _wait(self, story: Story, number: int, case: Case, hold: Hold) -> datetime | None:
        now = case.now
        self._hold(story, hold, now)
        if hold.opens and self._breaker.open_because is None:
            self._breaker = Breaker(hold.opens)
            self._breaker_at = now
        if hold.reason is HoldReason.WARNING_DUE and isinstance(hold.instead, Remediate):
            seen = case.observation
            key = seen.target.key if seen and seen.target else ""
            self._warnings[number, key, hold.instead.policy_rule] = now
            story.warned.append(
                Warned(now, hold.instead.policy_rule, subject_of(case.alert.labels))
            )
            return now
        age = (now - case.alert.starts_at) / 8
        again = now + min(max(age, _SOONEST), _LATEST)
        return min(again, hold.until) if hold.until and hold.until > now else again

    def _hold(self, story: Story, hold: Hold | None, now: datetime) -> None:
        if hold is not None:
            held = HeldBack(now, hold.reason, hold.because)
            story.held.setdefault(hold.reason, held)
            story.last = held


def time_of(milliseconds: int) -> datetime:
    """Return a moment as an aware UTC datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _alert(fired: Fired) -> Alert:
    labels: Mapping[str, str] = dict(fired.labels)
    starts_at = time_of(fired.fired_at)
    fingerprint = hashlib.sha256(repr(fired.labels).encode()).hexdigest()[:16]
    return Alert(
        labels=labels,
        annotations={},
        status=Status.FIRING,
        firing=Firing(fingerprint, starts_at.isoformat()),
        starts_at=starts_at,
    )
