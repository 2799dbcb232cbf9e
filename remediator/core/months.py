"""A month of the calendar, in UTC, as reports are made of it."""

import re
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime

_SHAPE = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_LAST = 12


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One month; ``number`` is 1 to 12."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def begin(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment after it."""
        return self.next.begin

    @property
    def next(self) -> "Month":
        """The month after it."""
        is_last = self.number == _LAST
        return Month(self.year + is_last, 1 if is_last else self.number + 1)

    @property
    def previous(self) -> "Month":
        """The month before it."""
        is_first = self.number == 1
        return Month(self.year - is_first, _LAST if is_first else self.number - 1)


def parse_month(text: str) -> Month:
    """Return the month that *text* such as ``2026-10`` stands for; ValueError if it is none."""
    found = _SHAPE.fullmatch(text)
    # The neighbours must be months of the calendar as well.
    if found is None or not 1 < int(found[1]) < MAXYEAR or not 0 < int(found[2]) <= _LAST:
        raise ValueError(f'"{text[:40]}" is not a month such as 2026-10')
    return Month(int(found[1]), int(found[2]))


def month_of(at: datetime) -> Month:
    """Return the month in which *at* lies."""
    at = at.astimezone(UTC)
    return Month(at.year, at.month)
