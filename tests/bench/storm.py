"""A storm: every GPU of a fleet alerts at once, and one receiver and one worker take it all."""

import threading
import time
from dataclasses import dataclass

from tests.bench.kept import decisions_of, post_each, quiet_site
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Result, Table, facts, number
from tests.bench.scale import GPUS_PER_HOST, storm_seconds
from tests.eventually import eventually
from tests.peers.gpu.host import GpuHost
from tests.peers.site import Site
from tests.peers.stage import Stage

HOSTS = 1250
_CLIENTS = 8
_GIVE_UP_SECONDS = 600
_COUNTS = {
    "firing": "SELECT count(*) FROM firing",
    "incident": "SELECT count(*) FROM incident",
    "decision": "SELECT count(*) FROM decision",
}


@dataclass(frozen=True, slots=True)
class Storm:
    """Alerts that came, seconds until the last was stored and decided about, and rows written."""

    alerts: int
    stored: float
    decided: float
    rows: dict[str, int]


def bench_storm(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Post one delivery for each GPU, as the shipped routes do, and wait for all decisions."""
    alerts = pace.of(HOSTS) * GPUS_PER_HOST
    with GpuHost(gpus=1) as gpus:
        site = quiet_site(stage, stage.docker_engine(), gpus)
        site.start_receiver()
        site.start_worker()
        storm = _storm(site, alerts)
    return Result(
        [_table(storm)],
        [],
        {
            "storm_alerts": float(storm.alerts),
            "storm_stored_s": storm.stored,
            "storm_decided_s": storm.decided,
            "storm_rows_per_alert": sum(storm.rows.values()) / storm.alerts,
        },
    )


def _storm(site: Site, alerts: int) -> Storm:
    shares = [range(first, alerts, _CLIENTS) for first in range(_CLIENTS)]
    began = time.perf_counter()
    clients = [threading.Thread(target=post_each, args=(site, share)) for share in shares]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    stored = time.perf_counter() - began
    eventually(lambda: decisions_of(site) >= alerts, _GIVE_UP_SECONDS, "all are decided about")
    decided = time.perf_counter() - began
    rows = {name: int(str(site.ask(count))) for name, count in _COUNTS.items()}
    inbox = site.inbox()
    rows["delivery"] = len(inbox.after(0, 10 * alerts))
    inbox.close()
    return Storm(alerts, stored, decided, rows)


def _table(storm: Storm) -> Table:
    expected = storm_seconds(facts(), storm.alerts)
    rows = [
        (name, str(count), str(storm.alerts), f"{count / storm.alerts:.2f}")
        for name, count in storm.rows.items()
    ]
    return Table(
        f"A storm: {storm.alerts} GPUs alert at once, one receiver and one worker take it all",
        ("what", "measured", "by the model", "ratio"),
        [
            *((f"rows in `{name}`", *cells) for name, *cells in rows),
            (
                "until the last is decided about (s)",
                number(storm.decided),
                number(expected),
                f"{storm.decided / expected:.2f}",
            ),
        ],
        [
            f"The last was acknowledged after {number(storm.stored)} s, beside the clients that"
            " post and the worker that decides, all on these cores.",
        ],
    )
