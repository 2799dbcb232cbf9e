"""The GPUs as the page shows them: from Prometheus's samples, never waiting for them long."""

import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from remediator.clock import SystemClock
from remediator.errors import SourceError
from remediator.web.drawing import CHART_HEIGHT, bars_of, moment_text, percent_of, span_text
from remediator.web.gpu_watch import GpuWatch
from remediator.web.gpus import gpus_from
from remediator.web.prometheus import PrometheusReader, Sample
from remediator.web.shapes import DayReturned, Gpu
from tests.builders import DAY, NOON
from tests.eventually import eventually, patience
from tests.fakes import HandClock
from tests.gpu_samples import Told, a_container, a_gpu, a_mig_gpu, id_of, uuid_of
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.told_prometheus import ToldPrometheus


def shown(*told: list[Told]) -> tuple[Gpu, ...]:
    return gpus_from(Sample(labels, value) for samples in told for labels, value in samples)


def test_a_gpu_is_shown_with_its_containers() -> None:
    (gpu,) = shown(
        a_gpu("0", 93, heat=71, used=2048, free=4096),
        a_container("train", "bob", "0", idle=60, limit=1800, kept_until=1_790_000_000),
    )

    assert (gpu.slot, gpu.uuid, gpu.utilization_percent) == ("0", uuid_of("0"), 93)
    assert (gpu.temperature_celsius, gpu.memory_used_mib, gpu.memory_total_mib) == (71, 2048, 4096)
    (container,) = gpu.containers
    assert (container.name, container.owner, container.running) == ("train", "bob", True)
    assert (container.idle_seconds, container.idle_limit_seconds) == (60, 1800)
    assert container.keep_alive_until == datetime.fromtimestamp(1_790_000_000, UTC)
    assert container.exempt is None
    assert container.id == id_of("train")


def test_what_nobody_tells_is_unknown_and_not_nought() -> None:
    (gpu,) = shown(
        a_gpu("0", None)[:1], a_container("c", "bob", "0", idle=None, limit=None, running=False)
    )

    assert gpu.utilization_percent is gpu.temperature_celsius is gpu.memory_used_mib is None
    assert gpu.containers[0].idle_seconds is gpu.containers[0].idle_limit_seconds is None
    assert not gpu.containers[0].running


@pytest.mark.parametrize("blank", [9.2e18, 1.4e14, -1, math.nan, math.inf])
def test_what_cannot_be_a_value_is_unknown(blank: float) -> None:
    (gpu,) = shown(a_gpu("0", blank, heat=blank, used=blank))

    assert gpu.utilization_percent is gpu.temperature_celsius is gpu.memory_used_mib is None


def test_slots_come_in_their_order_and_a_split_gpu_as_its_devices() -> None:
    gpus = shown(a_gpu("10"), a_gpu("2"), a_mig_gpu("1", "5", "6"), a_gpu("0"))

    assert [gpu.slot for gpu in gpus] == ["0", "1.0", "1.1", "2", "10"]


def test_a_container_on_a_mig_device_is_shown_there() -> None:
    first, second = shown(
        a_mig_gpu("1", "5", "6"),
        a_container("c", "bob", "1.1", gpu_instance="6"),
        [({"__name__": "ds01:slot_utilization_percent", "UUID": uuid_of("1"), "GPU_I_ID": "6"}, 7)],
    )

    assert first.containers == ()
    assert [container.name for container in second.containers] == ["c"]
    assert (first.utilization_percent, second.utilization_percent) == (None, 7)


def test_a_slot_that_no_list_has_is_shown_for_its_container() -> None:
    (gpu,) = shown(a_container("c", "bob", "3"))

    assert (gpu.slot, len(gpu.containers)) == ("3", 1)


def test_of_two_exporters_the_one_that_sees_more_counts() -> None:
    (gpu,) = shown(a_gpu("0", 3), a_gpu("0", 80), a_gpu("0", 5))

    assert gpu.utilization_percent == 80


def test_a_container_without_a_name_or_owner_has_something_to_be_called_by() -> None:
    labels = {"container_id": "f" * 64, "UUID": "GPU-1", "gpu_slot": "0"}
    (gpu,) = shown([({"__name__": "ds01_container_gpu", **labels}, 1)])

    assert (gpu.containers[0].name, gpu.containers[0].owner) == ("f" * 12, "unknown")


@pytest.fixture
def prometheus() -> Iterator[ToldPrometheus]:
    with ToldPrometheus(a_gpu("0", 50)) as prometheus:
        yield prometheus


