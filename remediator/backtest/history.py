"""Samples of the past, page by page, from wherever they come."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from remediator.backtest.store import Series


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time from *begin* up to but without *end*, in milliseconds since the epoch."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Page:
    """The samples of each metric from *begin* up to but without *end*, staleness included."""

    begin: int
    end: int
    series: Mapping[str, list[Series]]


class History(Protocol):
    """Where samples come from."""

    def pages(self, metrics: Iterable[str], stretch: Stretch, length: int) -> Iterator[Page]:
        """Yield the samples of *metrics*, page by page of *length* milliseconds."""
        ...
