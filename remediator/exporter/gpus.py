"""Metrics about GPUs: which there are, who is on them, how much is allocated."""

import math
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from remediator.exporter import families
from remediator.exporter.allocation import allocation_of
from remediator.exporter.gpu_watch import GpuSample, SlotProcess
from remediator.exporter.view import View


def collect_gpus(view: View) -> Iterator[Metric]:
    """Yield the GPUs and MIG instances, and how much of them is taken."""
    sample = view.sample()
    yield families.GPU_SLOT_INFO.of(
        ((str(gpu.index), str(gpu.index), gpu.uuid, "true" if gpu.mig_enabled else "false"), 1.0)
        for gpu in sample.gpus
    )
    instances = [slot for slot in sample.slots if slot.gpu_instance is not None]
    yield families.MIG_SLOT_INFO.of(
        ((str(slot.gpu), slot.gpu_i_id, slot.slot, slot.uuid), 1.0) for slot in instances
    )
    missing = _named_in_vain(view, sample)
    yield families.MIG_MAPPING_STATUS.of([((), 0.0 if missing else 1.0)])
    yield families.MIG_MAPPED.of([((), float(len(instances)))])
    yield families.MIG_UNMAPPED.of([((), float(len(missing)))])
    demand = _demand(view, sample)
    yield families.GPU_DEMAND.of([] if demand is None else [((), demand)])


def collect_processes(view: View) -> Iterator[Metric]:
    """Yield every process that the driver lists, with whom it belongs to."""
    sample = view.sample()
    owners = {resident.facts.id: resident.owner.user for resident in view.residents}
    # Parts of one MIG instance have the same labels: what lists them twice is shown once.
    rows = {_labels(process, owners): _memory(process) for process in sample.processes}
    yield families.GPU_PROCESS_MEMORY.of(rows.items())


def _named_in_vain(view: View, sample: GpuSample) -> set[str]:
    """Return the MIG devices that running containers name and that do not exist any more."""
    existing = {slot.uuid for slot in sample.slots}
    return {
        claimed
        for resident in view.gpu_residents
        if resident.holds_gpus
        for claimed in resident.facts.claims.ids
        if claimed.startswith("MIG-") and "/" not in claimed and claimed not in existing
    }


def _demand(view: View, sample: GpuSample) -> float | None:
    """Return the allocated share of what can be allocated; None on a host without GPUs.

    None too until Docker first answered: that nobody has a GPU then is not known.
    Containers that were given a number of GPUs, nobody knows which, count by that number unless
    their processes show where they are.
    """
    total = sum(slot.fraction for slot in sample.slots)
    if total <= 0 or view.inventory.confirmed_at is None:
        return None
    return min(allocation_of(view.gpu_residents).equivalents / total, 1.0)


def _labels(process: SlotProcess, owners: dict[str, str]) -> tuple[str, ...]:
    container_id = process.container_id or ""
    return (
        process.slot.parent_uuid,
        process.slot.gpu_i_id,
        str(process.pid),
        str(process.start_ticks),
        container_id,
        owners.get(container_id, process.user),
        process.comm,
    )


def _memory(process: SlotProcess) -> float:
    return math.nan if process.memory_bytes is None else float(process.memory_bytes)
