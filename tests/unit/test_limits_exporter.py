"""What the exporter says of limits: those in force, their demand, and exemptions that end."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from prometheus_client.metrics_core import Metric

from remediator.core.containers import ContainerFacts
from remediator.core.exemptions import Exemption
from remediator.core.gpu_claims import GpuClaims
from remediator.core.limits import LimitsBook
from remediator.core.ownership import Owner
from remediator.errors import SourceError
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.containers import collect_inventory, collect_limits
from remediator.exporter.inventory import Snapshot, Tracked
from remediator.exporter.view import Residents, View, basis_of, look
from tests.builders import HOUR, NOON

INSTANT = timedelta(microseconds=1)
IDLE = "ds01_container_idle_timeout_seconds"
RUNTIME = "ds01_container_max_runtime_seconds"
ALICES = Tracked(
    ContainerFacts(
        id="a" * 64,
        name="train",
        image="image",
        labels={},
        state="running",
        pid=100,
        created_at=NOON,
        started_at=NOON,
        finished_at=None,
        exit_code=None,
        claims=GpuClaims(ids=("0",)),
    ),
    Owner("alice", "label"),
    None,
)


def a_view(
    book: LimitsBook,
    now: datetime = NOON,
    residents: Residents | None = None,
    *,
    docker: str | None = None,
) -> View:
    inventory = Snapshot((ALICES,), NOON, docker)
    gone = SourceError("no driver")
    return look(now, inventory, gone, book=book, limits_good=True, residents=residents)


def values(metrics: Iterator[Metric]) -> dict[str, float]:
    return {sample.name: sample.value for metric in metrics for sample in metric.samples}


def test_demand_and_void_exemptions_are_served_even_while_docker_is_silent() -> None:
    book = LimitsBook(
        high_demand_threshold=0.9, high_demand_idle_reduction=0.25, void_exemptions=("a", "b")
    )
    view = a_view(book, docker="frozen")

    found = values(
        iter(Scrape([Collector("inventory", collect_inventory)], lambda: view).collect())
    )

    assert found["ds01_collector_success"] == 0
    assert found["ds01_gpu_high_demand_threshold"] == 0.9
    assert found["ds01_gpu_high_demand_idle_reduction"] == 0.25
    assert found["ds01_limits_void_exemptions"] == 2


def test_without_a_file_the_built_in_demand_is_served_and_nothing_is_void() -> None:
    found = values(collect_inventory(a_view(LimitsBook())))

    assert found["ds01_gpu_high_demand_threshold"] == 0.8
    assert found["ds01_gpu_high_demand_idle_reduction"] == 0.5
    assert found["ds01_limits_void_exemptions"] == 0


def test_a_limit_is_absent_exactly_while_an_exemption_holds() -> None:
    """Though nothing but the time changes, and what did not change is served again."""
    idle = Exemption("alice", frozenset({"idle_timeout"}), "thesis", "X", NOON + HOUR)
    book = LimitsBook(exemptions=(idle,))
    residents, moment = Residents(), [NOON]
    scrape = Scrape(
        [Collector("limits", collect_limits, basis_of)],
        lambda: a_view(book, moment[0], residents),
    )
    seen = []
    for at in (NOON, NOON + HOUR - INSTANT, NOON + HOUR, NOON + 2 * HOUR):
        moment[0] = at
        found = values(iter(scrape.collect()))
        seen.append((found.get(IDLE), found.get(RUNTIME)))

    assert seen == [(None, 172800.0), (None, 172800.0), (1800.0, 172800.0), (1800.0, 172800.0)]


def test_a_container_is_not_joined_anew_while_no_exemption_ends() -> None:
    idle = Exemption("alice", frozenset({"idle_timeout"}), "thesis", "X", NOON + HOUR)
    book, residents = LimitsBook(exemptions=(idle,)), Residents()

    first = a_view(book, NOON, residents).residents[0]
    second = a_view(book, NOON + HOUR - INSTANT, residents).residents[0]
    third = a_view(book, NOON + HOUR, residents).residents[0]

    assert first is second
    assert first.limits.idle_exemption is idle
    assert third.limits.idle_exemption is None
