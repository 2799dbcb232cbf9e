"""How long something takes: medians of several rounds, so that one bad moment does not count."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds: the middle one, and what 99 of 100 do not exceed."""

    median: float
    p99: float


def measure(
    action: Callable[[], object], *, rounds: int = 5, times: int = 40, pause: float = 0.05
) -> Timing:
    """Do *action* *times* times in each of *rounds*, with a *pause* (seconds) before each time.

    Both numbers are the middle ones of the rounds. Without the pause a busy loop would be
    measured, which is not what Prometheus does.
    """
    action()
    found = [_round(action, times, pause) for _ in range(rounds)]
    return Timing(
        median=statistics.median(timing.median for timing in found),
        p99=statistics.median(timing.p99 for timing in found),
    )


def _round(action: Callable[[], object], times: int, pause: float) -> Timing:
    taken = []
    for _ in range(times):
        time.sleep(pause)
        began = time.perf_counter()
        action()
        taken.append((time.perf_counter() - began) * 1000)
    return Timing(statistics.median(taken), percentile(taken, 99))


def percentile(numbers: list[float], percent: float) -> float:
    """Return the smallest of *numbers* that *percent* of them do not exceed."""
    ordered = sorted(numbers)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]
