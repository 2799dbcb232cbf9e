"""Which metrics there are, and which labels each has, as far as that can be known beforehand.

Our own come from the code that serves them, so that nothing here falls behind. Of the exporters
beside ours only the names are known (`exporters.txt`), not the labels.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from prometheus_client import CollectorRegistry

from remediator.config.reader import did_you_mean
from remediator.exporter import families
from remediator.metrics import ReceiverMetrics, WorkerMetrics
from remediator.rules.labels import ANYTHING, Branches, Labels

# Prometheus gives them to everything that it scrapes.
TARGET_LABELS = ("instance", "job")
# Whoever uses these names means one of the metrics that are known here.
_OURS = ("ds01_", "remediator_", "DCGM_FI_", "DCGM_EXP_")
# A name with such a start is reported only if it is nearly one that is known: lists are never full.
_OTHERS = ("node_", "container_", "prometheus_", "alertmanager_")
_NEARLY = 0.9
_PARTS = ("", "_total", "_bucket", "_sum", "_count", "_created")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric that somebody exports; ``labels`` is None where only its name is known."""

    name: str
    labels: tuple[str, ...] | None = None
    is_gauge: bool = False

    @property
    def branches(self) -> Branches:
        """What a selector of it may yield."""
        if self.labels is None:
            return ANYTHING
        return frozenset({Labels(frozenset({*self.labels, *TARGET_LABELS}))})


@functools.cache
def exported() -> Mapping[str, Metric]:
    """Return every metric that is known, by its name."""
    return {**_listed(), **_own(), **_ds01()}


def is_exported(name: str) -> bool:
    """Tell whether somebody exports *name*, as far as is known here."""
    return name in exported() or any(name.startswith(start) for start in _families())


def why_unknown(name: str, recorded: Mapping[str, object]) -> str | None:
    """Return what to say of a metric that nobody exports and no rule records, None if it may be.

    *recorded* are the metrics that the rules themselves record.
    """
    if name in recorded or is_exported(name):
        return None
    if ":" in name:
        return _why_not_recorded(name, recorded)
    if name.startswith(_OURS):
        hint = did_you_mean(name, exported())
        return f"nobody exports {name}{hint}"
    if name.startswith(_OTHERS):
        hint = did_you_mean(name, exported(), cutoff=_NEARLY)
        return f"nobody exports {name}{hint}" if hint else None
    return None


def _why_not_recorded(name: str, recorded: Mapping[str, object]) -> str | None:
    levels = {other.partition(":")[0] for other in recorded}
    # DS01's recording rules are shipped as one set; of other levels there may be more elsewhere.
    whole = name.startswith("ds01:") and "ds01" in levels
    hint = did_you_mean(name, recorded, cutoff=0.6 if whole else _NEARLY)
    return f"no rule records {name}{hint}" if whole or hint else None


def _ds01() -> dict[str, Metric]:
    found = [value for value in vars(families).values() if isinstance(value, families.Family)]
    return {
        family.name: Metric(family.name, family.labels, is_gauge=not family.counter)
        for family in found
    }


def _own() -> dict[str, Metric]:
    registry = CollectorRegistry()
    ReceiverMetrics(registry)
    WorkerMetrics(registry)
    labels: dict[str, set[str]] = {}
    gauges = set()
    for family in registry.collect():
        if family.type == "gauge":
            gauges.add(family.name)
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
        for part in _PARTS if not family.samples else ():
            labels.setdefault(family.name + part, set())
    return {
        name: Metric(name, tuple(found) or None, is_gauge=name in gauges)
        for name, found in labels.items()
    }


@functools.cache
def _lines() -> tuple[str, ...]:
    text = resources.files("remediator.rules").joinpath("exporters.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith(("#", "["))]
    return tuple(word for line in lines for word in line.split())


def _listed() -> dict[str, Metric]:
    names = [word for word in _lines() if not word.endswith("*")]
    return {name + part: Metric(name + part) for name in names for part in ("", *_histogram(name))}


def _histogram(name: str) -> tuple[str, ...]:
    is_histogram = name.startswith(("prometheus_", "alertmanager_")) and name.endswith("_seconds")
    return ("_bucket", "_sum", "_count") if is_histogram else ()


@functools.cache
def _families() -> tuple[str, ...]:
    return tuple(word.removesuffix("*") for word in _lines() if word.endswith("*"))
