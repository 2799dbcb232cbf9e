"""Metrics about how the GPUs are: lost, in need of a reset, short of spare rows, leaking memory."""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client.metrics_core import Metric

from remediator.core.gpus import Gpu, RowRemapping, SlotReading
from remediator.errors import SourceError
from remediator.exporter import families
from remediator.exporter.gpu_watch import GpuSample
from remediator.exporter.orphans import check_docker
from remediator.exporter.view import Resident, View


class ContainerProcesses(Protocol):
    """What is asked to see whether containers' processes are seen at all."""

    def container_id_in_cgroup(self, pid: int) -> str | None:
        """Return the id of the container a process is in."""


def collect_gpu_health(view: View) -> Iterator[Metric]:
    """Yield which GPUs there are, and what the driver thinks of each."""
    sample = view.sample()
    named = [(gpu, name_of(gpu)) for gpu in sample.gpus]
    yield families.GPU_INFO.of(((str(gpu.index), uuid, gpu.model), 1.0) for gpu, uuid in named)
    yield families.GPU_LOST.of(((uuid,), float(gpu.lost is not None)) for gpu, uuid in named)
    yield families.GPU_RECOVERY_ACTION.of(
        ((uuid,), float(health.recovery_action))
        for uuid, health in sample.health.items()
        if health.recovery_action is not None
    )
    rows = [(uuid, h.rows) for uuid, h in sample.health.items() if h.rows is not None]
    yield _of_rows(families.GPU_REMAP_PENDING, rows, lambda state: state.pending)
    yield _of_rows(families.GPU_REMAP_FAILED, rows, lambda state: state.failed)


def name_of(gpu: Gpu) -> str:
    """Return the UUID of a GPU, or what stands for it if it was lost before it told it."""
    return gpu.uuid or f"unknown-{gpu.index}"


def leak_collector(processes: ContainerProcesses) -> Callable[[View], Iterator[Metric]]:
    """Return the collector of memory that is in use by nobody."""

    def collect_leaks(view: View) -> Iterator[Metric]:
        """Yield it for each GPU of which it can be told; SourceError if for none."""
        check_docker(view)
        sample = view.sample()
        if not _sees_containers(view, processes):
            raise SourceError("processes of containers are not seen: run in the host's namespace")
        found = ((r.slot.parent_uuid, _unaccounted(r, sample, view)) for r in sample.readings)
        yield families.GPU_UNACCOUNTED.of(
            ((uuid,), float(number)) for uuid, number in found if number is not None
        )

    return collect_leaks


def _of_rows(
    family: families.Family,
    rows: list[tuple[str, RowRemapping]],
    value: Callable[[RowRemapping], bool],
) -> Metric:
    return family.of(((uuid,), float(value(state))) for uuid, state in rows)


def _unaccounted(reading: SlotReading, sample: GpuSample, view: View) -> int | None:
    """Return bytes in use that no process and no container can explain; None if untold.

    NVML does not tell which memory of a MIG device is reserved, nor the size of what some
    processes have; and where the kernel manages the memory it keeps pages that nobody uses.
    """
    health = sample.health.get(reading.slot.parent_uuid)
    used, sizes = reading.memory_used_bytes, [p.memory_bytes for p in reading.processes]
    if reading.slot.gpu_instance is not None or health is None or health.memory_is_the_hosts:
        return None
    if used is None or reading.memory_reserved_bytes is None:
        return None
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    if any(_may_use(resident, reading) for resident in view.residents):
        return 0
    return max(used - sum(known), 0)


def _may_use(resident: Resident, reading: SlotReading) -> bool:
    """Tell whether a container may have memory there that no process shows.

    Monitoring has access to all GPUs all the time, and would hide every leak for ever.
    """
    if not resident.facts.is_running or resident.facts.labels.get("ds01.monitoring") == "true":
        return False
    claims = resident.facts.claims
    somewhere = not claims.is_known and len(resident.slots) < (claims.count or 0)
    return somewhere or reading.slot in resident.slots


def _sees_containers(view: View, processes: ContainerProcesses) -> bool:
    """Tell whether one of the running containers' main processes is where Docker says it is.

    In a namespace of its own the exporter, and the driver when asked by it, sees none of them.
    """
    running = [r.facts for r in view.residents if r.facts.is_running and r.facts.pid > 0]
    return not running or any(
        processes.container_id_in_cgroup(facts.pid) == facts.id for facts in running
    )
