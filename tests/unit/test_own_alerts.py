"""What Prometheus cannot have heard of is confirmed by the journal, and nothing else is."""

from dataclasses import replace

import pytest

from remediator.core.alerts import Origin
from remediator.core.observation import Source, Verdict
from remediator.errors import SourceError
from remediator.remediations.own_alerts import OwnAlerts
from tests.builders import MINUTE, NOON, an_alert
from tests.fakes import FakePrometheus

HINT = replace(
    an_alert(name="DS01GPUNeedsReset"),
    annotations={"description": "stop-container freed GPU 0, and saw this"},
    origin=Origin.EPILOG,
)


def test_what_the_epilog_saw_is_confirmed_by_the_journal() -> None:
    found = OwnAlerts(FakePrometheus()).confirm(HINT, NOON)

    assert (found.report.source, found.report.verdict) == (Source.JOURNAL, Verdict.AGREES)
    assert found.report.says == "stop-container freed GPU 0, and saw this"
    assert (found.labels, found.active_since) == (HINT.labels, HINT.starts_at)


def test_what_was_delivered_is_not_whatever_it_says() -> None:
    delivered = replace(HINT, origin=Origin.DELIVERED, labels={**HINT.labels, "origin": "epilog"})

    found = OwnAlerts(FakePrometheus()).confirm(delivered, NOON, exporter_must_answer=False)

    assert (found.report.source, found.report.verdict) == (Source.PROMETHEUS, Verdict.DISAGREES)


def test_all_other_questions_are_prometheus_own() -> None:
    prometheus = FakePrometheus()
    prometheus.values["up"] = 1
    asked = OwnAlerts(prometheus)

    assert asked.value("up") == 1
    assert asked.samples("up", MINUTE) == []
    prometheus.silent = "connection refused"
    with pytest.raises(SourceError):
        asked.value("up")
