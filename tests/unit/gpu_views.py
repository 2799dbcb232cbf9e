"""A host with one whole GPU and one cut into two, for tests of what the exporter says of GPUs."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.metrics_core import Metric

from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import Gpu, GpuHealth, GpuProcess, GpuSlot, SlotReading
from remediator.core.limits import LimitsBook
from remediator.core.ownership import Owner
from remediator.errors import SourceError
from remediator.exporter.gpu_watch import GpuSample, SlotProcess
from remediator.exporter.inventory import Snapshot, Tracked
from remediator.exporter.view import View, look

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
GIB = 1 << 30
WHOLE = GpuSlot(gpu=0, slot="0", uuid="GPU-a", parent_uuid="GPU-a")
FIRST = GpuSlot(1, "1.0", "MIG-x", "GPU-b", "1g.10gb", 1 / 7, 3, 0, mig_enabled=True)
SECOND_SLICE = GpuSlot(1, "1.1", "MIG-y", "GPU-b", "2g.20gb", 2 / 7, 5, 0, mig_enabled=True)
GPUS = (
    Gpu(0, "GPU-a", "NVIDIA A100", "00000000:01:00.0", mig_enabled=False, slots=(WHOLE,)),
    Gpu(
        1, "GPU-b", "NVIDIA A100", "00000000:02:00.0", mig_enabled=True, slots=(FIRST, SECOND_SLICE)
    ),
)

Collect = Callable[[View], Iterator[Metric]]


def a_container(
    key: str = "a", *, gpus: tuple[str, ...] = ("0",), claims: GpuClaims | None = None, **facts: Any
) -> Tracked:
    """Return a running container; *key* is repeated to make its id."""
    known: dict[str, Any] = {
        "id": key * 64,
        "name": f"name-{key}",
        "image": "image",
        "labels": {},
        "state": "running",
        "pid": 100,
        "created_at": NOON,
        "started_at": NOON,
        "finished_at": None,
        "exit_code": None,
        "claims": GpuClaims(ids=gpus) if claims is None else claims,
    }
    return Tracked(ContainerFacts(**{**known, **facts}), Owner("alice", "label"))


def a_process(container: str | None = None, slot: GpuSlot = WHOLE, **changes: Any) -> SlotProcess:
    """Return a process of alice's on a GPU, in the cgroup of *container* if given."""
    known: dict[str, Any] = {
        "pid": 4242,
        "start_ticks": 70,
        "user": "alice",
        "uid": 1001,
        "comm": "python",
        "memory_bytes": GIB,
    }
    return SlotProcess(slot, container_id=container, **{**known, **changes})


def a_reading(slot: GpuSlot = WHOLE, *processes: int | None, **changes: Any) -> SlotReading:
    """Return a reading of an 80 GiB GPU with a process for each size; half a GiB is reserved."""
    known: dict[str, Any] = {
        "utilization_percent": None if slot.gpu_instance is not None else 0.0,
        "memory_used_bytes": 0,
        "memory_total_bytes": 80 * GIB,
        "memory_reserved_bytes": GIB // 2,
        "processes": tuple(
            GpuProcess(pid, size, "compute") for pid, size in enumerate(processes, 4000)
        ),
    }
    return SlotReading(slot, **{**known, **changes})


def a_sample(
    *processes: SlotProcess,
    gpus: tuple[Gpu, ...] = GPUS,
    readings: Iterable[SlotReading] = (),
    **changes: Any,
) -> GpuSample:
    """Return a sample in which both GPUs are sound."""
    health = {gpu.uuid: GpuHealth(recovery_action=0) for gpu in gpus}
    return GpuSample(gpus, tuple(readings), processes, **{"health": health, **changes})


def a_view(
    *containers: Tracked,
    gpus: GpuSample | SourceError | None = None,
    after: timedelta = timedelta(),
    confirmed_ago: timedelta | None = timedelta(),
    problem: str | None = None,
) -> View:
    """Return the host *after* noon; Docker's list was confirmed *confirmed_ago*, None for never."""
    now = NOON + after
    confirmed_at = None if confirmed_ago is None else now - confirmed_ago
    return look(
        now,
        Snapshot(containers, confirmed_at, problem),
        a_sample() if gpus is None else gpus,
        book=LimitsBook(),
        limits_good=True,
    )


def rows(metrics: Iterable[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and values of one family."""
    [family] = [metric for metric in metrics if metric.name == name.removesuffix("_total")] or [
        metric for metric in metrics if metric.name == name
    ]
    return [(sample.labels, sample.value) for sample in family.samples]


def by_uuid(metrics: Iterable[Metric], name: str) -> dict[str, float]:
    """Return one family's values by GPU."""
    return {labels["UUID"]: value for labels, value in rows(metrics, name)}
