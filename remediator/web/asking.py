"""What is asked for in an address: the words of a search, and where to go after a login."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

from remediator.core.months import Month, parse_month
from remediator.journal.search import Query

_LONGEST = 200
_STATES = ("", "open", "closed")
_LARGEST_NUMBER = 2**63 - 1
# What a search can be narrowed by, besides words: the parameter, which is the attribute as well.
NAMES = ("owner", "container", "gpu", "alert")


def query_of(arguments: Mapping[str, str]) -> Query:
    """Return what a search is for; ValueError says which parameter makes no sense."""
    words = {name: _text(arguments, name) for name in NAMES}
    state = _text(arguments, "state")
    if state not in _STATES:
        raise ValueError("state is open or closed, or nothing for both")
    return Query(
        text=_text(arguments, "q"),
        state=state,
        since=_moment(arguments, "since"),
        until=_moment(arguments, "until", is_end=True),
        before=number_of(arguments, "before"),
        **words,
    )


def number_of(arguments: Mapping[str, str], name: str) -> int | None:
    """Return a number from 1 on, None if it is not given; ValueError for anything else."""
    text = _text(arguments, name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) <= _LARGEST_NUMBER:
        raise ValueError(f"{name} is a number from 1 on")
    return int(text)


def within(arguments: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a number from 1 to *most*, or ValueError."""
    number = number_of(arguments, name) or default
    if number > most:
        raise ValueError(f"{name} is at most {most}")
    return number


def month_in(arguments: Mapping[str, str]) -> Month | None:
    """Return the month that is asked for, None if none is; ValueError for what is no month."""
    text = _text(arguments, "month")
    return parse_month(text) if text else None


def local_path(text: str) -> str:
    """Return a path of this server to go on to; the first page for anything else.

    Browsers take what begins with two slashes, of either kind, for another server.
    """
    is_ours = re.fullmatch(r"/(?![/\\])[^\x00-\x20\\\x7f]{0,1000}", text)
    return text if is_ours else "/"


def _text(arguments: Mapping[str, str], name: str) -> str:
    text = arguments.get(name, "").strip()
    if len(text) > _LONGEST:
        raise ValueError(f"{name} is longer than {_LONGEST} characters")
    return text


def _moment(arguments: Mapping[str, str], name: str, *, is_end: bool = False) -> datetime | None:
    """Return a time; a mere day stands for its beginning, or at the end for all of it."""
    text = _text(arguments, name)
    if not text:
        return None
    try:
        if "T" not in text:
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            return day + timedelta(days=1) if is_end else day
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name} is a day such as 2026-11-25, or a time") from error
