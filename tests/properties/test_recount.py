"""What a guard counts from what was sorted out for all of them is what a plain recount finds.

The recount knows neither `past_of` nor how limits are counted: it goes through the whole history
for each question, and tries moment after moment to see when there is room again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.core.attempts import AttemptState, PastAttempt
from remediator.core.case import Breaker, Case, HoldReason, Remediate
from remediator.core.catalogue import CATALOGUE, offer_of
from remediator.core.decision import decide, explain
from remediator.core.policy import Limit, PolicyRule
from tests.builders import (
    MINUTE,
    NOON,
    OTHER_TARGET,
    RULE,
    TARGET,
    a_case,
    a_policy,
    a_rule,
    a_rung,
    an_observation,
)

MAY_CHANGE = (AttemptState.PLANNED, AttemptState.RUNNING, AttemptState.UNKNOWN)
NAMES = [offer.name for offer in CATALOGUE]
# A reason and until when it holds; what the sentence says as well.
Verdict = tuple[HoldReason, datetime | None, str] | None


def judged(case: Case, rule: PolicyRule) -> dict[str, Verdict]:
    """Return what each guard that counts has to say, by its name in the explanation."""
    number = rung_of(case, rule)
    return {
        "in progress": first(
            attempt for attempt in case.history.attempts if on_target(case, attempt)
        ),
        "conflicting": first(
            attempt
            for attempt in case.history.attempts
            if (lane := offer_of(rule.rungs[number].remediation).lane) is not None
            and offer_of(attempt.remediation).lane is lane
        ),
        "cooldown": cooldown(case, rule, number),
        "exhausted": exhausted(case, rule, number),
        "budget": budget(case, rule.rungs[number].remediation),
        "breaker": breaker(case, rule.rungs[number].remediation),
    }


def first(attempts: Iterable[PastAttempt]) -> Verdict:
    for attempt in attempts:
        if attempt.state in MAY_CHANGE:
            says = f"{attempt.remediation} is {attempt.state.value}"
            return HoldReason.IN_PROGRESS, None, says
    return None


def cooldown(case: Case, rule: PolicyRule, number: int) -> Verdict:
    tried = own(case, rule)
    if not tried:
        return None
    newest = tried[0]
    for attempt in tried:
        if attempt.planned_at > newest.planned_at:
            newest = attempt
    rung = rule.rungs[newest.rung if newest.rung < len(rule.rungs) else number]
    until = max(over_at(attempt) for attempt in tried) + rung.cooldown
    says = f"the last {newest.remediation}"
    return (HoldReason.COOLDOWN, until, says) if until > case.now else None


def over_at(attempt: PastAttempt) -> datetime:
    return attempt.planned_at if attempt.ended_at is None else attempt.ended_at


def exhausted(case: Case, rule: PolicyRule, number: int) -> Verdict:
    until = spent_until(case, rule, number)
    if in_vain(case, rule, number):
        return HoldReason.ATTEMPTS_EXHAUSTED, None, "a person has to look"
    if until is None:
        return None
    if rule.rungs[number].remediation == "notify-only":
        return HoldReason.COOLDOWN, until, "people have been told already"
    return HoldReason.ATTEMPTS_EXHAUSTED, until, f"({len(own(case, rule))} attempts)"


def budget(case: Case, name: str) -> Verdict:
    moments = [
        attempt.planned_at
        for attempt in case.history.attempts
        if attempt.state is not AttemptState.REFUSED and attempt.remediation == name
    ]
    until = all_have_room(case.policy.budget.get(name, ()), moments, case.now)
    return None if until is None else (HoldReason.BUDGET, until, f"budget for {name} is spent")


def breaker(case: Case, name: str) -> Verdict:
    if not offer_of(name).destructive:
        return None
    closed_at = case.history.breaker.closed_at
    moments = [
        attempt.planned_at
        for attempt in case.history.attempts
        if attempt.state is not AttemptState.REFUSED
        and offer_of(attempt.remediation).destructive
        and not (closed_at is not None and attempt.planned_at < closed_at <= case.now)
    ]
    for limit in case.policy.open_after:
        if not has_room(limit, moments, case.now):
            return HoldReason.BREAKER_OPEN, None, f"opens: {limit.count} destructive attempts"
    return None


def rung_of(case: Case, rule: PolicyRule) -> int:
    numbers = range(len(rule.rungs))
    able = (
        number
        for number in numbers
        if not in_vain(case, rule, number) and spent_until(case, rule, number) is None
    )
    return next(able, numbers[-1])


def in_vain(case: Case, rule: PolicyRule, number: int) -> bool:
    seen = case.observation
    is_lasting = rule.rungs[number].remediation == "cap-power"
    return is_lasting and seen is not None and seen.in_vain is not None


def spent_until(case: Case, rule: PolicyRule, number: int) -> datetime | None:
    moments = [attempt.planned_at for attempt in own(case, rule) if attempt.rung == number]
    return all_have_room(rule.rungs[number].attempts, moments, case.now)


def own(case: Case, rule: PolicyRule) -> list[PastAttempt]:
    return [
        attempt
        for attempt in case.history.attempts
        if on_target(case, attempt)
        and attempt.policy_rule == rule.name
        and attempt.state is not AttemptState.REFUSED
    ]


def on_target(case: Case, attempt: PastAttempt) -> bool:
    target = case.observation.target if case.observation else None
    return target is not None and attempt.target_key == target.key


def has_room(limit: Limit, moments: Iterable[datetime], now: datetime) -> bool:
    """Tell whether one more may follow at *now*; what is stamped in the future is inside."""
    return sum(moment + limit.window > now for moment in moments) < limit.count


def all_have_room(
    limits: Sequence[Limit], moments: Sequence[datetime], now: datetime
) -> datetime | None:
    """Return the first moment from which on all *limits* have room, None if it is *now*."""
    until = now
    for leaves_at in sorted(moment + limit.window for limit in limits for moment in moments):
        if all(has_room(limit, moments, until) for limit in limits):
            break
        until = max(until, leaves_at)
    return None if until == now else until


# Whole minutes, and few of them, so that windows and attempts often meet at their very edges.
minutes = st.integers(-90, 5).map(lambda number: NOON + number * MINUTE)
limits = st.builds(
    Limit, st.integers(1, 3), st.sampled_from([1, 10, 30, 60, 90, 180]).map(lambda n: n * MINUTE)
)
some_limits = st.lists(limits, min_size=1, max_size=2).map(tuple)
names = st.sampled_from([*NAMES, "stop-container", "stop-container", "reset-gpu"])


def attempts_in(*states: AttemptState) -> st.SearchStrategy[PastAttempt]:
    return st.builds(
        PastAttempt,
        target_key=st.sampled_from([TARGET.key, TARGET.key, OTHER_TARGET.key]),
        policy_rule=st.sampled_from([RULE, RULE, RULE, "another"]),
        rung=st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
        remediation=names,
        state=st.sampled_from(states),
        planned_at=minutes,
        ended_at=st.none() | minutes,
    )


over = st.lists(
    attempts_in(AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.REFUSED), max_size=20
)
underway = st.just([]) | st.just([]) | st.lists(attempts_in(*MAY_CHANGE), max_size=3)
rungs = st.builds(
    lambda name, allowed, cooldown: a_rung(name, *allowed, cooldown=cooldown * MINUTE),
    names,
    some_limits,
    st.sampled_from([0, 0, 1, 10, 60]),
)
policies = st.builds(
    lambda ladder, budget, open_after: a_policy(
        a_rule(*ladder), budget=budget, open_after=open_after
    ),
    st.lists(rungs, min_size=1, max_size=3),
    st.dictionaries(names, some_limits),
    some_limits | st.just((Limit(100, MINUTE),)),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    past = draw(over) + draw(underway)
    seen = replace(
        an_observation(target=draw(st.sampled_from([TARGET] * 7 + [None]))),
        in_vain=draw(st.sampled_from([None, "it is limited already"])),
    )
    case = a_case(
        draw(policies),
        attempts=tuple(draw(st.permutations(past))),
        breaker=Breaker(closed_at=draw(st.none() | minutes)),
        seen=seen,
    )
    return replace(case, observation=draw(st.sampled_from([seen] * 7 + [None])))


@settings(max_examples=500, deadline=None)
@given(cases())
def test_each_guard_counts_what_a_plain_recount_does(case: Case) -> None:
    [rule] = case.policy.rules
    said = dict(explain(case))

    for name, expected in judged(case, rule).items():
        hold = said[name]
        if expected is None:
            assert hold is None, name
        else:
            reason, until, words = expected
            assert hold is not None, name
            assert (hold.reason, hold.until) == (reason, until), name
            assert words in hold.because, name
    decision = decide(case)
    if isinstance(decision, Remediate):
        assert decision.number == rung_of(case, rule)
