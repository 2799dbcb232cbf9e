"""How long and how often is measured: in earnest, or just to see that a part works."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Rounds of so many seconds; ``share`` of the usual sizes (connections, containers, rows)."""

    rounds: int = 3
    seconds: float = 2
    share: float = 1

    def of(self, size: int) -> int:
        """Return that share of *size*, at least 1."""
        return max(1, round(size * self.share))


IN_EARNEST = Pace()
A_GLANCE = Pace(rounds=1, seconds=0.2, share=0.02)
