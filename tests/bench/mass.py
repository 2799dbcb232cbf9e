"""Stop a hundred containers: by alerts, caps lifted, and by the raw SDK with four threads."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from tests.bench.chain import DEFAULTS, Chain, started_chain
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, at_least, number
from tests.peers.stage import Stage

_CONTAINERS = 100
# More do not make the engine faster.
_THREADS = 4
_GRACE_SECONDS = 30


def bench_mass(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure from the first request, or alert, to the last death."""
    count, rounds = pace.of(_CONTAINERS), max(1, pace.rounds - 1)
    with started_chain(stage, wired=False, settings=DEFAULTS) as chain:
        found = [(_by_sdk(chain, count), _by_alerts(chain, count)) for _ in range(rounds)]
    raw, ours = (count / statistics.median(times) for times in zip(*found, strict=True))
    table = Table(
        f"Stopping {count} containers that exit at SIGTERM",
        ("how", "stops per second", "ratio"),
        [
            (f"raw SDK, {_THREADS} threads, nobody asked", number(raw), "1"),
            ("Remediator, from the alert, each confirmed twice", number(ours), f"{ours / raw:.2f}"),
        ],
    )
    verdict = at_least(
        f"mass stop of {count} containers", Amount(ours, "/s"), Amount(raw, "/s"), 0.9
    )
    return Result([table], [verdict], {"stops_per_s": ours})


def _by_sdk(chain: Chain, count: int) -> float:
    ids = chain.crowd.start(count)
    began = time.time()
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda one: chain.client.api.stop(one, timeout=_GRACE_SECONDS), ids))
    return _ended(chain, ids, began)


def _by_alerts(chain: Chain, count: int) -> float:
    ids = chain.crowd.start(count)
    labels = chain.fire(ids, [])
    chain.until_measured(ids)
    began = time.time()
    chain.alertmanager.post([{"labels": labels[one]} for one in ids])
    return _ended(chain, ids, began)


def _ended(chain: Chain, ids: list[str], began: float) -> float:
    """Return the seconds until the last one died, and clear them away."""
    seconds = max(chain.deaths.of(one, within=120) for one in ids) - began
    chain.metric.forget(ids)
    chain.crowd.remove(ids)
    return seconds
