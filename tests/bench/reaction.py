"""From an alert, and from a metric, to a dead container: with all confirmations, and without."""

import statistics
import time

from tests.bench.chain import BARE, DEFAULTS, FOR_SECONDS, OURS, started_chain
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, at_most, below, number
from tests.bench.timing import percentile
from tests.peers.stage import Stage

_ALERTS = 25
_METRICS = 8
_APART_SECONDS = 1.37


def bench_reaction(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Post alerts that fire in Prometheus to Alertmanager, the two chains in turns."""
    with started_chain(stage, wired=False, settings=DEFAULTS) as chain:
        count = pace.of(_ALERTS)
        ids = chain.crowd.start(2 * count)
        ours, bare = ids[:count], ids[count:]
        labels = chain.fire(ours, bare)
        chain.until_measured(ours)
        times: dict[str, list[float]] = {OURS: [], BARE: []}
        for pair in zip(bare, ours, strict=True):
            for name, one in zip((BARE, OURS), pair, strict=True):
                posted = time.time()
                chain.alertmanager.post([{"labels": labels[one]}])
                times[name].append((chain.deaths.of(one) - posted) * 1000)
        chain.metric.forget(ids)
    middle = statistics.median(times[BARE])
    over = [one - middle for one in times[OURS]]
    return Result(
        [
            _table(
                f"An alert posted to Alertmanager, until the container is dead ({count} each)",
                times,
            )
        ],
        [
            below(
                "alert posted -> container dead, p50 more",
                Amount(statistics.median(over), "ms"),
                30,
                f"bare Flask: {number(middle)} ms",
            ),
            below(
                "alert posted -> container dead, p99 more",
                Amount(percentile(over, 99), "ms"),
                100,
                f"bare Flask: {number(middle)} ms",
            ),
        ],
        {"reaction_ms": statistics.median(times[OURS])},
    )


def bench_metric(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Let a metric cross its threshold, and see when the container is dead."""
    with started_chain(stage, wired=True) as chain:
        count = pace.of(_METRICS)
        ids = chain.crowd.start(2 * count)
        chain.until_measured(ids)
        # All at moments of their own: when within a scrape's second it crosses is half the time.
        crossed: dict[str, float] = {}
        for pair in zip(ids[:count], ids[count:], strict=True):
            for name, one in zip((OURS, BARE), pair, strict=True):
                crossed[one] = time.time()
                chain.metric.set(one, name)
            time.sleep(_APART_SECONDS)
        times = {
            name: [(chain.deaths.of(one) - crossed[one]) * 1000 for one in some]
            for name, some in ((OURS, ids[:count]), (BARE, ids[count:]))
        }
        chain.metric.forget(ids)
    ours, bare = (statistics.median(times[name]) for name in (OURS, BARE))
    title = (
        "A metric that crosses its threshold, until the container is dead, with 1 s scrape and"
        f" evaluation and `for: {FOR_SECONDS}s` ({count} each)"
    )
    return Result(
        [_table(title, times)],
        [at_most("metric crossed -> container dead", Amount(ours, "ms"), Amount(bare, "ms"), 1.1)],
    )


def _table(title: str, times: dict[str, list[float]]) -> Table:
    return Table(
        title,
        ("chain", "p50", "p99", "worst"),
        [
            (
                name,
                *(
                    number(one)
                    for one in (statistics.median(some), percentile(some, 99), max(some))
                ),
            )
            for name, some in times.items()
        ],
        [
            "Remediator asks Prometheus, Docker and NVML before it plans and again before it acts,"
            " and writes each step down first; the bare one asks nobody.",
        ],
    )
