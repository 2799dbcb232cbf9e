"""What a way to tell people is to the outbox."""

from dataclasses import dataclass
from typing import Protocol

from remediator.core.notices import Letter


@dataclass(frozen=True, slots=True)
class Envelope:
    """A letter on its way.

    ``name`` never changes and no other letter of any journal has it, so that a second copy can be
    recognised; ``thread`` is the same for all letters of one incident.
    """

    name: str
    thread: str | None
    host: str
    letter: Letter


class Notifier(Protocol):
    """Delivers letters one way."""

    @property
    def name(self) -> str:
        """The word for it in the journal and in metrics."""
        ...

    def send(self, envelope: Envelope) -> str:
        """Deliver it and return a sentence about how; NotifyError says if trying again helps."""
        ...
