"""How soon a delivery is acknowledged again after kill -9."""

import statistics
import time

import requests

from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.peers import delivery
from tests.bench.report import Amount, Result, Table, below, number
from tests.peers.receiver import Receiver
from tests.peers.stage import Stage

_TIMES = 5
_GIVE_UP_SECONDS = 20


def bench_restarts(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Kill every process of the receiver and start it again, several times."""
    receiver = Receiver(stage.folder / "receiver")
    receiver.start()
    try:
        times = [_restart(receiver) for _ in range(pace.rounds * pace.of(_TIMES))]
    finally:
        receiver.stop()
    middle = statistics.median(times)
    table = Table(
        "The first 200 after kill -9 of every process of the receiver, from its next start on (s)",
        ("kills", "p50", "worst"),
        [(str(len(times)), number(middle), number(max(times)))],
    )
    verdict = below("first acknowledgement after kill -9 and restart", Amount(middle, "s"), 0.5)
    return Result([table], [verdict])


def _restart(receiver: Receiver) -> float:
    receiver.kill_all()
    body = delivery(1)
    began = time.perf_counter()
    receiver.daemon.launch()
    while time.perf_counter() - began < _GIVE_UP_SECONDS:
        try:
            if receiver.post(body).ok:
                return time.perf_counter() - began
        except requests.ConnectionError:
            time.sleep(0.005)
    raise AssertionError(f"no acknowledgement within {_GIVE_UP_SECONDS} s")
