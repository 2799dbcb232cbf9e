"""Metrics about GPU containers that were made without DS01."""

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.view import Resident, View

_ALL = "ALL"


def is_managed(labels: Mapping[str, str]) -> bool:
    """Tell whether DS01 made the container: it says so, or its ways of making them show."""
    said = labels.get("ds01.managed")
    if said is not None:
        return said.strip().lower() == "true"
    return bool(labels.get("ds01.interface")) or any(name.startswith("aime.mlc") for name in labels)


def collect_unmanaged(view: View) -> Iterator[Metric]:
    """Yield the GPU containers outside DS01, and how many; infrastructure is none of them."""
    if view.inventory.confirmed_at is None:
        raise SourceError("Docker has not told of any containers yet")
    found = [
        resident
        for resident in view.gpu_residents
        if not resident.is_exempt and not is_managed(resident.facts.labels)
    ]
    yield families.UNMANAGED.of((_labels(resident), 1.0) for resident in found)
    running = sum(resident.facts.is_running for resident in found)
    everything = sum(resident.facts.claims.all for resident in found)
    yield families.UNMANAGED_COUNT.of([((), float(len(found)))])
    yield families.UNMANAGED_RUNNING.of([((), float(running))])
    yield families.UNMANAGED_ALL.of([((), float(everything))])


def _labels(resident: Resident) -> tuple[str, ...]:
    access, count = _access(resident)
    running = "true" if resident.facts.is_running else "false"
    return resident.name, resident.owner.user, count, access, running


def _access(resident: Resident) -> tuple[str, str]:
    """Return how access was given and to how many GPUs."""
    claims = resident.facts.claims
    if claims.all:
        return "all", _ALL
    if claims.ids or not claims.count:
        # Without a claim it was seen on these: a privileged container gets every device.
        return "specific", str(len(resident.slots) or len(claims.ids))
    return "count", str(claims.count)
