"""The promise of the policy: however alerts come, no window holds more attempts than it allows."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.core.attempts import IN_PROGRESS, AttemptState, PastAttempt
from remediator.core.case import Breaker, Case, Hold, Remediate
from remediator.core.catalogue import offer_of
from remediator.core.decision import decide, explain
from remediator.core.observation import Verdict
from remediator.core.policy import Audience, Limit, Mode, Policy, Warn
from remediator.core.targets import Container
from tests.builders import (
    MINUTE,
    NOON,
    SECOND,
    a_case,
    a_policy,
    a_report,
    a_rule,
    a_rung,
    an_alert,
    an_attempt,
    an_observation,
)

TARGETS = [Container(letter * 64, NOON) for letter in "abc"]
OUTCOMES = list(AttemptState)
ALERTS = ["A", "B", "Unknown"]

limits = st.lists(
    st.builds(Limit, st.integers(1, 4), st.integers(1, 90).map(lambda n: n * MINUTE)),
    min_size=1,
    max_size=2,
).map(tuple)
rungs = st.builds(
    lambda name, attempts, cooldown: a_rung(name, *attempts, cooldown=cooldown * MINUTE),
    st.sampled_from(["stop-container", "notify-only"]),
    limits,
    st.integers(0, 20),
)
rules = st.lists(rungs, min_size=1, max_size=3)
warns = st.none() | st.builds(
    Warn, st.integers(1, 10).map(lambda n: n * MINUTE), st.just((Audience.OWNER,))
)
policies = st.builds(
    lambda budget, first, second, warn: a_policy(
        a_rule(*first, name="a", alertname="A", warn=warn),
        a_rule(*second, name="b", alertname="B"),
        open_after=budget,
    ),
    limits,
    rules,
    rules,
    warns,
)


@dataclass(frozen=True)
class Look:
    """Some time passes, then an alert about a target is looked at; an attempt ends like this."""

    wait: timedelta
    alert: str
    target: Container
    outcome: AttemptState
    took: timedelta
    warned: bool


looks = st.lists(
    st.builds(
        Look,
        wait=st.integers(0, 15 * 60).map(lambda n: n * SECOND),
        alert=st.sampled_from(ALERTS),
        target=st.sampled_from(TARGETS),
        outcome=st.sampled_from(OUTCOMES),
        took=st.integers(0, 600).map(lambda n: n * SECOND),
        warned=st.booleans(),
    ),
    max_size=60,
)


def replay(policy: Policy, sequence: list[Look]) -> list[PastAttempt]:
    """Do what the engine does with every decision: write the attempt, and how it ended."""
    now = NOON
    attempts: list[PastAttempt] = []
    for look in sequence:
        now += look.wait
        case = a_case(
            policy,
            alert=an_alert(name=look.alert),
            attempts=tuple(attempts),
            warned_at=now - 15 * MINUTE if look.warned else None,
            seen=an_observation(target=look.target),
            now=now,
        )
        decision = decide(case)
        if isinstance(decision, Remediate):
            attempts.append(_attempt(decision, look, now))
    return attempts


def _attempt(decision: Remediate, look: Look, now: datetime) -> PastAttempt:
    planned = an_attempt(
        now,
        look.outcome,
        target=look.target,
        policy_rule=decision.policy_rule,
        rung=decision.number,
        remediation=decision.rung.remediation,
    )
    return planned if planned.state in IN_PROGRESS else replace(planned, ended_at=now + look.took)


def fullest(attempts: list[PastAttempt], window: timedelta) -> int:
    """Return the most attempts in any stretch of *window*."""
    starts = [attempt.planned_at for attempt in attempts]
    return max((sum(at <= other < at + window for other in starts) for at in starts), default=0)


@settings(max_examples=150, deadline=None)
@given(policies, looks)
def test_no_window_ever_holds_more_destructive_attempts_than_the_budget(
    policy: Policy, sequence: list[Look]
) -> None:
    counted = [
        attempt
        for attempt in replay(policy, sequence)
        if attempt.state is not AttemptState.REFUSED and offer_of(attempt.remediation).destructive
    ]

    for limit in policy.open_after:
        assert fullest(counted, limit.window) <= limit.count


@settings(max_examples=150, deadline=None)
@given(policies, looks)
def test_no_window_ever_holds_more_attempts_of_a_rung_on_a_target_than_it_allows(
    policy: Policy, sequence: list[Look]
) -> None:
    attempts = replay(policy, sequence)

    for rule in policy.rules:
        for number, rung in enumerate(rule.rungs):
            for target in TARGETS:
                of_rung = [
                    attempt
                    for attempt in attempts
                    if attempt.state is not AttemptState.REFUSED
                    and (attempt.policy_rule, attempt.rung) == (rule.name, number)
                    and attempt.target_key == target.key
                ]
                for limit in rung.attempts:
                    assert fullest(of_rung, limit.window) <= limit.count


@settings(max_examples=100, deadline=None)
@given(policies, looks)
def test_nothing_follows_an_attempt_that_never_ended_on_the_same_target(
    policy: Policy, sequence: list[Look]
) -> None:
    attempts = replay(policy, sequence)

    for number, attempt in enumerate(attempts):
        if attempt.state in IN_PROGRESS:
            later = [other.target_key for other in attempts[number + 1 :]]
            assert attempt.target_key not in later


@settings(max_examples=100, deadline=None)
@given(policies, looks)
def test_nothing_destructive_is_done_unwarned_where_a_warning_is_wanted(
    policy: Policy, sequence: list[Look]
) -> None:
    warned = {look for look in sequence if look.warned}
    unwarned = [replace(look, warned=False) for look in warned]

    for attempt in replay(policy, unwarned):
        rule = next(rule for rule in policy.rules if rule.name == attempt.policy_rule)
        assert rule.warn is None or not offer_of(attempt.remediation).destructive


verdicts = st.lists(st.sampled_from(Verdict), min_size=3, max_size=3)
attempts_of_any_kind = st.lists(
    st.builds(
        an_attempt,
        st.integers(-600, 600).map(lambda n: NOON + n * MINUTE),
        st.sampled_from(AttemptState),
        target=st.sampled_from(TARGETS),
        policy_rule=st.sampled_from(["a", "b", "gone"]),
        rung=st.integers(0, 4),
        remediation=st.sampled_from(["stop-container", "notify-only"]),
        ended_at=st.none() | st.integers(-600, 600).map(lambda n: NOON + n * MINUTE),
    ),
    max_size=12,
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any case at all, most of them with something that speaks against acting."""
    policy = replace(draw(policies), mode=draw(st.sampled_from(Mode)))
    sources = ("prometheus", "docker", "nvml")
    agrees = draw(st.booleans())
    said = [Verdict.AGREES] * 3 if agrees else draw(verdicts)
    reports = [
        replace(a_report(), source=type(a_report().source)(source), verdict=verdict)
        for source, verdict in zip(sources, said, strict=True)
    ]
    seen = an_observation(
        *reports,
        target=draw(st.sampled_from([*TARGETS, None])),
        exempt=draw(st.sampled_from([None, None, None, "kept alive"])),
    )
    case = a_case(
        policy,
        alert=an_alert(name=draw(st.sampled_from(ALERTS))),
        attempts=tuple(draw(attempts_of_any_kind)),
        warned_at=draw(st.none() | st.integers(-30, 30).map(lambda n: NOON + n * MINUTE)),
        paused=draw(st.sampled_from([None, None, None, "x"])),
        breaker=draw(st.sampled_from([Breaker(), Breaker(), Breaker("x")])),
        seen=seen,
    )
    return replace(case, observation=draw(st.sampled_from([seen, seen, seen, None])))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_same_case_is_always_decided_the_same(case: Case) -> None:
    assert decide(case) == decide(case)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_the_explanation_holds_first_where_the_decision_does(case: Case) -> None:
    decision = decide(case)

    held = [hold for _, hold in explain(case) if hold is not None]
    assert (held[0] if held else None) == (decision if isinstance(decision, Hold) else None)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_only_a_named_remediation_is_done_and_only_on_what_every_source_agrees_about(
    case: Case,
) -> None:
    decision = decide(case)

    if isinstance(decision, Remediate):
        rule = case.policy.rule_for(case.alert.labels)
        assert rule is not None
        assert rule.rungs[decision.number] == decision.rung
        acts = offer_of(decision.rung.remediation).acts
        assert case.policy.mode in ({Mode.ACT} if acts else {Mode.ACT, Mode.APPROVE})
        assert not acts or case.history.breaker.open_because is None
        assert case.observation is not None
        assert case.observation.target is not None
        assert {report.verdict for report in case.observation.reports} == {Verdict.AGREES}


@settings(max_examples=300, deadline=None)
@given(cases())
def test_waiting_as_long_as_a_hold_says_changes_the_answer(case: Case) -> None:
    decision = decide(case)

    if isinstance(decision, Hold) and decision.until is not None:
        assert decision.until > case.now
        assert decide(replace(case, now=decision.until)) != decision


@settings(max_examples=300, deadline=None)
@given(cases(), attempts_of_any_kind)
def test_remembering_more_attempts_never_makes_a_hold_an_attempt_of_the_same_rung(
    case: Case, more: list[PastAttempt]
) -> None:
    """More history may move it up the ladder; on the same rung it can only speak against."""
    richer = replace(
        case,
        history=replace(case.history, attempts=(*case.history.attempts, *more)),
    )
    poor, rich = decide(case), decide(richer)

    if isinstance(rich, Remediate) and isinstance(poor, Remediate):
        assert rich.number >= poor.number
