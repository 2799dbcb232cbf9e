"""What a durable row costs beside what the disk itself takes for as many bytes."""

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from remediator.inbox.store import Inbox
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.peers import delivery
from tests.bench.report import Amount, Result, Table, at_least, number
from tests.peers.stage import Stage

_TOGETHER = 8
# So many turns in a round: what else the disk has to do changes within a second.
_TURNS = 8
_UNIT = "/s"


def bench_commits(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Store deliveries one by one and eight by eight, in turns with writing and syncing bytes."""
    body = delivery(1)
    inbox = Inbox.for_receiver(stage.folder / "inbox")
    raw = os.open(stage.folder / "raw", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        rounds = [
            (
                _per_second(lambda: _write(raw, body), pace.seconds / _TURNS),
                _per_second(
                    lambda: inbox.store(body, "bench", datetime.now(UTC)), pace.seconds / _TURNS
                ),
                _TOGETHER * _per_second(lambda: _together(inbox, body), pace.seconds / _TURNS),
            )
            for _ in range(_TURNS * pace.rounds)
        ]
    finally:
        os.close(raw)
        inbox.close()
    synced, single, grouped = (statistics.median(one) for one in zip(*rounds, strict=True))
    table = Table(
        "Commits: rows per second on one file system",
        ("what", "per second", "of the raw"),
        [
            ("raw: `write` and `fdatasync` of a delivery's bytes", number(synced), "1"),
            ("the inbox, one delivery per commit", number(single), f"{single / synced:.2f}"),
            (
                f"the inbox, {_TOGETHER} deliveries per commit",
                number(grouped),
                f"{grouped / synced:.2f}",
            ),
        ],
        [f"In {_file_system(stage.folder)}; what comes in one turn of the server is one commit."],
    )
    verdict = at_least(
        "commits, one row per delivery", Amount(single, _UNIT), Amount(synced, _UNIT), 0.9
    )
    return Result([table], [verdict], {"commits_per_s": single, "fdatasync_per_s": synced})


def _write(file: int, body: bytes) -> None:
    os.write(file, body)
    os.fdatasync(file)


def _together(inbox: Inbox, body: bytes) -> None:
    inbox.store_all([(body, "bench")] * _TOGETHER, datetime.now(UTC))


def _per_second(act: Callable[[], object], seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        act()
        done += 1
    return done / (time.perf_counter() - began)


def _file_system(folder: Path) -> str:
    """Return the kind of file system that *folder* is on."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if folder.is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else "an unknown file system"
