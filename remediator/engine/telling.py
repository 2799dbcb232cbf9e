"""Make letters of notices: one row of the outbox for each person to tell."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from remediator.core.notices import Letter, Notice
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


def letters(
    notice: Notice, directory: Directory, audiences: Iterable[Audience], owner: str | None
) -> list[Letter]:
    """Return *notice* addressed to everybody in *audiences*."""
    return [
        Letter(notice.kind, to.notifier, to.address, notice.subject, notice.body)
        for to in directory.recipients(audiences, owner)
    ]
