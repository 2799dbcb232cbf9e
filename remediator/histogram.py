"""A histogram that goes on where the journal left it.

Those of prometheus_client begin at nothing with each process.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

_INFINITE = "+Inf"


class KeptHistogram(Collector):
    """Counts by one label, in classes whose upper bounds are written as Prometheus does."""

    def __init__(
        self,
        name: str,
        about: str,
        label: tuple[str, Sequence[str]],
        bounds: Iterable[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._about = name, about
        self._label, values = label
        self._lock = threading.Lock()
        self._bounds = (*(f"{bound}" for bound in bounds), _INFINITE)
        self._counts = {value: dict.fromkeys(self._bounds, 0.0) for value in values}
        self._sums = dict.fromkeys(values, 0.0)
        registry.register(self)

    def count(self, value: str, bound: str, times: float = 1.0) -> None:
        """Add to one class; what no class or label of ours is, is left out."""
        with self._lock:
            if bound in self._counts.get(value, {}):
                self._counts[value][bound] += times

    def add(self, value: str, amount: float) -> None:
        """Add to the sum of all that was observed."""
        with self._lock:
            if value in self._sums:
                self._sums[value] += amount

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield all of it for a scrape."""
        family = HistogramMetricFamily(self._name, self._about, labels=[self._label])
        with self._lock:
            for value, counts in self._counts.items():
                total, buckets = 0.0, []
                for bound, times in counts.items():
                    total += times
                    buckets.append((bound, total))
                family.add_metric([value], buckets, self._sums[value])
        yield family
