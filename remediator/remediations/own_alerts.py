"""Confirm alerts: with Prometheus, or with the journal where it is the epilog that raised them.

All remediations ask here, so that none has to know of the epilog.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.alerts import Alert, Origin
from remediator.core.observation import Report, Source, Verdict
from remediator.sources.prometheus import Confirmation, Sample


class Prometheus(Protocol):
    """Prometheus, for all that is not our own."""

    def confirm(
        self, alert: Alert, now: datetime, *, exporter_must_answer: bool = True
    ) -> Confirmation:
        """Return whether the alert is firing."""
        ...

    def samples(
        self, selector: str, window: timedelta
    ) -> list[tuple[Mapping[str, str], list[Sample]]]:
        """Return raw samples by series."""
        ...

    def value(self, expression: str) -> float | None:
        """Return the largest value of an expression."""
        ...


class OwnAlerts:
    """Prometheus, and a second witness for what Prometheus has not heard of yet.

    An alert's origin is the journal's, which no delivery can write. The journal proves that the
    epilog saw it, not that it is still so: that is for the driver, the kernel and Docker to say.
    """

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus

    def confirm(
        self, alert: Alert, now: datetime, *, exporter_must_answer: bool = True
    ) -> Confirmation:
        """Return whether *alert* is firing, by whoever can know."""
        if alert.origin is Origin.EPILOG:
            says = alert.annotations.get("description", "the epilog saw it")
            report = Report(Source.JOURNAL, Verdict.AGREES, says)
            return Confirmation(report, alert.starts_at, alert.annotations, alert.labels)
        return self._prometheus.confirm(alert, now, exporter_must_answer=exporter_must_answer)

    def samples(
        self, selector: str, window: timedelta
    ) -> list[tuple[Mapping[str, str], list[Sample]]]:
        """Return the raw samples of the last *window* by series, or raise SourceError."""
        return self._prometheus.samples(selector, window)

    def value(self, expression: str) -> float | None:
        """Return the largest value of *expression*, None if it has no result; or SourceError."""
        return self._prometheus.value(expression)
