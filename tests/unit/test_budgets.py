from datetime import timedelta

import pytest

from remediator.core.budgets import spent_until
from remediator.core.policy import Limit
from tests.builders import DAY, HOUR, MINUTE, NOON

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
