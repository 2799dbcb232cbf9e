"""A recorded week of a GPU host, and the alerts that Prometheus' own engine fired on it."""

import gzip
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.backtest.alert_states import Fired
from remediator.core.policy import Mode
from remediator.wiring.backtest import Wanted, prepare, run
from tests.peers.recorded_week import (
    ALERTS,
    BEGIN,
    EVALUATION_SECONDS,
    SAMPLES,
    WEEK_SECONDS,
    rule_files,
)

ROOT = Path(__file__).parents[2]
_MILLISECONDS = 1000


@pytest.fixture(scope="module", name="fired")
def _fired() -> tuple[Fired, ...]:
    from_file = Wanted(
        prometheus=None,
        samples=SAMPLES,
        rules=rule_files(),
        policy=ROOT / "compose" / "policy.example.yaml",
        begin=None,
        end=None,
        step=timedelta(seconds=EVALUATION_SECONDS),
        page=timedelta(days=1),
        mode=Mode.ACT,
    )
    (result,) = run(prepare(from_file), None, lambda _: None)
    return result.fired


def test_every_alert_of_the_week_fires_and_ends_when_prometheus_had_it(
    fired: tuple[Fired, ...],
) -> None:
    with gzip.open(ALERTS, "rt", encoding="utf-8") as file:
        theirs = {key: [tuple(one) for one in found] for key, found in json.load(file).items()}

    mine: dict[str, list[tuple[int, int]]] = {}
    for one in fired:
        until = WEEK_SECONDS + BEGIN if one.resolved_at is None else one.resolved_at / _MILLISECONDS
        stretch = (round(one.fired_at / _MILLISECONDS) - BEGIN, round(until) - BEGIN)
        mine.setdefault(json.dumps(dict(one.labels), sort_keys=True), []).append(stretch)

    assert mine == theirs


def test_the_week_has_alerts_of_every_kind(fired: tuple[Fired, ...]) -> None:
    counts = Counter(one.alert for one in fired)

    assert sum(counts.values()) > 300
    assert len(counts) >= 15, sorted(counts)
