"""A policy finds the same rule as going through all of them would."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.core.matchers import Matcher
from remediator.core.policy import PolicyRule
from tests.builders import a_policy, a_rule

# Few labels and values, so that rules often meet: the same name twice, none, a part of another.
NAMES = ["alertname", "alertname", "instance"]
VALUES = ["", "A", "B", "AB", "A\n"]
PATTERNS = ["A", "A|B", "A.*", ".*", ".+", "", "[^A]*"]

matchers = st.builds(
    Matcher, st.sampled_from(NAMES), st.sampled_from(["=", "="]), st.sampled_from(VALUES)
) | st.builds(
    Matcher,
    st.sampled_from(NAMES),
    st.sampled_from(["=", "!=", "=~", "!~"]),
    st.sampled_from(PATTERNS),
)
rules = st.lists(st.lists(matchers, max_size=3).map(tuple), min_size=1, max_size=12).map(
    lambda found: tuple(
        replace(a_rule(name=str(number)), matchers=asked) for number, asked in enumerate(found)
    )
)
labels = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES))


@settings(max_examples=500, deadline=None)
@given(rules, st.lists(labels, min_size=1, max_size=8))
def test_the_first_rule_that_matches_is_found(
    rules: tuple[PolicyRule, ...], alerts: list[Mapping[str, str]]
) -> None:
    policy = a_policy(*rules)

    for alert in alerts:
        matching = [
            rule for rule in rules if all(matcher.matches(alert) for matcher in rule.matchers)
        ]
        assert policy.rule_for(alert) is (matching[0] if matching else None)
