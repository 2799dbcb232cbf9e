"""DS01's events of the last 24 hours, counted by kind.

Times are kept by the minute: an event is counted from its time on, and leaves with its minute.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Protocol

from prometheus_client.metrics_core import Metric

from remediator.exporter import families
from remediator.exporter.source_watch import SourceWatch
from remediator.exporter.view import View
from remediator.sources.event_lines import Event
from remediator.sources.events_log import Listener

DAY = timedelta(days=1)
# Kinds are text from outside; each is a series of its own, and DS01 has some dozens.
MOST_KINDS = 100
OTHER = "other"
# What DS01 calls the events of a container's life, and what its dashboards call them.
LIFECYCLE: Mapping[str, str] = MappingProxyType(
    {
        "maintenance.idle_kill": "idle_kill",
        "maintenance.runtime_kill": "runtime_kill",
        "resource.oom_kill": "oom_kill",
        "alert.gpu_warning": "gpu_warning",
        "alert.memory_warning": "memory_warning",
        "alert.container_warning": "container_warning",
        "bare_metal.warning": "bare_metal_warning",
    }
)

_Minutes = defaultdict[int, Counter[str]]


class Log(Protocol):
    """A log of events."""

    def follow(self, listener: Listener) -> None:
        """Tell *listener* what is new."""


class EventTally:
    """Counts the events of *log*; never holds more than two days of minutes."""

    def __init__(self, log: Log, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._log = log
        self._now = now
        self._present: _Minutes = defaultdict(Counter)
        self._settled: _Minutes = defaultdict(Counter)
        self._kinds: set[str] = set()

    def last_day(self) -> Mapping[str, int]:
        """Read what is new and return the numbers by kind; SourceError if that fails."""
        self._log.follow(self)
        self._drop_old()
        due = _minute(self._now())
        totals: Counter[str] = Counter()
        for minutes in (self._present, self._settled):
            for minute, kinds in minutes.items():
                if minute <= due:
                    totals.update(kinds)
        self._kinds = self._kept_kinds()
        return totals

    def take(self, event: Event) -> None:
        """Count an event; one from before the day, or from beyond tomorrow, is nobody's news."""
        if abs(self._now() - event.at) < DAY:
            kind = event.kind
            if kind not in self._kinds and kind not in LIFECYCLE:
                if len(self._kinds) >= MOST_KINDS:
                    kind = OTHER
                self._kinds.add(kind)
            self._present[_minute(event.at)][kind] += 1

    def settle(self) -> None:
        """Keep what was counted whatever becomes of the file."""
        for minute, kinds in self._present.items():
            self._settled[minute].update(kinds)
        self._present.clear()

    def forget(self) -> None:
        """Drop what was counted of the present file."""
        self._present.clear()

    def _drop_old(self) -> None:
        oldest = _minute(self._now() - DAY)
        for minutes in (self._present, self._settled):
            for minute in [minute for minute in minutes if minute < oldest]:
                del minutes[minute]

    def _kept_kinds(self) -> set[str]:
        kept = (*self._present.values(), *self._settled.values())
        return {kind for kinds in kept for kind in kinds}


def events_collector(watch: SourceWatch[Mapping[str, int]]) -> Callable[[View], Iterator[Metric]]:
    """Return the collector of what `EventTally.last_day` says."""

    def collect_events(_view: View) -> Iterator[Metric]:
        """Yield the numbers of the last 24 hours."""
        known = watch.latest()
        yield families.EVENTS_DAY.of(
            ((kind,), float(number)) for kind, number in sorted(known.answer.items())
        )
        yield families.LIFECYCLE_DAY.of(
            ((action,), float(known.answer.get(kind, 0))) for kind, action in LIFECYCLE.items()
        )
        known.check()

    return collect_events


def _minute(at: datetime) -> int:
    return math.floor(at.timestamp() / 60)
