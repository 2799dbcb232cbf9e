"""Months as reports are made of, and how delays over one are told."""

from datetime import UTC, datetime

import pytest

from remediator.core.delays import BUCKETS, Delays, bucket_of, delays_of
from remediator.core.months import Month, month_of, parse_month
from remediator.core.tallies import Tally, Until


def test_a_month_ends_where_the_next_begins_also_at_the_turn_of_the_year() -> None:
    december = Month(2026, 12)

    assert december.begin == datetime(2026, 12, 1, tzinfo=UTC)
    assert december.end == Month(2027, 1).begin
    assert december.next.previous == december
    assert Month(2026, 3).previous == Month(2026, 2)
    assert str(Month(2026, 3)) == "2026-03"


def test_a_moment_lies_in_the_month_of_utc() -> None:
    assert month_of(datetime.fromisoformat("2026-03-01T00:30:00+01:00")) == Month(2026, 2)


def test_a_month_is_read_back() -> None:
    assert parse_month(str(Month(2026, 10))) == Month(2026, 10)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026", "2026-13", "2026-00", "2026-1", "26-10", "october", "2026-10-01"),
        *(" 2026-10", "0001-05", "9999-05", "२०२६-१०", "2026-10\n", "-026-10", "x" * 100_000),
    ],
)
def test_what_is_no_month_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month such as 2026-10") as refused:
        parse_month(text)

    assert len(str(refused.value)) < 100


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param([], None, id="none"),
        pytest.param([7.0], Delays(1, 7, 7, 7), id="one"),
        pytest.param([1.0, 9.0], Delays(2, 1, 9, 9), id="two: one that there was"),
        pytest.param([3.0, 1.0, 2.0], Delays(3, 2, 3, 3), id="in any order"),
        pytest.param([float(n) for n in range(1, 101)], Delays(100, 50, 95, 100), id="many"),
        pytest.param([-5.0, 5.0], Delays(2, 0, 5, 5), id="before its cause"),
    ],
)
def test_delays_are_told_by_delays_that_there_were(
    seconds: list[float], expected: Delays | None
) -> None:
    assert delays_of(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0, "30.0"), (30.0, "30.0"), (30.001, "60.0"), (86400.0, "86400.0"), (86401.0, "+Inf")],
)
def test_a_delay_falls_in_the_class_up_to_its_bound(seconds: float, bound: str) -> None:
    assert bucket_of(seconds) == bound


def test_classes_are_in_order_and_names_are_labels() -> None:
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert {until.value for until in Until} == {"begun", "proven"}
    assert all("/" not in tally.value for tally in Tally)
