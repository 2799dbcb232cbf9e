"""What the exporter says of the host: the disk of DS01's state, sessions over the network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from prometheus_client.metrics_core import Metric

from remediator.errors import SourceError
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.host import disk_collector, session_collector
from remediator.exporter.source_watch import SourceWatch
from remediator.exporter.view import View
from remediator.sources.state_folder import DiskSpace, StateFolder
from tests.unit.confined import run_on_tiny_disk
from tests.unit.gpu_views import a_view, rows

T = TypeVar("T")


def collected(
    make: Callable[[SourceWatch[T]], Callable[[View], Iterator[Metric]]], read: Callable[[], T]
) -> list[Metric]:
    watch = SourceWatch("it", read)
    watch.start()
    try:
        return list(Scrape([Collector("it", make(watch))], a_view).collect())
    finally:
        watch.stop()


def succeeded(metrics: list[Metric]) -> float:
    return rows(metrics, "ds01_collector_success")[0][1]


def test_the_disk_of_the_state_is_shown() -> None:
    metrics = collected(disk_collector, lambda: DiskSpace(100, 70, 20))

    found = rows(metrics, "ds01_state_disk_bytes")
    assert {labels["type"]: value for labels, value in found} == {
        "total": 100,
        "used": 70,
        "free": 20,
    }


@pytest.mark.parametrize("make", [disk_collector, session_collector])
def test_what_this_host_has_not_is_no_failure(make: Callable[..., object]) -> None:
    metrics = collected(make, lambda: None)  # type: ignore[arg-type]

    assert {metric.name for metric in metrics} & {
        "ds01_state_disk_bytes",
        "ds01_ssh_sessions_active",
    } == set()
    assert succeeded(metrics) == 1


@pytest.mark.parametrize("make", [disk_collector, session_collector])
def test_what_cannot_be_read_is_a_failure(make: Callable[..., object]) -> None:
    def read() -> None:
        raise SourceError("cannot read it")

    assert succeeded(collected(make, read)) == 0  # type: ignore[arg-type]


def test_sessions_are_counted_by_user_and_in_all() -> None:
    metrics = collected(session_collector, lambda: ("bob", "alice", "bob"))

    active = rows(metrics, "ds01_ssh_sessions_active")
    assert {labels["user"]: value for labels, value in active} == {"alice": 1, "bob": 2}
    assert [m.samples[0].value for m in metrics if m.name == "ds01_ssh_sessions_total"] == [3]


def test_nobody_is_zero_sessions() -> None:
    metrics = collected(session_collector, lambda: ())

    assert [m.samples[0].value for m in metrics if m.name == "ds01_ssh_sessions_total"] == [0]


def test_a_folder_that_is_not_there_has_no_disk(tmp_path: Path) -> None:
    assert StateFolder(tmp_path / "gone").space() is None


def test_a_folder_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SourceError, match="cannot look at"):
        StateFolder(tmp_path / "file" / "state").space()


def test_a_disk_is_measured_in_bytes(folder: Path) -> None:
    said = run_on_tiny_disk(
        folder,
        """
        from remediator.sources.state_folder import StateFolder
        (folder / "file").write_bytes(b"x" * 256 * 1024)
        space = StateFolder(folder).space()
        print(space.total, space.used, space.free)
        """,
        size="1m",
    )

    assert [int(number) // 1024 for number in said.split()] == [1024, 256, 768]
