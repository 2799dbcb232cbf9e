"""The exporter's pure side: a view in, metrics out."""

import contextlib
import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric

from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import Gpu, GpuSlot
from remediator.core.limits import LimitsBook
from remediator.core.ownership import Owner
from remediator.errors import SourceError
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.containers import (
    collect_containers,
    collect_inventory,
    collect_limits,
    collect_slots,
)
from remediator.exporter.gpu_watch import GpuSample, GpuWatch, SlotProcess
from remediator.exporter.gpus import collect_gpus, collect_processes
from remediator.exporter.inventory import Snapshot, Tracked
from remediator.exporter.usage import usage_collector
from remediator.exporter.view import View, look
from tests.eventually import eventually

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIB = 1024 * 1024
WHOLE = GpuSlot(gpu=0, slot="0", uuid="GPU-a", parent_uuid="GPU-a")
FIRST = GpuSlot(1, "1.0", "MIG-x", "GPU-b", "1g.10gb", 1 / 7, 3, 0, mig_enabled=True)
SECOND = GpuSlot(1, "1.1", "MIG-y", "GPU-b", "2g.20gb", 2 / 7, 5, 0, mig_enabled=True)
GPUS = (
    Gpu(0, "GPU-a", "NVIDIA A100", "00000000:01:00.0", mig_enabled=False, slots=(WHOLE,)),
    Gpu(1, "GPU-b", "NVIDIA A100", "00000000:02:00.0", mig_enabled=True, slots=(FIRST, SECOND)),
)
GONE = SourceError("no driver")


def a_container(
    key: str = "a",
    *,
    user: str = "alice",
    claims: GpuClaims | None = None,
    keep_alive: tuple[datetime, datetime] | None = None,
    **changes: Any,
) -> Tracked:
    facts: dict[str, Any] = {
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
        "claims": GpuClaims(ids=("0",)) if claims is None else claims,
    }
    return Tracked(ContainerFacts(**{**facts, **changes}), Owner(user, "label"), keep_alive)


def a_process(slot: GpuSlot, container: str | None, **changes: Any) -> SlotProcess:
    known: dict[str, Any] = {
        "pid": 7,
        "start_ticks": 70,
        "user": "root",
        "comm": "python",
        "memory_bytes": MIB,
    }
    return SlotProcess(slot, container_id=container, **{**known, **changes})


def a_view(
    *containers: Tracked,
    gpus: GpuSample | SourceError | None = None,
    confirmed_at: datetime | None = NOON,
    problem: str | None = None,
) -> View:
    sample = GpuSample(GPUS) if gpus is None else gpus
    snapshot = Snapshot(containers, confirmed_at, problem)
    now = NOON + timedelta(minutes=1)
    return look(now, snapshot, sample, book=LimitsBook(), limits_good=True)


def rows(metrics: Iterator[Metric], name: str) -> list[tuple[dict[str, str], float]]:
    """Return labels and values of one family."""
    found = [metric for metric in metrics if metric.name == name.removesuffix("_total")]
    found = found or [metric for metric in metrics if metric.name == name]
    assert found, f"no family {name}"
    return [(sample.labels, sample.value) for sample in found[0].samples]


def values(metrics: Iterator[Metric], name: str, label: str) -> dict[str, float]:
    """Return one family's values by one label."""
    return {labels[label]: value for labels, value in rows(metrics, name)}


def test_a_container_is_described_by_its_own_labels() -> None:
    odd = 'a"b\\c\nd'
    view = a_view(a_container(name=odd, labels={"ds01.protected": "true"}))

    [(labels, value)] = rows(collect_containers(view), "ds01_container_info")

    assert value == 1
    assert labels == {
        "container_id": "a" * 64,
        "container": odd,
        "user": "alice",
        "user_source": "label",
        "interface": "docker",
        "container_type": "docker",
        "group": "default",
        "exempt": "true",
    }


def test_a_container_without_gpu_access_is_only_counted() -> None:
    view = a_view(
        a_container("a", claims=GpuClaims()),
        a_container("b", state="exited", pid=0),
        a_container("c", labels={"ds01.monitoring": "true"}),
    )

    info = values(collect_containers(view), "ds01_container_info", "container")
    totals = [metric for metric in collect_containers(view) if "containers_total" in metric.name]

    assert info == {"name-b": 1, "name-c": 1}
    assert {s.labels["status"]: s.value for s in totals[0].samples} == {"running": 1, "stopped": 1}


