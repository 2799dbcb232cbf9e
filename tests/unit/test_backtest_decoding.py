"""Samples out of answers of Prometheus: the same ones, whatever series have in common."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.backtest.decoding import PageDecoder
from remediator.backtest.matrix import NAME, pairs_of
from remediator.backtest.staleness import StaleMarkers
from remediator.backtest.store import Series

_Samples = list[tuple[int, str]]


def _answer(*rows: _Samples, metric: str = "m") -> bytes:
    """Return what Prometheus answers; each row is of a series ``a="0"``, ``a="1"`` and so on."""
    result = [
        {
            "metric": {NAME: metric, "a": str(number), "job": "j", "instance": "i"},
            "values": [[at / 1000 if at % 1000 else at // 1000, value] for at, value in row],
        }
        for number, row in enumerate(rows)
    ]
    return json.dumps(
        {"status": "success", "data": {"resultType": "matrix", "result": result}},
        separators=(",", ":"),
    ).encode()


def _told(found: list[Series]) -> list[tuple[str, list[int], list[str], list[bool]]]:
    return [
        (dict(one.labels)["a"], one.times.tolist(), _texts(one), one.stale.tolist())
        for one in found
    ]


def _texts(series: Series) -> list[str]:
    return [str(value) for value in series.values.tolist()]


def test_every_kind_of_value_is_read() -> None:
    row = list(
        enumerate(["NaN", "+Inf", "-Inf", "1e-09", "-0", "1732579200.123"], 1_732_579_200_123)
    )
    found = PageDecoder(0).series(_answer(row))

    values = ["nan", "inf", "-inf", "1e-09", "-0.0", "1732579200.123"]
    assert _told(found) == [("0", [at for at, _ in row], values, [False] * 6)]


def test_what_is_of_the_page_before_is_left_out() -> None:
    found = PageDecoder(2000).series(_answer([(1999, "1"), (2000, "2")], [(1999, "1")], []))

    assert _told(found) == [("0", [2000], ["2.0"], [False])]


def test_series_have_timestamps_in_common_across_metrics_and_nobody_can_write_them() -> None:
    decoder = PageDecoder(0)
    first, second = decoder.series(_answer([(1000, "1")], [(1000, "1")]))
    (other,) = decoder.series(_answer([(1000, "2")], metric="n"))

    assert first.times is second.times is other.times
    assert first.values is second.values
    for array in (first.times, first.values, first.stale):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_an_answer_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        PageDecoder(0).series(b"<html>")


_PAGES, _WIDTH = 3, 4
_MOMENTS = range(0, _PAGES * _WIDTH * 1000, 1000)
# Few courses of a page for many series, so that some are alike; a moment without a sample is a gap.
_courses = st.lists(st.sampled_from(["", "1", "2.5"]), min_size=_WIDTH, max_size=_WIDTH)
_rows = st.lists(_courses, min_size=1, max_size=3).flatmap(
    lambda courses: st.lists(
        st.lists(st.sampled_from(courses), min_size=_PAGES, max_size=_PAGES).map(
            lambda pages: [value for page in pages for value in page]
        ),
        min_size=1,
        max_size=6,
    )
)


@given(_rows, st.lists(st.booleans(), min_size=len(_MOMENTS), max_size=len(_MOMENTS)))
def test_pages_are_those_of_series_that_have_nothing_in_common(
    rows: list[list[str]], scraped: list[bool]
) -> None:
    together, alone = StaleMarkers(), [StaleMarkers() for _ in rows]
    for begin in range(0, _MOMENTS.stop, _WIDTH * 1000):
        now = [(at, at // 1000) for at in range(begin, begin + _WIDTH * 1000, 1000)]
        page = [[(at, row[k]) for at, k in now if row[k] and scraped[k]] for row in rows]
        up = _series("up", [(at, "1") for at, k in now if scraped[k]])
        ups = [up] if len(up.times) else []
        expected = []
        for number, row in enumerate(page):
            single = [_series(str(number), row)] if row else []
            expected += alone[number].marked(single, ups)

        found = together.marked(PageDecoder(begin).series(_answer(*page)), ups)
        assert sorted(_told(found)) == sorted(_told(expected))


def _series(name: str, row: _Samples) -> Series:
    labels = pairs_of({NAME: "m", "a": name, "job": "j", "instance": "i"})
    times = np.array([at for at, _ in row], np.int64)
    values = np.array([float(value) for _, value in row])
    return Series(labels, times, values, np.zeros(len(row), np.bool_))
