"""Metrics about containers: who, since when, on which slots, under which limits."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric

from remediator.core.containers import ContainerFacts
from remediator.core.lifecycle import keep_alive_until
from remediator.core.limits import Limits
from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.families import Row
from remediator.exporter.view import Resident, View


def collect_inventory(view: View) -> Iterator[Metric]:
    """Yield how fresh the list is; fails while Docker does not answer."""
    confirmed_at = view.inventory.confirmed_at
    if confirmed_at is not None:
        age = max((view.now - confirmed_at).total_seconds(), 0.0)
        yield families.INVENTORY_AGE.of([((), age)])
    yield from _limits_of_the_host(view)
    if view.inventory.problem is not None:
        raise SourceError(view.inventory.problem)


def _limits_of_the_host(view: View) -> Iterator[Metric]:
    book = view.book
    yield families.LIMITS_RELOAD.of([((), float(view.limits_good))])
    yield families.LIMITS_VOID_EXEMPTIONS.of([((), float(len(book.void_exemptions)))])
    yield families.HIGH_DEMAND_THRESHOLD.of([((), book.high_demand_threshold)])
    yield families.HIGH_DEMAND_REDUCTION.of([((), book.high_demand_idle_reduction)])


def collect_containers(view: View) -> Iterator[Metric]:
    """Yield who is there; fails until Docker first told."""
    if view.inventory.confirmed_at is None:
        raise SourceError("Docker has not told of any containers yet")
    residents = view.gpu_residents
    yield families.CONTAINERS_TOTAL.of(_totals(view))
    yield families.CONTAINER_INFO.of((_info(resident), 1.0) for resident in residents)
    yield families.CONTAINER_RUNNING.of(
        ((resident.facts.id,), float(resident.facts.is_running)) for resident in residents
    )
    for family, moment in _MOMENTS:
        yield family.of(
            ((resident.facts.id,), at.timestamp())
            for resident in residents
            if (at := moment(resident.facts)) is not None
        )


_MOMENTS: tuple[tuple[families.Family, Callable[[ContainerFacts], datetime | None]], ...] = (
    (families.CONTAINER_CREATED, lambda facts: facts.created_at),
    (families.CONTAINER_STARTED, lambda facts: facts.started_at),
    (families.CONTAINER_FINISHED, lambda facts: facts.finished_at),
)


def collect_slots(view: View) -> Iterator[Metric]:
    """Yield who has which slot; fails while the driver does not answer."""
    view.sample()
    residents = view.gpu_residents
    yield families.CONTAINER_GPU.of(
        ((resident.facts.id, slot.slot, str(slot.gpu), slot.parent_uuid, slot.gpu_i_id), 1.0)
        for resident in residents
        for slot in resident.slots
    )
    holders = [
        (resident, slot) for resident in residents if resident.holds_gpus for slot in resident.slots
    ]
    yield families.GPU_ALLOCATED.of(
        (
            (slot.slot, holder.name, holder.owner.user, holder.interface, slot.profile),
            1.0,
        )
        for holder, slot in holders
    )
    # A slot that two containers of one user share is still one slot.
    shares = {
        (slot.slot, holder.owner.user, holder.interface, slot.profile): slot.fraction
        for holder, slot in holders
    }
    yield families.GPU_EQUIVALENTS.of(shares.items())


def collect_limits(view: View) -> Iterator[Metric]:
    """Yield what applies to each container; what it is exempt from is absent."""
    residents = [resident for resident in view.gpu_residents if not resident.is_exempt]
    for family, limit in _LIMITS:
        yield family.of(
            ((resident.facts.id,), value.total_seconds())
            for resident in residents
            if (value := limit(resident.limits)) is not None
        )
    for family, threshold in _THRESHOLDS:
        yield family.of(
            ((resident.facts.id,), threshold(resident.limits)) for resident in residents
        )
    yield families.CONTAINER_KEEP_ALIVE.of(
        ((resident.facts.id,), until.timestamp())
        for resident in residents
        if (until := _kept_until(resident, view)) is not None
    )


def _kept_until(resident: Resident, view: View) -> datetime | None:
    """Return until when its owner keeps it: by the file, by a command, or the longer of both."""
    facts, moments = resident.facts, []
    if resident.keep_alive is not None:
        moments.append(keep_alive_until(*resident.keep_alive, resident.limits))
    if facts.started_at is not None and (facts.id, facts.started_at) in view.kept:
        moments.append(view.kept[facts.id, facts.started_at])
    return max(moments, default=None)


_LIMITS: tuple[tuple[families.Family, Callable[[Limits], timedelta | None]], ...] = (
    (families.CONTAINER_IDLE_TIMEOUT, lambda limits: limits.idle_timeout),
    (families.CONTAINER_GRACE, lambda limits: limits.start_grace),
    (families.CONTAINER_MAX_RUNTIME, lambda limits: limits.max_runtime),
    (families.CONTAINER_HOLD, lambda limits: limits.hold_after_stop),
    (families.CONTAINER_CREATED_TIMEOUT, lambda limits: limits.created_timeout),
)
_THRESHOLDS: tuple[tuple[families.Family, Callable[[Limits], float]], ...] = (
    (families.CONTAINER_GPU_THRESHOLD, lambda limits: limits.gpu_idle_percent),
    (families.CONTAINER_CPU_THRESHOLD, lambda limits: limits.cpu_idle_percent),
    (families.CONTAINER_NETWORK_THRESHOLD, lambda limits: limits.network_idle_bytes),
)


def _totals(view: View) -> Iterator[Row]:
    counts = Counter(
        ("running" if resident.facts.is_running else "stopped", resident.interface)
        for resident in view.residents
        if not resident.is_exempt
    )
    for interface in sorted({interface for _, interface in counts}):
        for status in ("running", "stopped"):
            yield (status, interface), float(counts[status, interface])


def _info(resident: Resident) -> tuple[str, ...]:
    return (
        resident.facts.id,
        resident.name,
        resident.owner.user,
        resident.owner.source,
        resident.interface,
        resident.container_type,
        resident.limits.group,
        "true" if resident.is_exempt else "false",
    )
