"""The collectors of one scrape, kept from hurting each other."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as RegistryCollector

from remediator import __version__
from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.view import View

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collector:
    """A named part of the metrics; what it yields before a SourceError is still served."""

    name: str
    collect: Callable[[View], Iterator[Metric]]


class Scrape(RegistryCollector):
    """What prometheus_client asks for the metrics of one request.

    A collector that fails loses only what it did not come to, and shows in
    ``ds01_collector_success``. Each failure is logged when it appears and when it changes.
    """

    def __init__(self, collectors: Sequence[Collector], view: Callable[[], View]) -> None:
        self._collectors = tuple(collectors)
        self._view = view
        self._failing: dict[str, str] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield every family of every collector."""
        view = self._view()
        yield families.EXPORTER_INFO.of([((__version__, "slim"), 1.0)])
        results = []
        for collector in self._collectors:
            started = time.perf_counter()
            metrics, problem = _attempt(collector, view)
            results.append((collector.name, problem is None, time.perf_counter() - started))
            self._note(collector.name, problem)
            yield from metrics
        yield families.COLLECTOR_SUCCESS.of(((name,), float(good)) for name, good, _ in results)
        yield families.COLLECTOR_DURATION.of(((name,), took) for name, _, took in results)

    def _note(self, name: str, problem: str | None) -> None:
        if problem == self._failing.get(name):
            return
        if problem is None:
            del self._failing[name]
            log.info("collector %s works again", name)
        else:
            self._failing[name] = problem
            log.warning("collector %s cannot tell everything: %s", name, problem)


def _attempt(collector: Collector, view: View) -> tuple[list[Metric], str | None]:
    metrics: list[Metric] = []
    try:
        # Not a comprehension: what came before a failure is kept.
        for metric in collector.collect(view):
            metrics.append(metric)  # noqa: PERF402
    except SourceError as error:
        return metrics, str(error)
    except Exception as error:
        # A bug in one family must not blind the others.
        log.debug("collector %s failed", collector.name, exc_info=error)
        return metrics, f"{type(error).__name__}: {error}"
    return metrics, None
