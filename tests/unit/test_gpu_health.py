"""Which GPUs are lost, which want a reset, and whose memory is used by nobody."""

from dataclasses import replace
from typing import Any

import pytest

from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import Gpu, GpuHealth, RowRemapping, SlotReading
from remediator.errors import SourceError
from remediator.exporter.gpu_health import collect_gpu_health, leak_collector
from remediator.exporter.inventory import Tracked
from tests.unit.gpu_views import (
    FIRST,
    GIB,
    GPUS,
    WHOLE,
    a_container,
    a_reading,
    a_sample,
    a_view,
    by_uuid,
    rows,
)

LEAK = "ds01_gpu_memory_unaccounted_bytes"


def test_every_gpu_is_named_with_its_model() -> None:
    found = rows(list(collect_gpu_health(a_view())), "ds01_gpu_info")

    assert found == [
        ({"gpu": "0", "UUID": "GPU-a", "modelName": "NVIDIA A100"}, 1),
        ({"gpu": "1", "UUID": "GPU-b", "modelName": "NVIDIA A100"}, 1),
    ]


def test_a_lost_gpu_is_told_by_its_uuid_and_has_no_advice() -> None:
    lost = replace(GPUS[0], lost="GPU is lost")
    sample = a_sample(gpus=(lost, GPUS[1]), health={"GPU-b": GpuHealth(recovery_action=1)})

    served = list(collect_gpu_health(a_view(gpus=sample)))

    assert by_uuid(served, "ds01_gpu_lost") == {"GPU-a": 1, "GPU-b": 0}
    assert by_uuid(served, "ds01_gpu_recovery_action") == {"GPU-b": 1}


def test_gpus_that_were_lost_before_they_told_their_names_are_told_apart() -> None:
    nameless = [
        Gpu(index, "", "", "", mig_enabled=False, slots=(), lost="GPU is lost") for index in (2, 3)
    ]
    served = list(collect_gpu_health(a_view(gpus=a_sample(gpus=(*GPUS, *nameless)))))

    lost = by_uuid(served, "ds01_gpu_lost")
    assert lost == {"GPU-a": 0, "GPU-b": 0, "unknown-2": 1, "unknown-3": 1}


def test_what_a_gpu_cannot_tell_is_absent_and_not_zero() -> None:
    ill = GpuHealth(recovery_action=4, rows=RowRemapping(pending=True, failed=False))
    sample = a_sample(health={"GPU-a": ill, "GPU-b": GpuHealth()})

    served = list(collect_gpu_health(a_view(gpus=sample)))

    assert by_uuid(served, "ds01_gpu_recovery_action") == {"GPU-a": 4}
    assert by_uuid(served, "ds01_gpu_row_remap_pending") == {"GPU-a": 1}
    assert by_uuid(served, "ds01_gpu_row_remap_failed") == {"GPU-a": 0}


class Processes:
    """The main process of each container is where Docker says, unless none is to be seen."""

    def __init__(self, container_id: str | None = "a" * 64) -> None:
        self._container_id = container_id

    def container_id_in_cgroup(self, pid: int) -> str | None:
        return self._container_id


def leaks(
    *readings: SlotReading, containers: tuple[Tracked, ...] = (), **changes: Any
) -> dict[str, float]:
    processes = changes.pop("processes", Processes())
    health = changes.pop("health", {"GPU-a": GpuHealth(), "GPU-b": GpuHealth()})
    sample = a_sample(readings=readings, health=health)
    view = a_view(*containers, gpus=sample, **changes)
    return by_uuid(list(leak_collector(processes)(view)), LEAK)


def test_memory_that_nobody_has_is_a_leak() -> None:
    assert leaks(a_reading(memory_used_bytes=20 * GIB)) == {"GPU-a": 20 * GIB}


def test_what_the_driver_reserves_is_none() -> None:
    assert leaks(a_reading(memory_used_bytes=0, memory_reserved_bytes=GIB)) == {"GPU-a": 0}


def test_what_processes_have_is_none_and_never_negative() -> None:
    assert leaks(a_reading(WHOLE, 8 * GIB, 2 * GIB, memory_used_bytes=11 * GIB)) == {"GPU-a": GIB}
    assert leaks(a_reading(WHOLE, 8 * GIB, memory_used_bytes=7 * GIB)) == {"GPU-a": 0}


@pytest.mark.parametrize(
    ("container", "leak"),
    [
        pytest.param(a_container(gpus=("0",)), 0, id="has the GPU"),
        pytest.param(a_container(gpus=("0",), state="paused"), 0, id="paused"),
        pytest.param(a_container(claims=GpuClaims(all=True)), 0, id="has all GPUs"),
        pytest.param(a_container(claims=GpuClaims(count=1)), 0, id="has one, nobody knows which"),
        pytest.param(
            a_container(gpus=("0",), labels={"ds01.protected": "true"}), 0, id="is protected"
        ),
        pytest.param(a_container(gpus=("MIG-x",)), 9 * GIB, id="has another GPU"),
        pytest.param(a_container(gpus=("0",), state="exited", pid=0), 9 * GIB, id="stopped"),
        pytest.param(
            a_container(claims=GpuClaims(all=True), labels={"ds01.monitoring": "true"}),
            9 * GIB,
            id="is the GPU exporter, which has every GPU for ever",
        ),
        pytest.param(a_container(claims=GpuClaims()), 9 * GIB, id="has no GPU"),
    ],
)
def test_what_a_container_could_have_is_no_leak(container: Tracked, leak: int) -> None:
    found = leaks(a_reading(memory_used_bytes=9 * GIB), containers=(container,))

    assert found == {"GPU-a": leak}


@pytest.mark.parametrize(
    ("reading", "changes"),
    [
        pytest.param(a_reading(WHOLE, GIB, None, memory_used_bytes=9 * GIB), {}, id="unknown size"),
        pytest.param(
            a_reading(memory_used_bytes=9 * GIB, memory_reserved_bytes=None), {}, id="old driver"
        ),
        pytest.param(a_reading(memory_used_bytes=None), {}, id="unknown use"),
        pytest.param(a_reading(FIRST, memory_used_bytes=9 * GIB), {}, id="MIG"),
        pytest.param(
            a_reading(memory_used_bytes=9 * GIB),
            {"health": {"GPU-a": GpuHealth(memory_is_the_hosts=True)}},
            id="the kernel keeps pages",
        ),
        pytest.param(a_reading(memory_used_bytes=9 * GIB), {"health": {}}, id="lost meanwhile"),
    ],
)
def test_where_it_cannot_be_told_there_is_no_value(
    reading: SlotReading, changes: dict[str, Any]
) -> None:
    assert leaks(reading, **changes) == {}


def test_without_docker_no_leak_is_told() -> None:
    with pytest.raises(SourceError, match="timed out"):
        leaks(a_reading(memory_used_bytes=9 * GIB), problem="timed out")


def test_an_exporter_that_sees_no_containers_processes_tells_no_leak() -> None:
    """In a namespace of its own it is told of no process, and all memory would look leaked."""
    blind = Processes(None)
    elsewhere = a_container(gpus=("MIG-x",))

    with pytest.raises(SourceError, match="namespace"):
        leaks(a_reading(memory_used_bytes=9 * GIB), containers=(elsewhere,), processes=blind)
