"""Where series ended, which Prometheus knows and does not tell.

It marks a series as stale when its target answers without it, or does not answer: at the moment of
that scrape, which ``up`` has a sample of. A rule's series is marked at the first evaluation that
does not yield it. Nothing is marked while Prometheus does not run, nor where an exporter sets
timestamps itself: then the last sample counts for the five minutes of the lookback.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from remediator.backtest.matrix import Ints, Pairs
from remediator.backtest.store import Series

_LATE = 1.5
_NEVER = 1 << 62
Target = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Last:
    """The last sample of a series that has not ended, and how often there is one.

    *is_scraped* says that its samples have the timestamps of scrapes.
    """

    at: int
    interval: int
    is_scraped: bool


class StaleMarkers:
    """Adds the markers to one page after the other."""

    def __init__(self) -> None:
        self._last: dict[Pairs, _Last] = {}

    def marked(self, page: Iterable[Series], ups: Iterable[Series]) -> list[Series]:
        """Return the series of a *page* with their markers; *ups* are those of ``up`` in it."""
        scrapes = {_target(dict(one.labels)): one.times for one in ups}
        alive = np.unique(np.concatenate([np.empty(0, np.int64), *scrapes.values()]))
        found = {one.labels: one for one in page}
        empty = np.empty(0, np.int64)
        for labels in self._last.keys() - found.keys():
            found[labels] = Series(labels, empty, np.empty(0), np.empty(0, np.bool_))
        # Series that have the same timestamps, and had them before, end at the same moments.
        known: dict[tuple[int, _Last | None, int], tuple[Ints, _Last]] = {}
        marked = []
        for labels, one in found.items():
            before, of_target = self._last.get(labels), scrapes.get(_target(dict(labels)))
            key = (id(one.times), before, id(of_target))
            if key not in known:
                known[key] = _ends(one.times, before, of_target, alive)
            marked.append(self._marked(one, *known[key]))
        return [one for one in marked if len(one.times)]

    def _marked(self, series: Series, ends: Ints, last: _Last) -> Series:
        if len(ends) and ends[-1] > last.at:
            self._last.pop(series.labels, None)
        else:
            self._last[series.labels] = last
        return _with_markers(series, ends)


def _ends(
    times: Ints, before: _Last | None, scrapes: Ints | None, alive: Ints
) -> tuple[Ints, _Last]:
    """Return when a series with samples at *times* and *before* ended, and its last sample."""
    known = times if before is None else np.concatenate([[before.at], times])
    is_scraped = bool(before and before.is_scraped)
    if scrapes is not None and not is_scraped:
        is_scraped = bool(np.isin(times, scrapes).any())
    last = _Last(int(known[-1]), _interval(times, before), is_scraped)
    if is_scraped:
        return _by_scrapes(known, scrapes), last
    if scrapes is None:
        return _by_interval(known, last.interval, alive), last
    return np.empty(0, np.int64), last


def _by_scrapes(known: Ints, scrapes: Ints | None) -> Ints:
    """Return the scrapes that went without a series that has samples at *known*."""
    if scrapes is None or not len(scrapes):
        return np.empty(0, np.int64)
    following = np.append(known[1:], _NEVER)
    nexts = np.append(scrapes, _NEVER)[np.searchsorted(scrapes, known, "right")]
    return nexts[nexts < following]


def _by_interval(known: Ints, interval: int, alive: Ints) -> Ints:
    """Return the evaluations that did not yield a series, while Prometheus was *alive*."""
    if not interval:
        return np.empty(0, np.int64)
    following, nexts = np.append(known[1:], _NEVER), known + interval
    late = following - known > interval * _LATE
    lives = np.append(alive, _NEVER)[np.searchsorted(alive, nexts)] - nexts < interval
    return nexts[late & lives]


def _with_markers(series: Series, ends: Ints) -> Series:
    if not len(ends):
        return series
    times = np.concatenate([series.times, ends])
    order = np.argsort(times, kind="stable")
    values = np.concatenate([series.values, np.full(len(ends), np.nan)])
    stale = np.concatenate([series.stale, np.ones(len(ends), np.bool_)])
    return Series(series.labels, times[order], values[order], stale[order])


def _interval(times: Ints, before: _Last | None) -> int:
    if len(times) > 1:
        steps = np.sort(np.diff(times))
        return int(steps[(len(steps) - 1) // 2])
    return before.interval if before else 0


def _target(labels: Mapping[str, str]) -> Target:
    return labels.get("job", ""), labels.get("instance", "")