@pytest.mark.parametrize(
    ("state", "running"), [("running", 1), ("paused", 1), ("exited", 0), ("created", 0)]
)
def test_running_means_that_there_are_processes(state: str, running: float) -> None:
    metrics = collect_containers(a_view(a_container(state=state)))

    assert values(metrics, "ds01_container_running", "container_id") == {"a" * 64: running}


def test_slots_are_those_given_and_those_in_use() -> None:
    sample = GpuSample(GPUS, processes=(a_process(SECOND, "b" * 64), a_process(SECOND, None)))
    view = a_view(
        a_container("a", claims=GpuClaims(ids=("MIG-x",))),
        a_container("b", claims=GpuClaims(count=1)),
        a_container("c", claims=GpuClaims()),
        gpus=sample,
    )

    found = [labels for labels, _ in rows(collect_slots(view), "ds01_container_gpu")]

    assert found == [
        {
            "container_id": "a" * 64,
            "gpu_slot": "1.0",
            "gpu": "1",
            "UUID": "GPU-b",
            "GPU_I_ID": "3",
        },
        {
            "container_id": "b" * 64,
            "gpu_slot": "1.1",
            "gpu": "1",
            "UUID": "GPU-b",
            "GPU_I_ID": "5",
        },
    ]


def test_an_allocation_has_the_containers_own_user_and_interface() -> None:
    view = a_view(
        a_container("a", user="alice", labels={"ds01.interface": "atomic"}),
        a_container("b", user="bob"),
        a_container("c", user="carol", state="exited"),
        a_container("d", user="root", labels={"ds01.monitoring": "true"}),
    )

    found = [labels for labels, _ in rows(collect_slots(view), "ds01_gpu_allocated")]

    assert [(row["gpu_slot"], row["user"], row["interface"]) for row in found] == [
        ("0", "alice", "atomic"),
        ("0", "bob", "docker"),
    ]


def test_a_slot_shared_by_one_user_is_one_slot() -> None:
    both = GpuClaims(ids=("0", "MIG-y"))
    view = a_view(a_container("a", claims=both), a_container("b", claims=both))

    found = rows(collect_slots(view), "ds01_gpu_equivalents")

    assert [(labels["gpu_slot"], labels["profile"], value) for labels, value in found] == [
        ("0", "full", 1),
        ("1.1", "2g.20gb", 2 / 7),
    ]


@pytest.mark.parametrize(
    ("containers", "demand"),
    [
        pytest.param((), 0, id="nobody"),
        pytest.param((a_container(),), 7 / 10, id="a whole GPU"),
        pytest.param((a_container("a"), a_container("b")), 7 / 10, id="shared counts once"),
        pytest.param((a_container(claims=GpuClaims(all=True)),), 1, id="all"),
        pytest.param((a_container(claims=GpuClaims(count=1)),), 7 / 10, id="one, unknown which"),
        pytest.param((a_container(claims=GpuClaims(count=9)),), 1, id="never over one"),
        pytest.param((a_container(state="exited"),), 0, id="a stopped one"),
        pytest.param(
            (a_container(claims=GpuClaims(all=True), labels={"ds01.monitoring": "true"}),),
            0,
            id="the GPU exporter itself",
        ),
    ],
)
def test_demand_is_the_allocated_share(containers: tuple[Tracked, ...], demand: float) -> None:
    [(_, value)] = rows(collect_gpus(a_view(*containers)), "ds01_gpu_demand_ratio")

    assert value == pytest.approx(demand)


def test_demand_is_unknown_until_docker_first_answered() -> None:
    assert rows(collect_gpus(a_view(confirmed_at=None)), "ds01_gpu_demand_ratio") == []


def test_a_host_without_gpus_has_no_demand() -> None:
    assert rows(collect_gpus(a_view(gpus=GpuSample(()))), "ds01_gpu_demand_ratio") == []


