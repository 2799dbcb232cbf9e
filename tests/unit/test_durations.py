from datetime import timedelta

import pytest

from remediator.core.durations import format_duration, humanize, in_hours, parse_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", timedelta()),
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("5ms", timedelta(milliseconds=5)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("2w", timedelta(days=14)),
        ("1y2w3d4h5m6s7ms", timedelta(days=382, hours=4, minutes=5, seconds=6, milliseconds=7)),
    ],
)
def test_a_duration_is_read_as_prometheus_reads_it(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "00",
        "-5m",
        "1.5h",
        "5 m",
        " 5m",
        "5m\n",
        "m",
        "30m1h",
        "5m5m",
        "5M",
        "10:30",
        "\u0665m",
    ],
)
def test_what_is_no_duration_is_quoted_back(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 30s, 10m or 1h30m") as caught:
        parse_duration(text)

    assert str(caught.value).startswith(f'"{text}"')


@pytest.mark.parametrize("text", ["999999999y", "999999999w999999999d"])
def test_a_duration_beyond_all_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than a duration can be"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(days=400), "400d"),
        (timedelta(hours=1, milliseconds=1), "1h1ms"),
    ],
)
def test_a_duration_is_written_in_its_shortest_form(duration: timedelta, expected: str) -> None:
    assert format_duration(duration) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (0.6, "1 s"),
        (59.6, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (3601, "1 h 1 s"),
        (90061, "1 d 1 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_a_person_reads_two_units_at_most(seconds: float, expected: str) -> None:
    assert humanize(timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(1440, "24 hours"), (120, "2 hours"), (60, "1 h"), (90, "1 h 30 min"), (20, "20 min")],
)
def test_hours_stay_hours(minutes: int, expected: str) -> None:
    assert in_hours(timedelta(minutes=minutes)) == expected
