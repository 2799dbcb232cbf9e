from datetime import datetime, timedelta

import pytest

from remediator.core.approvals import Answer
from remediator.core.budgets import Quota, quotas_of, spent_until
from remediator.core.case import Breaker
from remediator.core.policy import Limit
from tests.builders import DAY, HOUR, MINUTE, NOON, a_policy, a_rule, a_rung, an_approval

TWICE = Limit(2, HOUR)


@pytest.mark.parametrize(
    ("minutes_ago", "until"),
    [
        pytest.param([], None, id="nothing yet"),
        pytest.param([5], None, id="one of two"),
        pytest.param([5, 30], 30, id="both: room when the older one leaves"),
        pytest.param([30, 5], 30, id="in any order"),
        pytest.param([5, 60], None, id="exactly a window ago is outside"),
        pytest.param([5, 59.999], 0.001, id="just inside"),
        pytest.param([5, 10, 30], 50, id="more than allowed: room when the second-newest leaves"),
        pytest.param([0, 0], 60, id="this very moment counts"),
        pytest.param([-10, 5], 55, id="a moment in the future counts"),
        pytest.param([-10, -20], 70, id="the future alone fills it"),
        pytest.param([30, 30], 30, id="two at once leave at once"),
    ],
)
def test_a_limit_is_spent_until_enough_has_left_its_window(
    minutes_ago: list[float], until: float | None
) -> None:
    moments = [NOON - minutes * MINUTE for minutes in minutes_ago]

    expected = None if until is None else NOON + until * MINUTE
    assert spent_until([TWICE], iter(moments), NOON) == expected


def test_of_several_limits_the_last_to_have_room_counts() -> None:
    moments = [NOON - 30 * MINUTE, NOON - 5 * MINUTE]

    assert spent_until([TWICE, Limit(2, DAY)], moments, NOON) == NOON - 30 * MINUTE + DAY
    assert spent_until([Limit(2, DAY), TWICE], moments, NOON) == NOON - 30 * MINUTE + DAY
    assert spent_until([TWICE, Limit(3, DAY)], moments, NOON) == NOON + 30 * MINUTE


def test_without_limits_nothing_is_spent() -> None:
    assert spent_until([], [NOON] * 100, NOON) is None


def test_it_has_room_at_the_moment_it_names() -> None:
    moments = [NOON - 30 * MINUTE, NOON]
    until = spent_until([TWICE], moments, NOON)

    assert until is not None
    assert spent_until([TWICE], moments, until - timedelta(microseconds=1)) == until
    assert spent_until([TWICE], moments, until) is None


def test_a_decision_depends_on_the_budget_of_each_rung_and_on_the_breaker() -> None:
    limit, other = Limit(3, HOUR), Limit(1, HOUR)
    rule = a_rule(a_rung("restart-dcgm"), a_rung("stop-container"), a_rung("restart-dcgm"))
    policy = a_policy(rule, budget={"stop-container": (limit,)}, open_after=(other,))

    first, second, breaker = quotas_of(policy, rule, Breaker(closed_at=NOON - HOUR), NOON)

    assert first == Quota(frozenset({"restart-dcgm"}), ())
    assert second == Quota(frozenset({"stop-container"}), (limit,))
    assert (breaker.limits, breaker.after) == ((other,), NOON - HOUR)
    assert {"stop-container", "reset-gpu"} <= breaker.remediations
    assert not {"restart-dcgm", "notify-only"} & breaker.remediations


@pytest.mark.parametrize(
    ("asked_at", "expires_at", "is_over"),
    [
        (NOON, NOON + HOUR, False),
        (NOON - HOUR, NOON, True),
        (NOON + MINUTE, NOON + HOUR, True),
    ],
    ids=["just asked", "just expired", "asked by a clock that was set back"],
)
def test_a_question_is_open_from_when_it_is_asked_until_it_expires(
    asked_at: datetime, expires_at: datetime, is_over: bool
) -> None:
    question = an_approval(Answer.APPROVED, asked_at=asked_at, expires_at=expires_at)

    assert question.is_over(NOON) is is_over
