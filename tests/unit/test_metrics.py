import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from remediator.core.attempts import IN_PROGRESS, AttemptState
from remediator.core.case import HoldReason
from remediator.core.catalogue import CATALOGUE, Offer
from remediator.core.notices import NoticeKind
from remediator.core.observation import Source
from remediator.core.tallies import Tally, Until
from remediator.database import open_writer
from remediator.errors import JournalError
from remediator.journal.journal import FILE, Journal
from remediator.journal.tallies import count
from remediator.metrics import (
    DELIVERY_RESULTS,
    NOTICE_RESULTS,
    NOTIFIERS,
    SOURCES,
    ReceiverMetrics,
    WorkerMetrics,
)
from remediator.notifiers.chat import Chat
from remediator.notifiers.mail import Mail
from remediator.notifiers.wall import Wall
from tests.builders import NOON
from tests.unit.stories import write_a_story

RULES = Path(__file__).parents[2] / "alert_rules" / "remediator.yml"


@pytest.fixture
def worker() -> CollectorRegistry:
    return WorkerMetrics(CollectorRegistry()).registry


@pytest.mark.parametrize("reason", HoldReason)
def test_every_reason_to_hold_is_counted_from_zero(
    worker: CollectorRegistry, reason: HoldReason
) -> None:
    labels = {"decision": "hold", "reason": reason.value}

    assert worker.get_sample_value("remediator_decisions_total", labels) == 0


def test_acting_has_no_reason(worker: CollectorRegistry) -> None:
    labels = {"decision": "remediate", "reason": ""}

    assert worker.get_sample_value("remediator_decisions_total", labels) == 0


@pytest.mark.parametrize("until", Until)
def test_the_time_from_alert_to_action_is_there_from_the_start(
    worker: CollectorRegistry, until: Until
) -> None:
    name, labels = "remediator_alert_to_action_seconds", {"until": until.value}

    assert worker.get_sample_value(f"{name}_count", labels) == 0
    assert worker.get_sample_value(f"{name}_sum", labels) == 0
    assert worker.get_sample_value(f"{name}_bucket", {**labels, "le": "+Inf"}) == 0


def test_what_the_journal_keeps_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Everything that is counted in the journal, and nothing of what no version of ours counts."""
    journal = Journal.for_worker(tmp_path)
    write_a_story(journal)
    journal.tallies.returned(2.5, 7200.0, NOON)
    for seconds in (300.0, 300.1, 1e9):
        journal.tallies.delay(Until.PROVEN, seconds)
    with open_writer(tmp_path / FILE, "remediator.journal", JournalError).transaction() as raw:
        raw.execute("INSERT INTO tally VALUES ('of_later', 'x', 1)")
        count(raw, Tally.ALERT_TO_ACTION, "later/300.0")
    metrics = WorkerMetrics(CollectorRegistry())

    metrics.restore(journal.tallies.all())
    metrics.observe_delay(Until.PROVEN, 300.0)

    value = metrics.registry.get_sample_value
    name, proven = "remediator_alert_to_action_seconds", {"until": "proven"}
    done = {"remediation": "stop-container", "outcome": "succeeded"}
    held = {"decision": "hold", "reason": "warned"}
    assert value("remediator_attempts_total", done) == 1
    assert value("remediator_decisions_total", held) == 1
    assert value("remediator_decisions_total", {"decision": "remediate", "reason": ""}) == 1
    assert value("remediator_gpu_hours_returned_total") == 2.5
    assert value("remediator_energy_not_wasted_joules_total") == 7200
    assert value(f"{name}_bucket", {**proven, "le": "300.0"}) == 2
    assert value(f"{name}_bucket", {**proven, "le": "600.0"}) == 3
    assert value(f"{name}_count", proven) == 4
    assert value(f"{name}_sum", proven) == pytest.approx(1e9 + 900.1)
    journal.close()


@pytest.mark.parametrize("offer", CATALOGUE, ids=lambda offer: offer.name)
def test_every_end_of_every_remediation_is_counted_from_zero(
    worker: CollectorRegistry, offer: Offer
) -> None:
    name = offer.name
    for state in set(AttemptState).difference(IN_PROGRESS):
        labels = {"remediation": name, "outcome": state.value}
        assert worker.get_sample_value("remediator_attempts_total", labels) == 0
    assert worker.get_sample_value("remediator_attempts_running", {"remediation": name}) == 0
    count = "remediator_attempt_duration_seconds_count"
    assert worker.get_sample_value(count, {"remediation": name}) == 0


def test_the_breaker_is_closed_until_it_is_known(worker: CollectorRegistry) -> None:
    assert worker.get_sample_value("remediator_breaker_open") == 0


def test_every_notice_is_counted_from_zero(worker: CollectorRegistry) -> None:
    for kind in NoticeKind:
        labels = {"kind": kind.value}
        assert worker.get_sample_value("remediator_notices_made_total", labels) == 0
    for notifier in NOTIFIERS:
        for result in NOTICE_RESULTS:
            labels = {"notifier": notifier, "result": result}
            assert worker.get_sample_value("remediator_notices_total", labels) == 0


def test_every_source_is_counted_from_zero(worker: CollectorRegistry) -> None:
    assert set(SOURCES) == {source.value for source in Source}
    for source in Source:
        labels = {"source": source.value}
        assert worker.get_sample_value("remediator_source_errors_total", labels) == 0


def test_the_notifiers_there_are_are_the_ones_counted() -> None:
    assert {Mail.name, Wall.name, Chat.name} == set(NOTIFIERS)


def test_every_answer_to_a_delivery_is_counted_from_zero() -> None:
    registry = ReceiverMetrics(CollectorRegistry()).registry

    for result in DELIVERY_RESULTS:
        labels = {"result": result}
        assert registry.get_sample_value("remediator_deliveries_total", labels) == 0
    assert registry.get_sample_value("remediator_delivery_store_seconds_count") == 0


@pytest.mark.parametrize("make", [ReceiverMetrics, WorkerMetrics])
def test_every_metric_is_ours_and_says_what_it_is(make: type) -> None:
    text = generate_latest(make(CollectorRegistry()).registry).decode()
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    helped = {line.split()[2] for line in text.splitlines() if len(line.split()) > 4}

    assert names
    assert all(name.startswith("remediator_") for name in names)
    assert names <= helped | {name for name in names if name.endswith("_created")}


def test_the_rules_about_remediator_ask_only_for_metrics_that_it_has() -> None:
    registry = CollectorRegistry()
    ReceiverMetrics(registry)
    WorkerMetrics(registry)
    there = {sample.name for family in registry.collect() for sample in family.samples}

    asked = set(re.findall(r"remediator_[a-z_]+", RULES.read_text()))

    assert asked
    assert asked <= there


def test_the_two_programs_share_no_metric() -> None:
    shared = CollectorRegistry()

    ReceiverMetrics(shared)
    WorkerMetrics(shared)
