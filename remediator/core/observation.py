"""What the sources said about one target at one moment.

A source agrees with the alert, disagrees with it, or is silent. Silence is never agreement:
missing data counts as busy.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from remediator.core.targets import Target

Fact = str | int | float | bool | None


class Source(enum.Enum):
    """Where evidence comes from."""

    PROMETHEUS = "prometheus"
    DOCKER = "docker"
    NVML = "nvml"
    SYSTEMD = "systemd"
    JOURNAL = "journal"
    DCGM = "dcgm"


class Verdict(enum.Enum):
    """What one source makes of the alert."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    GONE = "gone"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Report:
    """One source's answer: a verdict, a sentence with the numbers, and the numbers themselves."""

    source: Source
    verdict: Verdict
    says: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen at ``at``; ``target`` is None when nothing exact could be identified.

    ``labels`` are the target's own (a container's Docker labels), for the policy's ``never``;
    ``exempt`` is the sentence that says why it must be left alone, if it must. ``owner`` and
    ``title`` are for people; ``context`` is what an attempt will want to know when the target
    itself is gone. ``confirmed_labels`` are the alert's labels as Prometheus itself has them, and
    ``active_since`` is when its condition began to hold, by this machine's clock. ``in_vain``
    is the sentence that says why a lasting remediation has nothing to add: what it would do is so
    already, or cannot be had. The ladder's next rung is then asked.
    """

    at: datetime
    target: Target | None
    reports: tuple[Report, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    exempt: str | None = None
    owner: str | None = None
    title: str = ""
    context: Mapping[str, Fact] = field(default_factory=dict)
    confirmed_labels: Mapping[str, str] | None = None
    active_since: datetime | None = None
    in_vain: str | None = None

    def report_of(self, source: Source) -> Report | None:
        """Return what *source* said, or None if it was not asked."""
        return next((report for report in self.reports if report.source is source), None)
