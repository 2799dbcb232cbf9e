"""What is written is read back, and nothing that people type or send breaks a reader."""

import contextlib
import json
import tempfile
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remediator.config.policy import POLICY_FIELDS, RULE_FIELDS, RUNG_FIELDS, read_policy
from remediator.config.settings import read_settings
from remediator.core.durations import format_duration, humanize, parse_duration
from remediator.core.matchers import Matcher, parse_matcher
from remediator.core.notices import clean
from remediator.errors import ConfigError, DeliveryError
from remediator.payload import parse_delivery

anything = st.text(st.characters())
durations = st.integers(0, 10**15).map(lambda n: timedelta(milliseconds=n))


@given(durations)
@example(timedelta())
@example(timedelta.max - timedelta(microseconds=999))
def test_a_duration_is_read_back_as_it_was_written(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text("0123456789ywdhms -.", max_size=12) | anything)
def test_a_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        duration = parse_duration(text)
        assert duration >= timedelta()
        assert parse_duration(format_duration(duration)) == duration


@given(st.timedeltas())
def test_any_duration_can_be_told(duration: timedelta) -> None:
    assert len(humanize(duration).split()) in {2, 4}


@given(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-/]*", fullmatch=True),
    st.sampled_from(["=", "!="]),
    anything,
)
def test_a_matcher_is_read_back_as_it_was_written(label: str, operator: str, value: str) -> None:
    matcher = Matcher(label, operator, value)

    assert parse_matcher(str(matcher)) == matcher


@given(st.sampled_from(["=~", "!~"]), st.text('ab|.*+?()[]{}\\"\n^$-,0123456789', max_size=20))
def test_a_regular_expression_is_read_back_or_refused(operator: str, value: str) -> None:
    matcher = Matcher("a", operator, value)

    with contextlib.suppress(ValueError):
        assert parse_matcher(str(matcher)) == matcher


@given(anything, st.integers(1, 300))
def test_clean_text_is_one_short_line_of_visible_characters(text: str, longest: int) -> None:
    kept = clean(text, longest)

    assert len(kept) <= longest
    assert kept == kept.strip()
    assert len(kept.splitlines()) <= 1
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"} for c in kept)
    assert not any(unicodedata.category(c) in {"Zl", "Zp"} for c in kept)
    assert clean(kept, longest) == kept
    kept.encode()


scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)
known = {"version", "groupKey", "alerts", "receiver", "truncatedAlerts"}
known_of_alert = {"status", "labels", "annotations", "startsAt", "fingerprint"}
labels = st.dictionaries(st.text(), st.text(), max_size=5)


@st.composite
def deliveries(draw: st.DrawFn) -> dict[str, Any]:
    """What Alertmanager sends, and fields that a newer one may add."""
    strange = st.dictionaries(st.text(), values, max_size=3)
    alerts = []
    for _ in range(draw(st.integers(0, 3))):
        added = {k: v for k, v in draw(strange).items() if k not in known_of_alert}
        alerts.append(
            {
                **added,
                "status": draw(st.sampled_from(["firing", "resolved"])),
                "labels": draw(labels),
                "annotations": draw(labels),
                "startsAt": draw(
                    st.datetimes(
                        min_value=datetime(1970, 1, 1)  # noqa: DTZ001 - the zone is in the text
                    ).map(lambda at: f"{at.isoformat()}Z")
                ),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": draw(st.text()),
                "fingerprint": draw(st.from_regex("[0-9a-f]{16}", fullmatch=True)),
            }
        )
    added = {k: v for k, v in draw(strange).items() if k not in known}
    return {
        **added,
        "version": "4",
        "groupKey": draw(st.text()),
        "receiver": draw(st.text()),
        "truncatedAlerts": draw(st.integers(0, 2**64)),
        "alerts": alerts,
    }


@settings(max_examples=150, deadline=None)
@given(deliveries())
def test_a_delivery_is_read_whatever_a_newer_alertmanager_adds(sent: dict[str, Any]) -> None:
    delivery = parse_delivery(json.dumps(sent).encode())

    assert [dict(alert.labels) for alert in delivery.alerts] == [
        a["labels"] for a in sent["alerts"]
    ]
    assert [alert.status.value for alert in delivery.alerts] == [
        alert["status"] for alert in sent["alerts"]
    ]
    assert [alert.firing.starts_at for alert in delivery.alerts] == [
        alert["startsAt"] for alert in sent["alerts"]
    ]
    assert 0 <= delivery.truncated < 2**31


@settings(max_examples=300, deadline=None)
@given(
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | st.tuples(deliveries(), st.integers(0, 400), st.binary(max_size=3)).map(
        lambda t: json.dumps(t[0]).encode()[: t[1]] + t[2]
    )
)
def test_what_is_no_delivery_is_a_delivery_error_and_nothing_else(body: bytes) -> None:
    with contextlib.suppress(DeliveryError):
        for alert in parse_delivery(body).alerts:
            json.dumps([alert.labels, alert.annotations]).encode()
            alert.firing.starts_at.encode()


@settings(max_examples=300, deadline=None)
@given(deliveries(), st.data())
def test_a_delivery_with_one_value_changed_is_read_or_refused(
    sent: dict[str, Any], data: st.DataObject
) -> None:
    places = [sent, *sent["alerts"]]
    place = data.draw(st.sampled_from(places))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)

    with contextlib.suppress(DeliveryError):
        parse_delivery(json.dumps(sent).encode())


words = [
    *POLICY_FIELDS,
    *RULE_FIELDS,
    *RUNG_FIELDS,
    *("stop-container", "notify-only", "open_after", "before", "within", "grace", "remove"),
    *("act", "owner", "admins", "5m", "2 per 6h", 'alertname="A"', "from-limits", "a=~("),
]
leaves = st.sampled_from(words) | scalars
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(words), inner, max_size=5)
    ),
    max_leaves=25,
)
marks = st.sampled_from(
    [
        *words,
        *(" ", "\n", "  ", "\t", ": ", "- ", "? ", ",", "[", "]", "{", "}", "&a ", "*a ", "!!x "),
        *('"', "'", "|", ">", "#", "%", "@", "~", "<<", "---\n", "\\U00110000", "\\ud800"),
    ]
)
documents = trees.map(
    lambda tree: yaml.safe_dump(tree, allow_unicode=True).encode(errors="replace")
)
scribbles = (
    st.lists(marks, max_size=30).map("".join).map(lambda text: text.encode(errors="replace"))
)


@settings(max_examples=400, deadline=None)
@given(documents | scribbles | st.binary(max_size=200))
def test_what_is_no_policy_is_a_config_error_that_says_where(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_bytes(body)
        _problems_have_a_place(path)


def _problems_have_a_place(path: Path) -> None:
    try:
        policy = read_policy(path)
    except ConfigError as error:
        problems = error.problems
    else:
        assert all(rule.matchers and rule.rungs and rule.name for rule in policy.rules)
        assert policy.open_after
        return
    assert problems
    assert {problem.file for problem in problems} == {str(path)}
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert all(problem.message for problem in problems)


@settings(max_examples=200, deadline=None)
@given(documents | scribbles)
def test_what_are_no_settings_is_a_config_error(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.yaml"
        path.write_bytes(body)
        with contextlib.suppress(ConfigError):
            read_settings(path, {})
