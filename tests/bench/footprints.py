"""The memory of the three programs, idle and at the largest delivery, and how fast that goes."""

import statistics
import time
from pathlib import Path

from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.peers import delivery
from tests.bench.programs import family_of, memory_mib
from tests.bench.report import Amount, Result, Table, below, number
from tests.eventually import eventually
from tests.peers.gpu.host import GpuHost
from tests.peers.site import Site
from tests.peers.stage import Stage

_LARGE_ALERTS = 10_000
_SETTLES_SECONDS = 5
_KIB = 1024


def bench_footprints(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure a whole host's programs on an engine of their own, with eight GPUs."""
    with GpuHost(gpus=8) as gpus:
        settings = {"largest_body": 20_000_000}
        site = Site(stage, stage.docker_engine(), gpus, more_settings=settings).prepare()
        programs = {
            "receiver": site.start_receiver(),
            "worker": site.start_worker(),
            "exporter": site.start_exporter(),
        }
        time.sleep(min(_SETTLES_SECONDS, 10 * pace.seconds))
        idle = {name: memory_mib(daemon.pid) for name, daemon in programs.items()}
        # The worker waits, or its share would be in the answer's time and not in the memory.
        programs["worker"].stop()
        highest = HighestMemory(programs["receiver"].pid)
        times = [_deliver(site, pace.of(_LARGE_ALERTS), turn) for turn in range(pace.rounds)]
        grown = {"receiver": highest.grown_mib()}
        worker = programs["worker"].start()
        highest = HighestMemory(worker.pid)
        began = time.monotonic()
        taken = "SELECT last_delivery FROM intake"
        eventually(lambda: site.ask(taken) == pace.rounds, 120, "the worker takes them")
        seconds = (time.monotonic() - began) / pace.rounds
        grown["worker"] = highest.grown_mib()
    return _result(idle, grown, statistics.median(times), seconds, pace)


class HighestMemory:
    """The most that a program and all below it hold at once, from now on."""

    def __init__(self, pid: int) -> None:
        self._pids = family_of(pid)
        for one in self._pids:
            # "5" makes the highest what it is now (proc(5)).
            Path(f"/proc/{one}/clear_refs").write_text("5")
        self._before = self._mib()

    def grown_mib(self) -> float:
        """Return how far it has grown at its highest."""
        return self._mib() - self._before

    def _mib(self) -> float:
        lines = [
            line
            for pid in self._pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM:")
        ]
        return sum(int(line.split()[1]) for line in lines) / _KIB


def _deliver(site: Site, alerts: int, turn: int) -> float:
    body = delivery(alerts, first=turn * alerts)
    began = time.perf_counter()
    answer = site.deliver(body)
    assert answer.ok, answer.text
    return (time.perf_counter() - began) * 1000


def _result(
    idle: dict[str, float], grown: dict[str, float], answered: float, taken: float, pace: Pace
) -> Result:
    alerts = pace.of(_LARGE_ALERTS)
    large = f"a delivery of {len(delivery(alerts)) / 1e6:.1f} MB with {alerts} alerts"
    table = Table(
        "Memory (MiB)",
        ("program", "idle", f"at its highest beside {large}, more"),
        [
            *(
                (name, number(held), number(grown[name]) if name in grown else "-")
                for name, held in idle.items()
            ),
            ("all", number(sum(idle.values())), number(sum(grown.values()))),
        ],
        [
            "Idle is the proportional set size, with all processes of each program."
            f" The worker has taken such a delivery into the journal within {number(taken)} s.",
        ],
    )
    return Result(
        [table],
        [
            below(
                "memory of receiver, worker and exporter, idle",
                Amount(sum(idle.values()), "MiB"),
                150,
            ),
            below(f"{large}: more memory", Amount(sum(grown.values()), "MiB"), 100),
            below(f"{large}: answered", Amount(answered, "ms"), 300),
        ],
        {
            **{f"memory_{name}_mib": held for name, held in idle.items()},
            "take_alert_ms": taken * 1000 / alerts,
        },
    )
