import itertools

import pytest

from remediator.core.matchers import Matcher
from remediator.core.policy import Mode, Policy
from tests.builders import NAME, a_policy, a_rule

CAREFUL_FIRST = [Mode.OBSERVE, Mode.NOTIFY, Mode.APPROVE, Mode.ACT]


@pytest.mark.parametrize(
    ("careful", "bold"), list(itertools.combinations_with_replacement(CAREFUL_FIRST, 2))
)
def test_the_more_careful_mode_wins_whichever_caps(careful: Mode, bold: Mode) -> None:
    assert careful.capped_by(bold) is careful
    assert bold.capped_by(careful) is careful


def test_a_policy_without_anything_only_observes_and_matches_nothing() -> None:
    assert Policy().mode is Mode.OBSERVE
    assert Policy().rule_for({"alertname": NAME}) is None
    assert Policy().never_touches({"ds01.monitoring": "true"}) is None


def test_the_first_rule_that_matches_is_the_one() -> None:
    policy = a_policy(a_rule(name="a", alertname="X"), a_rule(name="b"), a_rule(name="c"))

    found = policy.rule_for({"alertname": NAME, "other": "label"})

    assert found is not None
    assert found.name == "b"


def test_any_never_matcher_puts_a_container_out_of_reach() -> None:
    first, second = Matcher("keep", "=", "yes"), Matcher("user", "=~", "root|boss")
    policy = a_policy(never=(first, second))

    assert policy.never_touches({"user": "boss"}) is second
    assert policy.never_touches({"keep": "yes", "user": "boss"}) is first
    assert policy.never_touches({"user": "alice"}) is None
