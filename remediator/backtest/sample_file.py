"""Samples in a file, so that a backtest can be repeated elsewhere, or once they are gone.

The file holds JSON lines as VictoriaMetrics exports and imports them: one line for a series in a
page, ``{"metric": {"__name__": …}, "values": […], "timestamps": [milliseconds]}``. A value of null
is a staleness marker; what JSON has no number for is a text ("NaN", "+Inf"). Lines are in the order
of their pages. The first line may hold the ``timings`` of the rule groups instead. A name that
ends in .gz is compressed.
"""

import gzip
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec
import numpy as np

from remediator.backtest.history import Page, Stretch
from remediator.backtest.matrix import NAME, pairs_of
from remediator.backtest.rule_plan import Timing
from remediator.backtest.store import Series
from remediator.errors import SourceError


class _Line(msgspec.Struct):
    metric: dict[str, str] = {}
    values: list[float | str | None] = []
    timestamps: list[int] = []
    timings: dict[str, list[int]] | None = None


_DECODER = msgspec.json.Decoder(_Line)


class SampleWriter:
    """Writes pages into a file."""

    def __init__(self, path: Path, timings: Mapping[str, Timing]) -> None:
        self._path = path
        try:
            self._file: IO[str] = _opened(path)
        except OSError as error:
            raise SourceError(f"{path} cannot be written: {error.strerror}") from error
        made = {name: [timing.interval, timing.phase] for name, timing in timings.items()}
        self._file.write(json.dumps({"timings": made}) + "\n")

    def write(self, page: Page) -> None:
        """Append a page."""
        try:
            for found in page.series.values():
                for series in found:
                    self._file.write(_line(series))
        except OSError as error:
            raise SourceError(f"{self._path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "wt", compresslevel=9, encoding="utf-8")
    return path.open("w", encoding="utf-8")


def _line(series: Series) -> str:
    values = [
        None if stale else _written(value)
        for value, stale in zip(series.values.tolist(), series.stale.tolist(), strict=True)
    ]
    line = {
        "metric": dict(series.labels),
        "values": values,
        "timestamps": series.times.tolist(),
    }
    return json.dumps(line, separators=(",", ":")) + "\n"


def _written(value: float) -> float | str:
    if math.isfinite(value):
        return int(value) if value == int(value) and abs(value) < 2**53 else value
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


class SampleFile:
    """A file of samples; SourceError says in which line it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def timings(self) -> dict[str, Timing]:
        """Return when the groups were evaluated, as far as the file knows."""
        for line in self._lines():
            return {name: Timing(*pair) for name, pair in (line.timings or {}).items()}
        return {}

    def stretch(self) -> Stretch:
        """Return from when to when there are samples; SourceError if there are none."""
        begin, end = None, 0
        for line in self._lines():
            if line.timestamps:
                begin = min(line.timestamps[0], begin if begin is not None else line.timestamps[0])
                end = max(end, line.timestamps[-1])
        if begin is None:
            raise SourceError(f"{self.path} holds no samples")
        return Stretch(begin, end + 1)

    def pages(self, metrics: Iterable[str], stretch: Stretch, length: int) -> Iterator[Page]:
        """Yield the samples of *metrics*, page by page of *length* milliseconds."""
        wanted = frozenset(metrics)
        lines = (line for line in self._lines() if line.metric.get(NAME) in wanted)
        waiting: list[Series] = []
        following = next(lines, None)
        for begin in range(stretch.begin, stretch.end, length):
            end = min(begin + length, stretch.end)
            while following is not None and (
                not following.timestamps or following.timestamps[0] < end
            ):
                self._refuse_late(following, begin, stretch)
                waiting.append(_series(following))
                following = next(lines, None)
            now, waiting = _cut(waiting, begin, end)
            found: dict[str, list[Series]] = {name: [] for name in wanted}
            for series in now:
                found[dict(series.labels)[NAME]].append(series)
            yield Page(begin, end, found)

    def _refuse_late(self, line: _Line, begin: int, stretch: Stretch) -> None:
        if line.timestamps and stretch.begin <= line.timestamps[0] < begin:
            raise SourceError(
                f"{self.path}: {line.metric.get(NAME)} begins at {line.timestamps[0]}, before lines"
                " above it: lines must be in the order of their first timestamps"
            )

    def _lines(self) -> Iterator[_Line]:
        opened = gzip.open if self.path.suffix == ".gz" else open
        number = 0
        try:
            with opened(self.path, "rb") as file:
                for number, text in enumerate(file, 1):
                    line = _DECODER.decode(text)
                    if len(line.values) != len(line.timestamps):
                        raise SourceError(f"{self.path}:{number}: not as many values as timestamps")
                    yield line
        except msgspec.DecodeError as error:
            raise SourceError(f"{self.path}:{number}: not a line of samples: {error}") from error
        except (OSError, EOFError) as error:
            why = getattr(error, "strerror", None) or error
            raise SourceError(f"{self.path} cannot be read: {why}") from error


def _series(line: _Line) -> Series:
    values = np.array([math.nan if one is None else float(one) for one in line.values])
    return Series(
        pairs_of(line.metric),
        np.array(line.timestamps, np.int64),
        values,
        np.array([one is None for one in line.values], np.bool_),
    )


def _cut(series: Iterable[Series], begin: int, end: int) -> tuple[list[Series], list[Series]]:
    """Return what lies in a page, and what lies after it."""
    now: list[Series] = []
    later: list[Series] = []
    for one in series:
        first, last = np.searchsorted(one.times, [begin, end])
        for part, kept in ((slice(first, last), now), (slice(last, None), later)):
            if len(one.times[part]):
                kept.append(Series(one.labels, one.times[part], one.values[part], one.stale[part]))
    return now, later
