"""The collectors of one scrape, kept from hurting each other."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as RegistryCollector

from remediator import __version__
from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.rendering import FilledFamily
from remediator.exporter.view import View

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collector:
    """A named part of the metrics; what it yields before a SourceError is still served.

    *basis* returns all that the metrics depend on, where that is cheap to compare: while it stays
    equal, and nothing fails, the metrics of the last scrape are served again. What takes long to
    ask for is asked *ahead* of the scrapes, again and again, and may be a moment old.
    """

    name: str
    collect: Callable[[View], Iterator[Metric]]
    basis: Callable[[View], object] | None = None
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class _Result:
    """What a collector came to; ``problem`` is None if that is everything."""

    basis: object
    metrics: tuple[FilledFamily, ...]
    problem: str | None
    at: float
    took: float


class Scrape(RegistryCollector):
    """The metrics of one request, for prometheus_client and for `render`.

    A collector that fails loses only what it did not come to, and shows in
    ``ds01_collector_success``. Each failure is logged when it appears and when it changes.
    Collectors that work ahead do so every *ahead_every*, between `start` and `stop`.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        view: Callable[[], View],
        *,
        ahead_every: timedelta = timedelta(seconds=2),
    ) -> None:
        self._collectors = tuple(collectors)
        self._view = view
        self._ahead_every = ahead_every.total_seconds()
        self._failing: dict[str, str] = {}
        self._last: dict[str, _Result] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_ahead, name="ahead", daemon=True)

    def start(self) -> None:
        """Begin to collect ahead of the scrapes."""
        self._thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """End; a thread that hangs in a collector is left behind."""
        self._stopping.set()
        self._thread.join(within.total_seconds())

    def collect(self) -> Iterator[FilledFamily]:
        """Yield every family of every collector."""
        view = self._view()
        yield families.EXPORTER_INFO.of([((__version__, "slim"), 1.0)])
        results = {c.name: self._result(c, view) for c in self._collectors}
        for name, result in results.items():
            self._note(name, result.problem)
            yield from result.metrics
        yield families.COLLECTOR_SUCCESS.of(
            ((name,), float(result.problem is None)) for name, result in results.items()
        )
        yield families.COLLECTOR_DURATION.of(
            ((name,), result.took) for name, result in results.items()
        )

    def _run_ahead(self) -> None:
        costly = [collector for collector in self._collectors if collector.ahead]
        while costly and not self._stopping.wait(self._ahead_every):
            try:
                view = self._view()
            except Exception:
                # The scrapes ask themselves then; this thread must go on for when it passes.
                log.exception("the host could not be looked at ahead of a scrape")
                continue
            for collector in costly:
                self._last[collector.name] = _attempt(collector, view)

    def _result(self, collector: Collector, view: View) -> _Result:
        last = self._last.get(collector.name)
        if last is not None and self._is_good(last, collector, view):
            return last
        result = _attempt(collector, view)
        if collector.ahead or collector.basis is not None:
            self._last[collector.name] = result
        return result

    def _is_good(self, last: _Result, collector: Collector, view: View) -> bool:
        """Tell whether the *last* result of a collector can be served once more."""
        if collector.ahead:
            # An older one means that the thread hangs, or was never started.
            return time.monotonic() - last.at < 2 * self._ahead_every
        return last.problem is None and last.basis == _basis(collector, view)

    def _note(self, name: str, problem: str | None) -> None:
        # Scrapes may run side by side, so what is forgotten here may be forgotten already.
        if problem == self._failing.get(name):
            return
        if problem is None:
            self._failing.pop(name, None)
            log.info("collector %s works again", name)
        else:
            self._failing[name] = problem
            log.warning("collector %s cannot tell everything: %s", name, problem)


def _attempt(collector: Collector, view: View) -> _Result:
    started = time.monotonic()
    metrics: list[FilledFamily] = []
    problem = None
    try:
        for metric in collector.collect(view):
            metrics.append(_filled(metric))  # noqa: PERF401 - what came before a failure is kept
    except SourceError as error:
        problem = str(error)
    except Exception as error:
        # A bug in one family must not blind the others.
        log.debug("collector %s failed", collector.name, exc_info=error)
        problem = f"{type(error).__name__}: {error}"
    took = time.monotonic() - started
    return _Result(_basis(collector, view), tuple(metrics), problem, started, took)


def _basis(collector: Collector, view: View) -> object:
    return None if collector.basis is None else collector.basis(view)


def _filled(metric: Metric) -> FilledFamily:
    if not isinstance(metric, FilledFamily):
        raise TypeError(f"{metric.name} was not made by Family.of")
    return metric
