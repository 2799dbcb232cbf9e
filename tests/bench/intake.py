"""Durable intake beside Debian's `webhook`, which runs /bin/true and stores nothing."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.bench.load import Load, post
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.peers import Webhook, delivery_file
from tests.bench.programs import cpu_seconds
from tests.bench.report import Amount, Result, Table, Verdict, at_least, at_most, below, number
from tests.peers.receiver import Receiver
from tests.peers.stage import Stage

T = TypeVar("T")

# Alerts in a delivery, and how many times as fast as `webhook` that has to be.
SIZES = {1: 1.5, 100: 2.0, 1000: 1.2}
_CONNECTIONS = 8
_PER_SECOND = "/s"


@dataclass(frozen=True, slots=True)
class Rate:
    """Deliveries per second, milliseconds, and milliseconds of CPU for each: middle ones."""

    rate: float
    median: float
    p99: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Server:
    """A server that takes deliveries."""

    url: str
    pid: int
    token: str = ""


def bench_intake(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure at each of `SIZES`, and on one connection without any load."""
    peer = Webhook(stage)
    receiver = started_receiver(stage)
    ours = Server(receiver.webhook, receiver.daemon.pid, receiver.token)
    theirs = Server(peer.url, peer.pid)
    found: dict[int, tuple[Rate, Rate]] = {}
    for alerts in SIZES:
        body = delivery_file(stage.folder, alerts)
        mine, other = in_turns(
            lambda b=body: _stretch(ours, b, _CONNECTIONS, pace.seconds),  # type: ignore[misc]
            lambda b=body: _stretch(theirs, b, _CONNECTIONS, pace.seconds),  # type: ignore[misc]
            pace.rounds,
        )
        found[alerts] = _middle(mine), _middle(other)
    body = delivery_file(stage.folder, 1)
    alone = _middle([_stretch(ours, body, 1, pace.seconds) for _ in range(pace.rounds)])
    receiver.stop()
    return Result([_table(found, alone)], _verdicts(found, alone), _facts(found, alone))


def started_receiver(stage: Stage, name: str = "receiver") -> Receiver:
    """Return a receiver as it is shipped, with its token, that the stage stops."""
    receiver = Receiver(stage.folder / name, settings="largest_body: 20000000\n")
    receiver.daemon = stage.daemon(
        "serve", receiver.command, ready=receiver.is_ready, environment=receiver.environment
    )
    return receiver


def in_turns(
    ours: Callable[[], T], theirs: Callable[[], T], rounds: int
) -> tuple[list[T], list[T]]:
    """Return what both gave, called in turns, so that a busy moment is everybody's."""
    pairs = [(theirs(), ours()) for _ in range(rounds)]
    return [pair[1] for pair in pairs], [pair[0] for pair in pairs]


def _stretch(server: Server, body: Path, connections: int, seconds: float) -> tuple[Load, float]:
    """Post for a while; return what was told, and milliseconds of CPU for each answer."""
    before = cpu_seconds(server.pid)
    load = post(server.url, body, connections=connections, seconds=seconds, token=server.token)
    return load, 1000 * (cpu_seconds(server.pid) - before) / load.answers


def _middle(stretches: list[tuple[Load, float]]) -> Rate:
    loads = [load for load, _ in stretches]
    return Rate(
        statistics.median(load.rate for load in loads),
        statistics.median(load.median for load in loads),
        statistics.median(load.p99 for load in loads),
        statistics.median(cpu for _, cpu in stretches),
    )


def _verdicts(found: dict[int, tuple[Rate, Rate]], alone: Rate) -> list[Verdict]:
    verdicts = []
    for alerts, (ours, theirs) in found.items():
        what = f"durable intake, {alerts} alert{'s' * (alerts > 1)} per delivery"
        verdicts.append(
            at_least(
                what,
                Amount(ours.rate, _PER_SECOND),
                Amount(theirs.rate, _PER_SECOND),
                SIZES[alerts],
            )
        )
        if alerts == 1:
            verdicts += [
                at_most(f"{what}: p99", Amount(ours.p99, "ms"), Amount(theirs.p99, "ms"), 1),
                at_most(
                    f"{what}: CPU each", Amount(ours.cpu, "ms"), Amount(theirs.cpu, "ms"), 0.75
                ),
            ]
    return [
        *verdicts,
        below("unloaded, one connection: p50", Amount(alone.median, "ms"), 1),
        below("unloaded, one connection: p99", Amount(alone.p99, "ms"), 5),
    ]


def _table(found: dict[int, tuple[Rate, Rate]], alone: Rate) -> Table:
    rows = [
        (str(alerts), *_cells(ours), *_cells(theirs), f"{ours.rate / theirs.rate:.2f}")
        for alerts, (ours, theirs) in found.items()
    ]
    return Table(
        f"Intake on {_CONNECTIONS} connections, each delivery on the disk before its 200",
        (
            *("alerts", "per second", "p50", "p99", "CPU each"),
            *("`webhook` per second", "p50", "p99", "CPU each", "ratio"),
        ),
        [*rows, ("1, one connection", *_cells(alone), "", "", "", "", "")],
        [
            "`webhook` runs /bin/true for each delivery, waits for it, and stores nothing;"
            " the receiver checks the bearer token and every alert, and has synced the inbox.",
        ],
    )


def _cells(rate: Rate) -> tuple[str, ...]:
    return number(rate.rate), number(rate.median), number(rate.p99), number(rate.cpu)


def _facts(found: dict[int, tuple[Rate, Rate]], alone: Rate) -> dict[str, float]:
    facts = {"intake_unloaded_p50_ms": alone.median}
    for alerts, (ours, _) in found.items():
        facts[f"intake_{alerts}_per_s"] = ours.rate
        facts[f"intake_{alerts}_cpu_ms"] = ours.cpu
    return facts
