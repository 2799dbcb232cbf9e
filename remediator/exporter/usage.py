"""Metrics about what containers use, read from the kernel and never from ``docker stats``."""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client.metrics_core import Metric

from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.families import Row
from remediator.exporter.view import View


class UsageSource(Protocol):
    """What is asked of the kernel; None means that the container ended meanwhile."""

    def cpu_seconds(self, pid: int, container_id: str | None = None) -> float | None:
        """Return the CPU time of a container."""

    def memory_bytes(self, pid: int, container_id: str | None = None) -> float | None:
        """Return the memory of a container."""

    def memory_limit_bytes(self, pid: int, container_id: str | None = None) -> float | None:
        """Return the most memory of a container; None too if it has no limit."""

    def process_count(self, pid: int, container_id: str | None = None) -> int | None:
        """Return how many processes are in a container."""

    def network_bytes(self, pid: int) -> tuple[int, int] | None:
        """Return bytes received and sent."""


def usage_collector(source: UsageSource) -> Callable[[View], Iterator[Metric]]:
    """Return the collector that asks *source*."""

    def collect_usage(view: View) -> Iterator[Metric]:
        """Yield what each running container uses; one that can't be read costs only itself."""
        rows: dict[families.Family, list[Row]] = {family: [] for family in _FAMILIES}
        failures: list[SourceError] = []
        for resident in view.gpu_residents:
            if resident.facts.is_running and resident.facts.pid > 0:
                try:
                    _read(source, resident.facts.id, resident.facts.pid, rows)
                except SourceError as error:
                    failures.append(error)
        for family, found in rows.items():
            yield family.of(found)
        if failures:
            raise failures[0]

    return collect_usage


_FAMILIES = (
    families.CONTAINER_CPU,
    families.CONTAINER_MEMORY,
    families.CONTAINER_MEMORY_LIMIT,
    families.CONTAINER_PROCESSES,
    families.CONTAINER_RECEIVED,
    families.CONTAINER_SENT,
)


def _read(
    source: UsageSource, container_id: str, pid: int, rows: dict[families.Family, list[Row]]
) -> None:
    labels = (container_id,)
    cpu = source.cpu_seconds(pid, container_id)
    if cpu is None:
        # The main process is gone, and its pid may be somebody else's by now.
        return
    rows[families.CONTAINER_CPU].append((labels, cpu))
    for family, number in (
        (families.CONTAINER_MEMORY, source.memory_bytes(pid, container_id)),
        (families.CONTAINER_MEMORY_LIMIT, source.memory_limit_bytes(pid, container_id)),
        (families.CONTAINER_PROCESSES, source.process_count(pid, container_id)),
    ):
        if number is not None:
            rows[family].append((labels, number))
    network = source.network_bytes(pid)
    if network is not None:
        rows[families.CONTAINER_RECEIVED].append((labels, network[0]))
        rows[families.CONTAINER_SENT].append((labels, network[1]))
