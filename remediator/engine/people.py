"""What the engine needs of whoever knows people and words; put together in the wiring."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from remediator.core.notices import Digest, Notice, Text
from remediator.core.policy import Audience


class Addressee(Protocol):
    """One addressee of one notifier."""

    @property
    def notifier(self) -> str:
        """The notifier that reaches them."""
        ...

    @property
    def address(self) -> str:
        """What that notifier needs to know of them."""
        ...


class Directory(Protocol):
    """Knows how people are reached."""

    def recipients(self, audiences: Iterable[Audience], owner: str | None) -> Sequence[Addressee]:
        """Return everybody to tell."""
        ...


class Wording(Protocol):
    """Knows how to say it."""

    def write(self, notice: Notice) -> Text:
        """Return the texts of one notice."""
        ...

    def write_digest(self, digest: Digest) -> Text:
        """Return the texts of several notices that are told as one."""
        ...
