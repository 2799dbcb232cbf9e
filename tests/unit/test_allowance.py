"""So many in so long, of each name."""

from remediator.web.allowance import Allowance
from tests.builders import HOUR, MINUTE, NOON, SECOND


def test_no_stretch_holds_more_than_the_most() -> None:
    allowance = Allowance(2, MINUTE)

    passed = [n for n in range(180) if allowance.allows("a", NOON + n * SECOND)]

    assert passed == [0, 1, 60, 61, 120, 121]


def test_each_name_has_its_own() -> None:
    allowance = Allowance(1, MINUTE)

    assert allowance.allows("a", NOON)
    assert allowance.allows("b", NOON)
    assert not allowance.allows("a", NOON)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    allowance = Allowance(1, MINUTE)
    allowance.allows("a", NOON)

    assert allowance.allows("a", NOON - HOUR)


def test_only_so_many_names_are_remembered() -> None:
    allowance = Allowance(1, MINUTE)
    for number in range(1001):
        allowance.allows(str(number), NOON)

    assert allowance.allows("0", NOON)
    assert not allowance.allows("1000", NOON)
