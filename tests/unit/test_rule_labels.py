"""Which labels an expression yields, as Prometheus would have it."""

import pytest

from remediator.rules.labels import ANYTHING, Branches, Labels, branches_of
from remediator.rules.promql import PromqlError, parse

SERIES: dict[str, Branches] = {
    "a": frozenset({Labels(frozenset("xyz"))}),
    "b": frozenset({Labels(frozenset("xw"))}),
    "none": frozenset(),
}


def yielded(text: str) -> set[str]:
    """Return the labels of each branch, as words in alphabetical order."""
    branches = branches_of(parse(text), lambda name: SERIES.get(name, ANYTHING))
    return {"".join(sorted(branch.names)) for branch in branches}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", {"xyz"}),
        ('a{y=""}', {"xz"}),
        ("a offset 5m", {"xyz"}),
        ("rate(a[5m])", {"xyz"}),
        ("max_over_time(rate(a[5m])[1h:1m])", {"xyz"}),
        ("-a", {"xyz"}),
        ("a > 5", {"xyz"}),
        ("5 < a", {"xyz"}),
        ("time() - a", {"xyz"}),
        ("vector(1)", {""}),
        ("sum(a)", {""}),
        ("sum by (x, w) (a)", {"x"}),
        ("sum without (x) (a)", {"yz"}),
        ("topk by (x) (1, a)", {"xyz"}),
        ('count_values by (x) ("v", a)', {"vx"}),
        ("a * b", {"xyz"}),
        ("a * on (x) b", {"x"}),
        ("a > on (x) b", {"x"}),
        ("a * ignoring (y, z) b", {"x"}),
        ("a * on (x) group_left b", {"xyz"}),
        ("a * on (x) group_left (w) b", {"wxyz"}),
        ("a * on (x) group_left (y) b", {"xz"}),
        ("b * on (x) group_right (w) a", {"wxyz"}),
        ("a and on (x) b", {"xyz"}),
        ("a unless b", {"xyz"}),
        ("a or b", {"xyz", "wx"}),
        ("sum by (x) (a or b)", {"x"}),
        ("sum by (w) (a or b)", {"", "w"}),
        ('label_replace(a, "n", "$1", "x", "(.+)")', {"nxyz"}),
        ('label_join(a, "n", "-", "x", "y")', {"nxyz"}),
        ('absent(a{x="1", y=~".+"})', {"x"}),
        ("histogram_quantile(0.9, sum by (x, le) (a))", {"x"}),
        ("scalar(a)", {""}),
        ("none * a", set()),
        ("sum by (x, q) (unknown)", {"qx"}),
    ],
)
def test_the_labels_of_an_expression(text: str, expected: set[str]) -> None:
    assert yielded(text) == expected


def test_of_an_unknown_metric_only_what_is_dropped_is_gone() -> None:
    (labels,) = branches_of(parse("sum without (x) (unknown)"), lambda _: ANYTHING)

    assert labels.may_have("y")
    assert not labels.may_have("x")


@pytest.mark.parametrize(
    ("text", "broken_at", "says"),
    [
        ("sum by (a (x)", "(a", "never closed"),
        ("foo)", ")", 'unexpected ")"'),
        ("foo bar", "bar", "an operator is missing"),
        ("foo > > 1", "> 1", "something is missing before"),
        ("foo ==\n and bar", "and", "something is missing before"),
        ("x + max_tiem(y)", "max_tiem", "unknown function"),
        ("x > 1_000", "1_", "bad number"),
        ("rate(x[5m)", ")", 'unexpected ")"'),
        ('foo{a=~"("}', "(", "illegal regex"),
        ("foo ; bar", "; bar", 'unexpected ";"'),
    ],
)
def test_where_an_expression_breaks(text: str, broken_at: str, says: str) -> None:
    with pytest.raises(PromqlError, match="not PromQL") as caught:
        parse(text)

    assert says in str(caught.value)
    assert text[caught.value.offset :].startswith(broken_at)


@pytest.mark.parametrize(
    "text",
    [
        "a offset 5m",
        "a offset -5m",
        "a @ end()",
        "- a + -b",
        "sum(a) by (x)",
        "sum by (x) (a)",
        "a > bool 1",
        "a / on (x) group_left b",
        "a / on (x) group_left (w) b",
        "# a comment )\na",
        'a{b="c) d"} atan2 b',
        "a[5m:]",
    ],
)
def test_what_is_fine_is_read(text: str) -> None:
    if text.endswith("]"):
        text = f"max_over_time({text})"
    assert parse(text)


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "a" + ")" * 5000, "-" * 5000 + "a", "a" + "+a" * 999]
)
def test_what_would_take_too_long_is_refused_at_once(text: str) -> None:
    with pytest.raises(PromqlError, match="too long or too deep"):
        parse(text)
