"""Metrics about the host that need neither Docker nor a GPU: its disk, and who is logged in."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

from remediator.exporter import families
from remediator.exporter.source_watch import SourceWatch
from remediator.exporter.view import View
from remediator.sources.state_folder import DiskSpace


def disk_collector(watch: SourceWatch[DiskSpace | None]) -> Callable[[View], Iterator[Metric]]:
    """Return the collector of the disk of DS01's state."""

    def collect_disk(_view: View) -> Iterator[Metric]:
        """Yield the disk's size and room; nothing where DS01 keeps no state."""
        known = watch.latest()
        if known.answer is not None:
            yield families.STATE_DISK.of(
                [
                    (("total",), float(known.answer.total)),
                    (("used",), float(known.answer.used)),
                    (("free",), float(known.answer.free)),
                ]
            )
        known.check()

    return collect_disk


def session_collector(
    watch: SourceWatch[tuple[str, ...] | None],
) -> Callable[[View], Iterator[Metric]]:
    """Return the collector of sessions over the network."""

    def collect_sessions(_view: View) -> Iterator[Metric]:
        """Yield the sessions by user and in all; nothing where neither utmp nor logind is."""
        known = watch.latest()
        if known.answer is not None:
            counts = Counter(known.answer)
            yield families.SSH_ACTIVE.of(
                ((user,), float(number)) for user, number in sorted(counts.items())
            )
            yield families.SSH_TOTAL.of([((), float(counts.total()))])
        known.check()

    return collect_sessions


def age_collector(watches: Sequence[SourceWatch[Any]]) -> Callable[[View], Iterator[Metric]]:
    """Return the collector that says how old is what *watches* serve."""

    def collect_ages(_view: View) -> Iterator[Metric]:
        """Yield the age of each source's last answer; none before its first."""
        yield families.SOURCE_AGE.of(
            ((watch.name,), age) for watch in watches if (age := watch.age_seconds) is not None
        )

    return collect_ages
