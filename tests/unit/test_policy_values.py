import itertools
from collections import UserDict
from dataclasses import replace

import pytest

from remediator.core.matchers import Matcher
from remediator.core.policy import Mode, Policy
from tests.builders import NAME, RULE, a_policy, a_rule

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


ANY_NAME = replace(a_rule(name="any"), matchers=(Matcher("drill", "=", "yes"),))


def found_by(policy: Policy, labels: dict[str, str]) -> str | None:
    rule = policy.rule_for(labels)
    return rule.name if rule else None


def test_a_rule_that_asks_for_no_name_keeps_its_place_among_those_that_do() -> None:
    drill = {"alertname": NAME, "drill": "yes"}
    other = a_rule(name="other", alertname="X")

    assert found_by(a_policy(other, ANY_NAME, a_rule()), drill) == "any"
    assert found_by(a_policy(other, a_rule(), ANY_NAME), drill) == RULE
    assert found_by(a_policy(other, a_rule(), ANY_NAME), {"alertname": "X"}) == "other"
    assert found_by(a_policy(other, a_rule(), ANY_NAME), {"alertname": "Y"}) is None
    assert found_by(a_policy(other, a_rule(), ANY_NAME), {**drill, "alertname": "Y"}) == "any"


@pytest.mark.parametrize(
    ("matchers", "matched"),
    [
        pytest.param([("=~", "DS01.*")], {NAME}, id="by a pattern"),
        pytest.param([("!=", NAME)], {"X", ""}, id="any but one"),
        pytest.param([("!~", "DS01.*|X")], {""}, id="none of a pattern"),
        pytest.param([("=", "")], {""}, id="none at all"),
        pytest.param([("=~", ".*"), ("=", "X")], {"X"}, id="by a pattern, and as it is"),
        pytest.param([("=", NAME), ("=", "X")], set(), id="two names at once"),
    ],
)
def test_every_way_to_ask_for_a_name_is_understood(
    matchers: list[tuple[str, str]], matched: set[str]
) -> None:
    asked = tuple(Matcher("alertname", operator, value) for operator, value in matchers)
    policy = a_policy(a_rule(alertname="Z"), replace(a_rule(name="asked"), matchers=asked))

    assert {name for name in (NAME, "X", "") if policy.rule_for({"alertname": name})} == matched
    assert (policy.rule_for({}) is not None) is ("" in matched)


def test_a_name_is_asked_for_by_its_own_label_only() -> None:
    named = replace(a_rule(), matchers=(Matcher("name", "=", NAME),))

    assert found_by(a_policy(named), {"name": NAME, "alertname": "X"}) == RULE


class Labels(UserDict[str, str]):
    """Labels that know how often one of them was asked for."""

    asked = 0

    def __getitem__(self, name: str) -> str:
        self.asked += 1
        return super().__getitem__(name)


def test_rules_that_ask_for_other_names_are_not_gone_through() -> None:
    others = [a_rule(name=f"{number}", alertname=f"X{number}") for number in range(50)]
    alone, among_others = Labels(alertname=NAME), Labels(alertname=NAME)

    assert a_policy(a_rule()).rule_for(alone) is not None
    assert a_policy(*others, a_rule()).rule_for(among_others) is not None
    assert among_others.asked == alone.asked


def test_a_changed_policy_goes_by_its_new_rules() -> None:
    policy = replace(a_policy(a_rule(name="old")), rules=(a_rule(name="new"),))

    assert found_by(policy, {"alertname": NAME}) == "new"
    assert policy == a_policy(a_rule(name="new"))


def test_any_never_matcher_puts_a_container_out_of_reach() -> None:
    first, second = Matcher("keep", "=", "yes"), Matcher("user", "=~", "root|boss")
    policy = a_policy(never=(first, second))

    assert policy.never_touches({"user": "boss"}) is second
    assert policy.never_touches({"keep": "yes", "user": "boss"}) is first
    assert policy.never_touches({"user": "alice"}) is None
