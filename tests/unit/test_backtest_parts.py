"""The parts of a backtest that need no Prometheus: offsets, staleness, files, waits."""

from pathlib import Path

import numpy as np
import pytest

from remediator.backtest.alert_states import AlertStates
from remediator.backtest.group_offset import xxhash64
from remediator.backtest.history import Page, Stretch
from remediator.backtest.matrix import NAME, LabelSets, Matrix, pairs_of
from remediator.backtest.rule_plan import Timing
from remediator.backtest.sample_file import SampleFile, SampleWriter
from remediator.backtest.staleness import StaleMarkers
from remediator.backtest.store import Series
from remediator.errors import SourceError


def _series(times: list[int], **labels: str) -> Series:
    count = len(times)
    named = pairs_of({NAME: "m", **labels})
    return Series(named, np.array(times, np.int64), np.ones(count), np.zeros(count, np.bool_))


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", 0xEF46DB3751D8E999),
        ("a", 0xD24EC4F1A98C6E5B),
        ("abc", 0x44BC2CF5AD770999),
        ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_the_hash_is_xxhash(text: str, digest: int) -> None:
    assert xxhash64(text.encode()) == digest


def _stale(found: list[Series]) -> list[int]:
    return [int(at) for one in found for at in one.times[one.stale]]


_UP = {"job": "j", "instance": "i"}


def test_a_series_ends_at_the_scrape_that_goes_without_it() -> None:
    up = _series([10, 20, 30, 40], **_UP)
    found = StaleMarkers().marked([_series([10, 20], **_UP)], [up])

    assert _stale(found) == [30]


def test_a_gap_in_a_series_is_marked_where_it_begins() -> None:
    up = _series([10, 20, 30, 40], **_UP)
    found = StaleMarkers().marked([_series([10, 40], **_UP)], [up])

    assert _stale(found) == [20]


def test_what_no_scrape_tells_of_is_not_marked() -> None:
    up = _series([10, 20, 400, 410], **_UP)
    found = StaleMarkers().marked([_series([10, 20, 400, 410], **_UP)], [up])

    assert _stale(found) == []


def test_a_series_that_ends_with_a_page_is_marked_in_the_next_one_only_once() -> None:
    markers = StaleMarkers()
    markers.marked([_series([10, 20], **_UP)], [_series([10, 20], **_UP)])

    assert _stale(markers.marked([], [_series([30, 40], **_UP)])) == [30]
    assert _stale(markers.marked([], [_series([50, 60], **_UP)])) == []


def _alike(times: list[int], *labels: dict[str, str]) -> list[Series]:
    """Return series that share their timestamps, as those of a page do."""
    shared = _series(times)
    one = [pairs_of({NAME: "m", **these}) for these in labels]
    return [Series(these, shared.times, shared.values, shared.stale) for these in one]


@pytest.mark.parametrize("first", ["new", "old"])
def test_of_two_that_are_alike_in_a_page_only_that_of_the_page_before_has_a_gap(first: str) -> None:
    markers = StaleMarkers()
    markers.marked([_series([10, 20], **_UP, a="old")], [_series([10, 20], **_UP)])
    other = {"new": "old", "old": "new"}[first]
    page = _alike([40, 50], {**_UP, "a": first}, {**_UP, "a": other})

    found = markers.marked(page, [_series([30, 40, 50], **_UP)])
    assert {dict(one.labels)["a"]: _stale([one]) for one in found} == {"old": [30], "new": []}


@pytest.mark.parametrize("first", ["i", "j"])
def test_of_two_that_are_alike_each_ends_with_its_own_target(first: str) -> None:
    ups = [_series([10, 20, 30], **_UP), _series([10, 20, 35], job="j", instance="j")]
    other = {"i": "j", "j": "i"}[first]
    page = _alike([10, 20], {"job": "j", "instance": first}, {"job": "j", "instance": other})

    found = StaleMarkers().marked(page, ups)
    assert {dict(one.labels)["instance"]: _stale([one]) for one in found} == {"i": [30], "j": [35]}


def test_an_exporter_that_sets_its_own_timestamps_is_never_marked() -> None:
    up = _series([10, 20, 30, 40], **_UP)
    found = StaleMarkers().marked([_series([11, 21], **_UP)], [up])

    assert _stale(found) == []


def test_what_a_rule_recorded_ends_at_the_next_evaluation() -> None:
    up = _series(list(range(0, 200, 10)), **_UP)
    found = StaleMarkers().marked([_series([5, 25, 45], a="1"), _series([5, 25, 85], a="2")], [up])

    assert _stale(found) == [65, 45, 105]


@pytest.mark.parametrize("name", ["samples.jsonl", "samples.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    series = Series(
        pairs_of({NAME: "m", "a": 'q"\\\n'}),
        np.array([1000, 2000, 3000, 4000], np.int64),
        np.array([1.5, np.nan, np.inf, 3]),
        np.array([False, True, False, False]),
    )
    with SampleWriter(tmp_path / name, {"g": Timing(30_000, 17)}) as writer:
        writer.write(Page(0, 5000, {"m": [series]}))

    file = SampleFile(tmp_path / name)
    (page, later) = file.pages(["m", "other"], Stretch(0, 4000), 3500)
    (found,) = page.series["m"]
    assert file.timings() == {"g": Timing(30_000, 17)}
    assert file.stretch() == Stretch(1000, 4001)
    assert found.labels == series.labels
    np.testing.assert_array_equal(found.values, series.values[:3])
    np.testing.assert_array_equal(found.stale, series.stale[:3])
    assert later.series == {"m": [], "other": []}


def test_lines_in_no_order_are_refused_and_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    line = '{"metric":{"__name__":"m","a":"%s"},"values":[1],"timestamps":[%s]}\n'
    path.write_text(line % ("1", 9000) + line % ("2", 1000))

    with pytest.raises(SourceError, match="in the order of their first timestamps"):
        list(SampleFile(path).pages(["m"], Stretch(0, 10_000), 2000))


def _follow(states: AlertStates, present: str, begin: int = 0) -> None:
    count = len(present)
    held = np.array([[one == "x" for one in present]])
    failed = np.array([one == "!" for one in present])
    found = Matrix(LabelSets([(("a", "1"),)]), np.ones((1, count)), held)
    states.follow(np.arange(begin, begin + count, dtype=np.int64), found, failed)


@pytest.mark.parametrize(
    ("waits", "keeps", "course", "fired"),
    [
        pytest.param(0, 0, ".xx.", [(1, 3)], id="at once"),
        pytest.param(2, 0, ".xx.xxxx.", [(6, 8)], id="a gap starts the wait again"),
        pytest.param(2, 0, "x!xx", [(2, None)], id="a failed evaluation changes nothing"),
        pytest.param(0, 2, "x.x..x", [(0, None)], id="kept over short gaps"),
        pytest.param(0, 2, "x...x", [(0, 3), (4, None)], id="kept not for ever"),
        pytest.param(1, 2, "x.", [], id="what never fired is not kept"),
    ],
)
def test_alerts_wait_and_are_kept(
    waits: int, keeps: int, course: str, fired: list[tuple[int, int | None]]
) -> None:
    for cut in range(1, len(course)):
        states = AlertStates("A", waits, keeps)
        _follow(states, course[:cut])
        _follow(states, course[cut:], cut)
        found = [(one.fired_at, one.resolved_at) for one in states.fired()]
        assert found == fired, f"in two parts, cut at {cut}"
