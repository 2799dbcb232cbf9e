"""How long it took, over many times: the median and its like, and the classes of a histogram."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# From a minute, which an alert without a warning needs, to a day, for which an approval may wait.
BUCKETS = (
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1800.0,
    3600.0,
    7200.0,
    14400.0,
    43200.0,
    86400.0,
)
_P95 = 0.95


@dataclass(frozen=True, slots=True)
class Delays:
    """The distribution of *times* delays, in seconds."""

    times: int
    median_seconds: float
    p95_seconds: float
    longest_seconds: float


def delays_of(seconds: Iterable[float]) -> Delays | None:
    """Return how delays are distributed, None if there were none.

    The median and the 95th percentile are delays that there were (nearest rank): nothing is
    interpolated between few of them.
    """
    ordered = sorted(max(0.0, second) for second in seconds)
    if not ordered:
        return None
    return Delays(
        times=len(ordered),
        median_seconds=ordered[math.ceil(len(ordered) / 2) - 1],
        p95_seconds=ordered[math.ceil(len(ordered) * _P95) - 1],
        longest_seconds=ordered[-1],
    )


def bucket_of(seconds: float) -> str:
    """Return the upper bound of the class that a delay falls in, as Prometheus writes it."""
    return next((f"{bound}" for bound in BUCKETS if seconds <= bound), "+Inf")
