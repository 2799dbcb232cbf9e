"""Processes on GPUs that belong to nobody, told only when there is no doubt left.

Doubt is: a Docker that does not answer, or whose list is older than the process; a container that
this Docker never knew; a process that was not a suspect all the time for a while. A doubt about
one process is none about the others.
"""

import os
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from prometheus_client.metrics_core import Metric

from remediator.core.orphans import Suspect, why_no_orphan
from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.gpu_watch import SlotProcess
from remediator.exporter.view import View

# Docker confirms its list every 15 s; an older one may lack a container that runs.
OLDEST_LIST = timedelta(seconds=60)
# How long a process must look like an orphan. Docker's list must have been confirmed even after
# that for one in a container's cgroup: the container may have been started again.
SETTLING = timedelta(seconds=10)

_Key = tuple[int, int]


class Namespaces(Protocol):
    """What is asked about a process besides what a sample has."""

    def is_in_hosts_namespaces(self, pid: int) -> bool | None:
        """Tell whether the host's processes and users are around it; None if it ended."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """A process on a GPU: whether Docker knew its container, and since when it is a suspect."""

    was_dockers: bool = False
    suspected_at: datetime | None = None


def check_docker(view: View) -> None:
    """Raise SourceError unless Docker's list is known and as good as now."""
    confirmed_at, problem = view.inventory.confirmed_at, view.inventory.problem
    if problem is not None or confirmed_at is None:
        raise SourceError(f"the containers are not known: {problem}")
    age = view.now - confirmed_at
    if age > OLDEST_LIST:
        raise SourceError(f"the list of containers is {age.total_seconds():.0f} s old")


def orphan_collector(
    namespaces: Namespaces, permitted: Collection[str], programs: Collection[str] = ()
) -> Callable[[View], Iterator[Metric]]:
    """Return the collector of orphans.

    *permitted* users may use GPUs outside containers, and so may *programs*, by name.
    """
    return _Orphans(namespaces, frozenset(permitted), frozenset(programs)).collect


class _Orphans:
    def __init__(
        self, namespaces: Namespaces, permitted: frozenset[str], programs: frozenset[str]
    ) -> None:
        self._namespaces = namespaces
        self._permitted = permitted
        self._programs = programs
        self._lock = threading.Lock()
        self._watched: dict[_Key, _Watched] = {}

    def collect(self, view: View) -> Iterator[Metric]:
        """Yield the orphans; SourceError while Docker or the driver cannot be asked."""
        # Before any state is touched: what is not known neither adds to a suspicion nor ends it.
        check_docker(view)
        processes = view.sample().processes
        orphans = self._look(view, {(p.pid, p.start_ticks): p for p in processes})
        rows = {
            _labels(process): 1.0
            for process in processes
            if (process.pid, process.start_ticks) in orphans
        }
        yield families.GPU_ORPHAN.of(rows.items())

    def _look(self, view: View, processes: dict[_Key, SlotProcess]) -> set[_Key]:
        running = {r.facts.id: r.facts.is_running for r in view.residents}
        with self._lock:
            self._watched = {
                key: self._watch(view.now, process, running) for key, process in processes.items()
            }
            return {
                key
                for key, watched in self._watched.items()
                if _is_settled(watched, processes[key], view)
            }

    def _watch(self, now: datetime, process: SlotProcess, running: dict[str, bool]) -> _Watched:
        before = self._watched.get((process.pid, process.start_ticks), _Watched())
        was_dockers = before.was_dockers or process.container_id in running
        suspect = Suspect(
            process.uid,
            process.user,
            process.comm,
            process.container_id,
            was_dockers,
            self._is_the_hosts(process),
        )
        speaks_for_it = why_no_orphan(suspect, running, self._permitted, self._programs)
        innocent = process.pid == os.getpid() or speaks_for_it is not None
        since = None if innocent else before.suspected_at or now
        return replace(before, was_dockers=was_dockers, suspected_at=since)

    def _is_the_hosts(self, process: SlotProcess) -> bool:
        """Tell whether a process without a container's cgroup is not in some other container."""
        if process.container_id is not None:
            return True
        try:
            return self._namespaces.is_in_hosts_namespaces(process.pid) is True
        except SourceError:
            return False


def _is_settled(watched: _Watched, process: SlotProcess, view: View) -> bool:
    since, confirmed_at = watched.suspected_at, view.inventory.confirmed_at
    if since is None or confirmed_at is None:
        return False
    known_at = view.now if process.container_id is None else confirmed_at
    return known_at >= since + SETTLING


def _labels(process: SlotProcess) -> tuple[str, ...]:
    return (
        process.slot.parent_uuid,
        process.slot.gpu_i_id,
        str(process.pid),
        str(process.start_ticks),
        process.user,
        process.comm,
    )
