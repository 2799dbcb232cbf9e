"""Questions to administrators whether something may be done, and their answers."""

import enum
from dataclasses import dataclass
from datetime import datetime


class Answer(enum.Enum):
    """How a question stands."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Approval:
    """One question about one rung on one exact target; times are aware UTC datetimes.

    It never approves itself: once ``expires_at`` is past, an answer that was not given counts for
    nothing, nor does an approval that was not used. A rejection stays. ``actor`` and ``reason``
    are set with the answer.
    """

    policy_rule: str
    rung: int
    target_key: str
    asked_at: datetime
    expires_at: datetime
    answer: Answer = Answer.WAITING
    actor: str = ""
    reason: str = ""

    def is_over(self, now: datetime) -> bool:
        """Tell whether it has to be asked anew; a clock that was set back counts as doubt."""
        is_now = self.asked_at <= now < self.expires_at
        return self.answer is not Answer.REJECTED and not is_now