def test_limits_are_those_of_the_owner_and_absent_means_exempt() -> None:
    view = a_view(
        a_container("a"),
        a_container("b", labels={"ds01.container_type": "devcontainer"}),
        a_container("c", labels={"ds01.protected": "true"}, keep_alive=(NOON, NOON)),
    )

    def of(name: str) -> dict[str, float]:
        return values(collect_limits(view), f"ds01_container_{name}", "container_id")

    assert of("idle_timeout_seconds") == {"a" * 64: 1800}
    assert of("grace_seconds") == {"a" * 64: 1800, "b" * 64: 1800}
    assert of("max_runtime_seconds") == {"a" * 64: 172800, "b" * 64: 604800}
    assert of("hold_seconds") == {"a" * 64: 900, "b" * 64: 900}
    assert of("gpu_idle_percent_threshold") == {"a" * 64: 5, "b" * 64: 5}
    assert of("cpu_idle_percent_threshold") == {"a" * 64: 2, "b" * 64: 2}
    assert of("network_idle_bytes_threshold") == {"a" * 64: MIB, "b" * 64: MIB}
    assert of("keep_alive_until_seconds") == {}


def test_a_keep_alive_shows_until_when_it_protects() -> None:
    future = NOON + timedelta(days=99)
    metrics = collect_limits(a_view(a_container(keep_alive=(future, NOON))))

    [(_, until)] = rows(metrics, "ds01_container_keep_alive_until_seconds")

    assert until == (NOON + timedelta(hours=24)).timestamp()


def test_mig_is_mapped_unless_a_container_names_what_is_gone() -> None:
    fine = a_view(a_container(claims=GpuClaims(ids=("MIG-x",))))
    broken = a_view(a_container(claims=GpuClaims(ids=("MIG-repartitioned",))))

    assert rows(collect_gpus(fine), "ds01_mig_mapping_status") == [({}, 1)]
    assert rows(collect_gpus(broken), "ds01_mig_mapping_status") == [({}, 0)]
    assert rows(collect_gpus(broken), "ds01_mig_devices_unmapped") == [({}, 1)]


def test_gpus_and_instances_are_named_by_the_driver() -> None:
    view = a_view()

    gpus = [tuple(labels.values()) for labels, _ in rows(collect_gpus(view), "ds01_gpu_slot_info")]
    migs = [tuple(labels.values()) for labels, _ in rows(collect_gpus(view), "ds01_mig_slot_info")]

    assert gpus == [("0", "0", "GPU-a", "false"), ("1", "1", "GPU-b", "true")]
    assert migs == [("1", "3", "1.0", "MIG-x"), ("1", "5", "1.1", "MIG-y")]


def test_a_process_belongs_to_its_containers_owner() -> None:
    sample = GpuSample(
        GPUS,
        processes=(a_process(FIRST, "a" * 64), a_process(WHOLE, None, pid=8, memory_bytes=None)),
    )

    found = rows(
        collect_processes(a_view(a_container(), gpus=sample)), "ds01_gpu_process_memory_bytes"
    )

    assert [(row["UUID"], row["GPU_I_ID"], row["pid"], row["user"]) for row, _ in found] == [
        ("GPU-b", "3", "7", "alice"),
        ("GPU-a", "", "8", "root"),
    ]
    assert found[0][1] == MIB
    assert math.isnan(found[1][1])


class Usage:
    """A kernel: pid 666 cannot be read, 404 is gone, 1 is in the host's network."""

    def cpu_seconds(self, pid: int, container_id: str | None = None) -> float | None:
        if pid == 666:
            raise SourceError("unreadable")
        return None if pid == 404 else 1.5

    def memory_bytes(self, pid: int, container_id: str | None = None) -> float | None:
        return 1000

    def memory_limit_bytes(self, pid: int, container_id: str | None = None) -> float | None:
        return None if pid == 1 else 2000

    def process_count(self, pid: int, container_id: str | None = None) -> int | None:
        return 3

    def network_bytes(self, pid: int) -> tuple[int, int] | None:
        return None if pid == 1 else (10, 20)


def test_usage_that_cannot_be_read_costs_only_that_container() -> None:
    view = a_view(
        a_container("a"),
        a_container("b", pid=404),
        a_container("c", pid=666),
        a_container("d", pid=1),
        a_container("e", pid=0, state="exited"),
    )

    served = scrape(view, Collector("usage", usage_collector(Usage())))

    def ids(name: str) -> list[str]:
        return [sample.labels["container_id"][0] for sample in served[name].samples]

    assert ids("ds01_container_cpu_usage_seconds") == ["a", "d"]
    assert ids("ds01_container_memory_usage_bytes") == ["a", "d"]
    assert ids("ds01_container_memory_limit_bytes") == ["a"]
    assert ids("ds01_container_processes") == ["a", "d"]
    assert ids("ds01_container_network_receive_bytes") == ["a"]
    assert [sample.value for sample in served["ds01_collector_success"].samples] == [0]


