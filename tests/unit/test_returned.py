"""GPU-hours returned: what counts, what does not, and that no hour counts twice."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from remediator.core.attempts import AttemptState, Task
from remediator.core.observation import Fact
from remediator.core.returned import (
    Energy,
    Stop,
    by_day,
    by_owner,
    energy_between,
    hours_between,
    stretches,
)
from remediator.engine.returning import Returning
from remediator.journal.journal import Journal
from remediator.metrics import WorkerMetrics
from tests.builders import DAY, HOUR, MINUTE, NOON, TARGET, a_plan, an_alert
from tests.fakes import HandClock

LATER = NOON + 30 * DAY


def a_stop(
    at: datetime = NOON, *, until: datetime | None = None, owner: str = "alice", **shares: float
) -> Stop:
    """Return a stop that frees GPU 0, or the *shares* given as g0, g1."""
    named = {name.removeprefix("g"): share for name, share in shares.items()}
    return Stop(at, owner, named or {"0": 1.0}, until)


@pytest.mark.parametrize(
    ("stops", "hours"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([a_stop()], 24, id="at most a day"),
        pytest.param([a_stop(until=NOON + 3 * HOUR)], 3, id="until its max runtime"),
        pytest.param([a_stop(until=NOON - HOUR)], 0, id="over its max runtime already"),
        pytest.param([a_stop(until=NOON + 90 * HOUR)], 24, id="a longer max runtime"),
        pytest.param([a_stop(g0=1.0, g1=1.0)], 48, id="two GPUs"),
        pytest.param([a_stop(g1=2 / 7)], 24 * 2 / 7, id="a MIG device"),
        pytest.param([a_stop(g0=0.0)], 0, id="others use it as well"),
        pytest.param([a_stop(), a_stop(NOON + 5 * HOUR)], 29, id="stopped again on the same GPU"),
        pytest.param([a_stop(), a_stop(NOON + 5 * HOUR, g1=1.0)], 48, id="on another GPU"),
        pytest.param([a_stop(), a_stop(NOON + 5 * HOUR, g0=0.0)], 5, id="held again, with others"),
        pytest.param([a_stop(), a_stop()], 24, id="twice at the same moment"),
    ],
)
def test_what_is_returned(stops: list[Stop], hours: float) -> None:
    assert hours_between(stretches(stops), NOON - DAY, LATER) == pytest.approx(hours)


def test_only_what_has_passed_is_returned() -> None:
    found = stretches([a_stop()])

    assert hours_between(found, NOON - DAY, NOON + 2 * HOUR) == pytest.approx(2)
    assert hours_between(found, NOON + HOUR, NOON + 2 * HOUR) == pytest.approx(1)
    assert hours_between(found, LATER, LATER + DAY) == 0


def test_energy_is_what_the_idle_gpu_drew_times_the_hours_and_known_only_where_measured() -> None:
    stop = Stop(NOON, "alice", {"0": 1.0, "1": 1.0, "2.0": 0.5}, None, {"0": 60.0, "1": 40.0})
    found = stretches([stop, Stop(NOON + HOUR, "bob", {"1": 1.0})])

    assert energy_between(found, NOON, NOON + 2 * HOUR) == Energy(0.12 + 0.04, 3.0)
    assert energy_between((), NOON, LATER) == Energy(0, 0)


def test_days_are_cut_at_midnight_and_empty_ones_are_there() -> None:
    midnight = NOON.replace(hour=0)

    days = by_day(stretches([a_stop()]), midnight - DAY, midnight + 3 * DAY - HOUR)

    assert list(days.values()) == pytest.approx([0, 12, 12, 0])
    assert next(iter(days)) == midnight - DAY


def test_what_began_before_the_first_day_counts_from_there() -> None:
    midnight = NOON.replace(hour=0) + DAY

    assert list(by_day(stretches([a_stop()]), midnight, midnight + HOUR).values()) == [1.0]


def test_owners_come_with_the_most_first_and_without_those_of_none() -> None:
    stops = [
        a_stop(owner="bob", until=NOON + HOUR),
        a_stop(owner="alice", g1=1.0),
        a_stop(owner="carol", g2=0.0),
    ]

    owners = by_owner(stretches(stops), NOON, LATER)

    assert list(owners.items()) == [("alice", 24.0), ("bob", 1.0)]


stops_at = st.builds(
    lambda minutes, slot, share, runtime, owner: Stop(
        NOON + minutes * MINUTE, owner, {slot: share}, NOON + (minutes + runtime) * MINUTE
    ),
    st.integers(0, 6000),
    st.sampled_from(["0", "1", "1.0"]),
    st.sampled_from([0.0, 2 / 7, 1.0]),
    st.integers(-100, 3000),
    st.sampled_from(["alice", "bob"]),
)


@given(st.lists(stops_at, max_size=20), st.integers(0, 8000), st.integers(0, 600))
def test_a_slot_never_returns_more_than_an_hour_an_hour(
    stops: list[Stop], begin: int, minutes: int
) -> None:
    since, until = NOON + begin * MINUTE, NOON + (begin + minutes) * MINUTE
    found = stretches(stops)

    for slot in {stretch.slot for stretch in found}:
        own = [stretch for stretch in found if stretch.slot == slot]
        assert hours_between(own, since, until) <= minutes / 60 + 1e-6
    total = hours_between(found, since, until)
    assert sum(by_owner(found, since, until).values()) == pytest.approx(total)
    assert sum(by_day(found, since, until).values()) == pytest.approx(total)


def stop_in(journal: Journal, number: int, at: datetime, **context: Fact) -> None:
    """Write a proven stop into the journal, as an attempt that ended at *at*."""
    incident = journal.incidents.attach(
        an_alert(fingerprint=f"{number}"),
        subject=f"container:{number}",
        fault="idle",
        delivery=number,
        at=at,
        receiver="remediator",
    )
    assert incident is not None
    journal.incidents.name(incident, "train", "alice")
    attempt = journal.attempts.plan(incident, a_plan(), Task(TARGET, context=context))
    assert attempt is not None
    journal.attempts.claim(attempt, at)
    journal.attempts.move(attempt, AttemptState.SUCCEEDED, "it is gone", at)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        pytest.param(
            {"gpus": "0, 1.0", "gpu_shares": "1, 0.2857", "max_runtime_seconds": 86400.0},
            Stop(NOON, "alice", {"0": 1.0, "1.0": 0.2857}, TARGET.started_at + DAY),
            id="as it is written now",
        ),
        pytest.param(
            {"gpus": "0", "gpu_shares": "1", "max_runtime_seconds": None},
            Stop(NOON, "alice", {"0": 1.0}, None),
            id="without a max runtime",
        ),
        pytest.param(
            {"gpus": "0, 1, 2.0", "gpu_shares": "1, 1, 0.2857", "gpu_watts": "61.25, , "},
            Stop(NOON, "alice", {"0": 1.0, "1": 1.0, "2.0": 0.2857}, None, {"0": 61.25}),
            id="with what was drawn, where it was measured",
        ),
        pytest.param(
            {"gpus": "0", "gpu_shares": "1", "gpu_watts": "inf"},
            Stop(NOON, "alice", {"0": 1.0}, None),
            id="no number of watts",
        ),
        pytest.param({"gpus": "0"}, Stop(NOON, "alice", {}, None), id="as it was written before"),
        pytest.param({}, Stop(NOON, "alice", {}, None), id="without a GPU"),
        pytest.param(
            {"gpus": "0", "gpu_shares": "lots"}, Stop(NOON, "alice", {}, None), id="damaged"
        ),
    ],
)
def test_stops_are_read_from_the_journal(
    tmp_path: Path, context: dict[str, Fact], expected: Stop
) -> None:
    journal = Journal.for_worker(tmp_path)
    stop_in(journal, 1, NOON, **context)

    assert journal.board.stops(NOON - DAY) == [expected]
    assert journal.board.stops(NOON + 25 * HOUR) == []
    journal.close()


def test_the_worker_counts_each_hour_once(tmp_path: Path) -> None:
    journal, clock = Journal.for_worker(tmp_path), HandClock(NOON)
    metrics = WorkerMetrics(CollectorRegistry())
    returning = Returning(journal, clock, metrics)
    counted = []
    stop_in(journal, 1, NOON - HOUR, gpus="0, 1", gpu_shares="1, 0.5")

    for passed in (timedelta(), 30 * MINUTE, timedelta(seconds=30), -HOUR, HOUR, 100 * DAY):
        clock.advance(passed)
        returning.step()
        counted.append(metrics.registry.get_sample_value("remediator_gpu_hours_returned_total"))

    assert counted == pytest.approx(
        [0, 0.75, 0.75, 0.75, 2.25, 2.25 + 1.5 * (23 - 0.5 - 1 / 120)], abs=0.02
    )
    journal.close()


def test_a_worker_goes_on_counting_where_the_last_one_ended(tmp_path: Path) -> None:
    """What was returned while none ran is counted by the next one, once; energy too."""
    journal, clock = Journal.for_worker(tmp_path), HandClock(NOON)
    stop_in(journal, 1, NOON - HOUR, gpus="0", gpu_shares="1", gpu_watts="50")
    Returning(journal, clock, WorkerMetrics(CollectorRegistry())).step()

    for _ in range(2):
        metrics = WorkerMetrics(CollectorRegistry())
        metrics.restore(journal.tallies.all())
        clock.advance(HOUR)
        Returning(journal, clock, metrics).step()

    value = metrics.registry.get_sample_value
    assert value("remediator_gpu_hours_returned_total") == pytest.approx(2)
    assert value("remediator_energy_not_wasted_joules_total") == pytest.approx(2 * 50 * 3600)
    journal.close()
