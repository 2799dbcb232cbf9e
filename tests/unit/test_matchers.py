import pytest

from remediator.core.matchers import Matcher, all_match, parse_matcher


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('alertname="GPUHot"', Matcher("alertname", "=", "GPUHot")),
        ("alertname=GPUHot", Matcher("alertname", "=", "GPUHot")),
        (' alertname = "GPUHot" ', Matcher("alertname", "=", "GPUHot")),
        ('ds01.user!=""', Matcher("ds01.user", "!=", "")),
        ('a/b-c=~"x|y"', Matcher("a/b-c", "=~", "x|y")),
        ('job!~"dcgm.*"', Matcher("job", "!~", "dcgm.*")),
        (r'a="say \"hi\"\n\\"', Matcher("a", "=", 'say "hi"\n\\')),
        (r'a=~"\d+\."', Matcher("a", "=~", r"\d+\.")),
        ('a="b=c"', Matcher("a", "=", "b=c")),
    ],
)
def test_a_matcher_is_read_as_alertmanager_reads_it(text: str, expected: Matcher) -> None:
    assert parse_matcher(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "alertname", '="x"', 'a="x', "a=", 'a=="x"', '1a="x"', 'a="x" b="y"', "a={x}", 'ü="x"'],
)
def test_what_is_no_matcher_is_quoted_back(text: str) -> None:
    with pytest.raises(ValueError, match="not a matcher such as alertname=") as caught:
        parse_matcher(text)

    assert repr(text) in str(caught.value)


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match="not a matcher") as caught:
        parse_matcher("x" * 5000)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("pattern", ["(", "[", "*", "a{99999999999999999999}", "(?P<x"])
@pytest.mark.parametrize("operator", ["=~", "!~"])
def test_a_bad_regular_expression_is_refused(operator: str, pattern: str) -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        parse_matcher(f'a{operator}"{pattern}"')


def test_a_bad_regular_expression_is_no_matter_where_none_is_meant() -> None:
    assert parse_matcher('a="("').matches({"a": "("})


@pytest.mark.parametrize(
    ("matcher", "value", "expected"),
    [
        ("a=x", "x", True),
        ("a=x", "xx", False),
        ("a=x", None, False),
        ('a=""', None, True),
        ("a!=x", "x", False),
        ("a!=x", "y", True),
        ("a!=x", None, True),
        ('a!=""', None, False),
        ("a=~x.", "xy", True),
        ("a=~x.", "xyz", False),
        ("a=~x.", "wxy", False),
        ("a=~x|y", "xy", False),
        ("a=~.*", None, True),
        ("a=~.+", None, False),
        ("a=~.+", "two\nlines", True),
        ("a!~x.", "xy", False),
        ("a!~x.", "xyz", True),
        ("a!~.+", None, True),
    ],
)
def test_a_matcher_matches_the_whole_value_and_takes_absence_for_empty(
    matcher: str, value: str | None, expected: bool
) -> None:
    labels = {} if value is None else {"a": value}

    assert parse_matcher(matcher).matches(labels) is expected


def test_all_matchers_have_to_match() -> None:
    matchers = (Matcher("a", "=", "1"), Matcher("b", "=", "2"))

    assert all_match(matchers, {"a": "1", "b": "2"})
    assert not all_match(matchers, {"a": "1", "b": "3"})
    assert not all_match(matchers, {"a": "3", "b": "2"})
    assert all_match((), {})


def test_a_matcher_is_written_as_it_is_read() -> None:
    assert str(Matcher("a", "!~", 'x\n"\\')) == r'a!~"x\n\"\\"'
