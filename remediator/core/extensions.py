"""An owner's wish to keep a container from the idle stop for a while, and what is granted of it.

An extension counts for one run of one container, like a keep-alive file, and like that for no
longer than the limits allow from the moment it is given. It may be given again and again.
"""

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.targets import Container, Named, Target


class Via(enum.Enum):
    """The way an extension was asked for."""

    CLI = "cli"
    LINK = "link"
    PAGE = "page"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, text: str) -> "Via":
        """Return what *text* stands for; whatever the network side makes up is unknown."""
        return next((via for via in cls if via.value == text), cls.UNKNOWN)


_BY = {
    Via.CLI: "",
    Via.LINK: " through the link in a notice",
    Via.PAGE: " on the page",
    Via.UNKNOWN: "",
}


@dataclass(frozen=True, slots=True)
class Extension:
    """Until when somebody keeps a container, and since when."""

    until: datetime
    actor: str
    via: Via
    given_at: datetime

    def holds_at(self, now: datetime) -> bool:
        """Tell whether it still protects."""
        return now < self.until

    @property
    def by(self) -> str:
        """Who gave it, and which way."""
        return f"by {self.actor}{_BY[self.via]}"


@dataclass(frozen=True, slots=True)
class Keepable:
    """A container that can be kept; ``longest`` is the most the limits allow at a time."""

    target: Container
    name: str
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Granted:
    """Until when a container is kept; ``is_new`` is False where it was for at least as long."""

    until: datetime
    is_new: bool
    was_cut: bool


def grant(asked: timedelta, longest: timedelta, last: Extension | None, now: datetime) -> Granted:
    """Return what is granted of *asked*: no more than *longest* from now, and never less than was.

    Nothing asked for is the end of what was granted before.
    """
    if asked <= timedelta():
        return Granted(now, is_new=last is not None and last.holds_at(now), was_cut=False)
    until = now + min(asked, longest)
    if last is not None and last.until >= until:
        return Granted(last.until, is_new=False, was_cut=asked > longest)
    return Granted(until, is_new=True, was_cut=asked > longest)


def run_of(target: Target | None) -> tuple[str, datetime | None] | None:
    """Return the container's id and which run *target* is; no time where only the id is known."""
    if isinstance(target, Container):
        return target.id, target.started_at
    if isinstance(target, Named) and target.subject.kind == "container":
        return target.subject.name, None
    return None


def clock_of(at: datetime) -> str:
    """Return a time for people, to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