def scrape(view: View, *collectors: Collector) -> dict[str, Metric]:
    return {metric.name: metric for metric in Scrape(collectors, lambda: view).collect()}


def broken(view: View) -> Iterator[Metric]:
    yield from collect_inventory(view)
    raise ZeroDivisionError


def test_one_failing_collector_hides_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    served = scrape(
        a_view(a_container(), gpus=GONE),
        Collector("slots", collect_slots),
        Collector("broken", broken),
        Collector("containers", collect_containers),
    )

    success = served["ds01_collector_success"].samples
    assert {s.labels["collector"]: s.value for s in success} == {
        "slots": 0,
        "broken": 0,
        "containers": 1,
    }
    assert {"ds01_container_info", "ds01_inventory_age_seconds"} <= set(served)
    assert "ds01_container_gpu" not in served
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_a_repeated_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    views = [a_view(gpus=GONE), a_view(gpus=GONE), a_view()]
    remaining = iter(views)
    collector = Scrape([Collector("gpus", collect_gpus)], lambda: next(remaining))
    caplog.set_level("INFO")

    for _ in views:
        list(collector.collect())

    assert [record.message for record in caplog.records] == [
        "collector gpus cannot tell everything: no driver",
        "collector gpus works again",
    ]


def test_before_docker_answers_nothing_is_said_about_containers() -> None:
    view = a_view(confirmed_at=None, problem="Docker was not asked yet")

    served = scrape(
        view, Collector("inventory", collect_inventory), Collector("containers", collect_containers)
    )

    assert "ds01_container_info" not in served
    assert "ds01_inventory_age_seconds" not in served
    assert [s.value for s in served["ds01_collector_success"].samples] == [0, 0]


def test_the_age_of_the_inventory_is_told_while_docker_is_silent() -> None:
    view = a_view(a_container(), problem="timed out")

    served = scrape(
        view, Collector("inventory", collect_inventory), Collector("containers", collect_containers)
    )

    assert served["ds01_inventory_age_seconds"].samples[0].value == 60
    assert [s.value for s in served["ds01_collector_success"].samples] == [0, 1]


def test_a_hanging_driver_hangs_no_scrape() -> None:
    answers = threading.Event()

    def sample() -> GpuSample:
        answers.wait(10)
        return GpuSample(GPUS)

    watch = GpuWatch(sample, patience=timedelta(milliseconds=20))
    watch.start()

    with pytest.raises(SourceError, match="not asked yet"):
        watch.latest()
    answers.set()
    assert eventually(lambda: taken(watch), 5, "the driver answers").gpus == GPUS
    watch.stop()


def taken(watch: GpuWatch) -> GpuSample | None:
    with contextlib.suppress(SourceError):
        return watch.latest()
    return None


def test_the_last_sample_is_served_until_it_is_too_old() -> None:
    hanging, hangs, release = threading.Event(), threading.Event(), threading.Event()

    def sample() -> GpuSample:
        if hanging.is_set():
            hangs.set()
            release.wait(10)
        return GpuSample(GPUS)

    watch = GpuWatch(sample, patience=timedelta(milliseconds=20), keep_for=timedelta(minutes=1))
    watch.start()
    eventually(lambda: taken(watch), 5, "a first sample")
    hanging.set()

    assert watch.latest().gpus == GPUS
    eventually(hangs.is_set, 5, "the driver hangs")
    watch._taken_at -= 61
    with pytest.raises(SourceError, match="has not answered"):
        watch.latest()
    release.set()
    watch.stop()


def test_a_driver_that_refuses_is_asked_again() -> None:
    answers: list[GpuSample | SourceError] = [GONE, GpuSample(GPUS)]

    def sample() -> GpuSample:
        answer = answers.pop(0)
        if isinstance(answer, SourceError):
            raise answer
        return answer

    watch = GpuWatch(sample, patience=timedelta(seconds=5))
    watch.start()

    with pytest.raises(SourceError, match="no driver"):
        watch.latest()
    assert watch.latest().gpus == GPUS
    watch.stop()