def test_the_reader_returns_the_newest_samples(prometheus: ToldPrometheus) -> None:
    samples = PrometheusReader(prometheus.url, 2).newest("up", "ds01:slot_utilization_percent")

    assert [(s.name, s.value) for s in samples] == [
        (t[0]["__name__"], t[1]) for t in prometheus.samples
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"<html>", b'{"data": {"result": [{"metric": {}, "value": ["x"]}]}}'],
)
def test_what_is_no_answer_of_prometheus_is_a_source_error(
    prometheus: ToldPrometheus, body: bytes
) -> None:
    prometheus.answer = lambda: body

    with pytest.raises(SourceError, match="something else than samples"):
        PrometheusReader(prometheus.url, 2).newest("up")


def test_an_answer_that_never_ends_is_cut_off(prometheus: ToldPrometheus) -> None:
    prometheus.answer = lambda: b" " * (17 * 1024 * 1024)

    with pytest.raises(SourceError, match="more than"):
        PrometheusReader(prometheus.url, 5).newest("up")


def test_nobody_there_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="does not answer"):
        PrometheusReader(f"http://{LOOPBACK}:{free_port()}", 1).newest("up")


def test_a_prometheus_that_hangs_keeps_nobody_waiting(prometheus: ToldPrometheus) -> None:
    watch = GpuWatch(PrometheusReader(prometheus.url, 20).newest, SystemClock())
    prometheus.goes_on.clear()
    began = time.monotonic()

    first = watch.newest()
    for _ in range(50):
        watch.newest()

    assert time.monotonic() - began < 2 * patience()
    assert first.problem == "Prometheus is being asked"
    eventually(lambda: prometheus.asked, 5, "it is asked")
    assert prometheus.asked == 1
    prometheus.goes_on.set()
    eventually(lambda: watch.newest().gpus, 5, "what Prometheus told late")


def test_what_was_seen_last_stays_while_prometheus_is_silent() -> None:
    answers: list[list[Sample] | SourceError] = [
        [Sample(*told) for told in a_gpu("0", 50)],
        SourceError("Prometheus is gone"),
    ]
    clock, is_over = HandClock(), threading.Event()

    def ask(*_names: str) -> list[Sample]:
        answer = answers.pop(0)
        if isinstance(answer, SourceError):
            is_over.set()
            raise answer
        return answer

    watch = GpuWatch(ask, clock)
    seen = eventually(lambda: watch.newest() if watch.newest().gpus else None, 5, "the GPUs")
    assert (seen.problem, seen.asked_at) == (None, NOON)
    watch._asked_at = float("-inf")
    watch.newest()
    assert is_over.wait(5)

    later = eventually(lambda: watch.newest() if watch.newest().problem else None, 5, "a problem")

    assert later.problem == "Prometheus is gone"
    assert (later.gpus, later.asked_at) == (seen.gpus, NOON)


def test_a_bug_in_reading_is_said_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def ask(*_names: str) -> list[Sample]:
        raise KeyError("surprise")

    problem = eventually(lambda: GpuWatch(ask, HandClock()).newest().problem, 5, "the problem")

    assert problem is not None
    assert "see the receiver's log" in problem or "being asked" in problem
    eventually(lambda: "surprise" in caplog.text, 5, "the traceback")


def test_the_chart_has_a_bar_for_each_day() -> None:
    days = [DayReturned(NOON.date(), hours) for hours in (0.0, 5.0, 10.0)]

    none, half, full = bars_of(days)

    assert (none.height, half.height, full.height) == (0, CHART_HEIGHT / 2, CHART_HEIGHT)
    assert (full.y, half.y) == (0, CHART_HEIGHT / 2)
    assert none.x < half.x < full.x
    assert full.says == "01 Mar: 10 GPU-hours"
    assert bars_of([DayReturned(NOON.date(), 0.0)])[0].height == 0
    assert bars_of([]) == ()


def test_times_are_as_short_as_they_can_be_told() -> None:
    assert moment_text(NOON, NOON) == "12:00:00"
    assert moment_text(NOON - DAY, NOON) == "28 Feb 12:00"
    assert moment_text(NOON - 100 * DAY, NOON) == "2025-11-21 12:00"
    assert span_text(754) == "12 min 34 s"
    assert span_text(-1) == "0 s"
    assert span_text(1e300) != ""


def test_a_bar_is_never_outside_its_track() -> None:
    assert [percent_of(part, 10) for part in (-1, 0, 5, 10, 11)] == [0, 0, 50, 100, 100]
    assert percent_of(1, 0) == 100
