"""Who may go beyond a limit for a while: what an administrator granted, and until when."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

_INSTANT = timedelta(microseconds=1)
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Exemption:
    """One user's leave to go beyond some limits.

    ``limits`` names fields of Limits. ``until`` is the first moment at which it holds no longer,
    None if it holds for ever.
    """

    user: str
    limits: frozenset[str]
    reason: str
    approved_by: str
    until: datetime | None = None

    def holds_at(self, now: datetime) -> bool:
        """Tell whether it is not over yet."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        end = "for ever" if self.until is None else f"until {_last_moment(self.until)}"
        return f"exempt {end}: {self.reason} (approved by {self.approved_by})"


def longest(exemptions: Iterable[Exemption]) -> Exemption | None:
    """Return the one of *exemptions* that holds for longest, None if there is none."""
    return max(exemptions, key=lambda one: (one.until is None, one.until or _NEVER), default=None)


def _last_moment(until: datetime) -> str:
    """Return the last moment before *until*; only the day if that is its end."""
    last = until - _INSTANT
    if last.time() >= time(23, 59, 58):
        return f"{last:%Y-%m-%d}"
    return f"{until:%Y-%m-%d %H:%M} UTC"
