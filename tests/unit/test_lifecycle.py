from datetime import UTC, datetime, timedelta

import pytest

from remediator.core.exemptions import Exemption
from remediator.core.lifecycle import (
    Overstay,
    idle_timeout_under_demand,
    is_infrastructure,
    keep_alive_helps,
    keep_alive_until,
    may_idle_because,
    may_run_because,
    may_stay_because,
    stay_of,
)
from remediator.core.limits import Limits, LimitsBook

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, False),
        ({"ds01.monitoring": "true"}, True),
        ({"ds01.protected": "True"}, True),
        ({"ds01.protected": "false"}, False),
        ({"ds01.user": "true"}, False),
    ],
)
def test_infrastructure_is_what_the_labels_protect(labels: dict[str, str], expected: bool) -> None:
    assert is_infrastructure(labels) is expected


@pytest.mark.parametrize(
    ("mtime", "ctime"),
    [
        pytest.param(NOON, NOON, id="touched"),
        pytest.param(NOON + 300 * DAY, NOON, id="dated into the future"),
        pytest.param(NOON, NOON + DAY, id="its mode was changed later"),
    ],
)
def test_a_keep_alive_protects_for_a_day_at_most(mtime: datetime, ctime: datetime) -> None:
    assert keep_alive_until(mtime, ctime, Limits()) == NOON + DAY


def test_who_may_idle_is_told_by_the_exemption_else_by_the_limits() -> None:
    exemption = Exemption("alice", frozenset({"idle_timeout"}), "thesis", "X", NOON)

    assert may_idle_because(Limits()) is None
    assert may_idle_because(Limits(group="g", idle_timeout=None)) == (
        "the limits of group g let it idle"
    )
    assert may_idle_because(Limits(idle_timeout=None, idle_exemption=exemption)) == str(exemption)


def test_who_may_run_on_is_told_by_the_exemption_else_by_the_limits() -> None:
    exemption = Exemption("alice", frozenset({"max_runtime"}), "thesis", "X", NOON)

    assert may_run_because(Limits()) is None
    assert may_run_because(Limits(group="g", max_runtime=None)) == (
        "the limits of group g let it run"
    )
    assert may_run_because(Limits(max_runtime=None, runtime_exemption=exemption)) == str(exemption)


@pytest.mark.parametrize(
    ("overstay", "minutes", "forever"),
    [
        (Overstay.NEVER_STARTED, 30, Limits(group="g", created_timeout=None)),
        (Overstay.STOPPED, 15, Limits(group="g", hold_after_stop=None)),
    ],
)
def test_what_does_not_run_may_stay_for_as_long_as_the_limits_say(
    overstay: Overstay, minutes: int, forever: Limits
) -> None:
    assert stay_of(overstay, Limits()) == timedelta(minutes=minutes)
    assert may_stay_because(overstay, Limits()) is None
    assert may_stay_because(overstay, forever) == "the limits of group g let it stay"


@pytest.mark.parametrize(
    ("demand", "minutes"),
    [
        pytest.param(None, 30, id="unknown demand"),
        pytest.param(0.79, 30, id="just below"),
        pytest.param(0.8, 15, id="at the threshold"),
        pytest.param(1.0, 15, id="full"),
    ],
)
def test_high_demand_halves_the_idle_timeout(demand: float | None, minutes: int) -> None:
    timeout = idle_timeout_under_demand(Limits(), demand, LimitsBook())

    assert timeout == timedelta(minutes=minutes)


def test_a_reduction_is_the_share_that_is_taken_off() -> None:
    book = LimitsBook(high_demand_idle_reduction=0.2)

    assert idle_timeout_under_demand(Limits(), 1, book) == timedelta(minutes=24)


def test_high_demand_ends_no_exemption() -> None:
    assert idle_timeout_under_demand(Limits(idle_timeout=None), 1, LimitsBook()) is None


@pytest.mark.parametrize(
    ("alertname", "helps"),
    [
        ("DS01ContainerIdle", True),
        ("DS01ContainerIdleSoon", True),
        ("DS01ContainerMaxRuntime", False),
        ("DS01GPUWaste", False),
        ("", False),
    ],
)
def test_a_keep_alive_is_offered_only_where_it_helps(alertname: str, helps: bool) -> None:
    assert keep_alive_helps(alertname) is helps
