"""A million deliveries and a hundred thousand incidents kept, beside an inbox and journal anew."""

import contextlib
import http.client
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from remediator.database import stamp
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from tests.bench.load import post
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.peers import delivery, delivery_file
from tests.bench.report import Amount, Result, Table, Verdict, at_least, below, number
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.ports import LOOPBACK
from tests.peers.site import Site
from tests.peers.stage import Stage

DELIVERIES = 1_000_000
INCIDENTS = 100_000
_ALERTS = 100
_POLICY: dict[str, Any] = {
    "mode": "act",
    "rules": [
        {
            "name": "idle container",
            "match": ['alertname="DS01ContainerIdle"'],
            "do": [{"notify-only": None, "attempts": ["1 per 12h"]}],
            "tell": [],
        }
    ],
}
# Closed incidents of the past half year, each with all that hangs on one.
_SEED = """
CREATE TEMP TABLE n AS
 WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {0}) SELECT i,
 strftime('%Y-%m-%dT%H:%M:%f000+00:00', '{1}', '-' || (({0} - i) * {2}) || ' seconds') AS at FROM c;
INSERT INTO incident (subject, fault, title, owner, opened_at, closed_at, outcome)
 SELECT 'container:' || printf('%064x', i), 'idle container', 'crowd-' || i, 'user' || (i % 50), at,
 at, 'stop-container succeeded' FROM n;
INSERT INTO firing (fingerprint, starts_at, incident, alertname, labels, annotations, receiver,
 first_delivery, last_delivery, received_at, last_received_at, resolved_at)
 SELECT printf('%016x', i), at, i, 'DS01ContainerIdle', json_object('alertname',
 'DS01ContainerIdle', 'container_id', printf('%064x', i), 'container', 'crowd-' || i),
 json_object('summary', 'A container holds a GPU and does not use it.'), 'remediator', i, i, at, at,
 at FROM n;
INSERT INTO decision (incident, fingerprint, starts_at, verdict, reason, because, policy_rule,
 evidence, at, last_at)
 SELECT i, printf('%016x', i), at, 'remediate', NULL, 'every guard passed', 'idle container', '[]',
 at, at FROM n;
INSERT INTO attempt (incident, policy_rule, rung, remediation, target, task, state, planned_at,
 started_at, ended_at, message) SELECT i, 'idle container', 0, 'stop-container',
 'container:' || printf('%064x', i), '{{}}', 'succeeded', at, at, at, 'stopped' FROM n;
INSERT INTO step (attempt, name, detail, began_at, ended_at, result)
 SELECT i, 'stop', '', at, at, 'done' FROM n;
INSERT INTO notice (incident, kind, notifier, recipient, subject, body, created_at, state,
 next_try_at, sent_at, result) SELECT i, 'acted', 'mail', 'user' || (i % 50) || '@example.org',
 'stopped', 'It was idle.', at, 'sent', at, at, 'ok' FROM n;
INSERT OR IGNORE INTO incident_gpu (gpu, incident) SELECT 'GPU-' || (i % 8), i FROM n;
"""
_APART_SECONDS = 150


@dataclass(frozen=True, slots=True)
class Cost:
    """Per second: deliveries stored, alerts decided about. Milliseconds: page and listing."""

    stored: float
    decided: float
    overview: float
    incidents: float
    listing: float


def bench_kept(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure two whole installations in turns, an empty one and a full one."""
    with contextlib.ExitStack() as stack:
        engine = stage.docker_engine()
        gpus = stack.enter_context(GpuHost(gpus=8))
        sites = [
            quiet_site(stack.enter_context(Stage(stage.folder / name)), engine, gpus)
            for name in ("empty", "full")
        ]
        began = time.monotonic()
        seed(sites[1].state_dir, pace.of(DELIVERIES), pace.of(INCIDENTS))
        seeded = time.monotonic() - began
        row_bytes = _bytes_per_row(sites[1].state_dir, pace)
        workers = []
        for site in sites:
            site.start_receiver()
            workers.append(site.start_worker())
        decided = [[_decided(site, pace, turn) for site in sites] for turn in range(pace.rounds)]
        shown = [[_shown(site) for site in sites] for _ in range(pace.rounds)]
        for worker in workers:
            # It would take what is stored now while the other installation is measured.
            worker.stop()
        stored = [[_stored(site, pace) for site in sites] for _ in range(pace.rounds)]
    empty, full = (
        _middle(*([one[place] for one in rounds] for rounds in (stored, decided, shown)))
        for place in (0, 1)
    )
    size = f"{pace.of(DELIVERIES):,} deliveries and {pace.of(INCIDENTS):,} incidents"
    return Result(
        [_table(empty, full, size, seeded)],
        _verdicts(empty, full),
        {"decided_per_s": full.decided, **row_bytes},
    )


def seed(state: Path, deliveries: int, incidents: int) -> None:
    """Put deliveries, all of them taken, and closed incidents into the state folder *state*."""
    now = datetime.now(UTC)
    inbox = Inbox.for_receiver(state / "inbox")
    identity = inbox.identity()
    inbox.close()
    with _opened(state / "inbox" / "inbox.db") as database:
        database.execute(
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?)"
            " INSERT INTO delivery (received_at, sender, body)"
            " SELECT ?, '127.0.0.1 Alertmanager/0.25.0', ? FROM c",
            (deliveries, stamp(now - timedelta(hours=1)), delivery(1)),
        )
    Journal.for_worker(state).close()
    with _opened(state / "journal.db") as database:
        database.executescript(_SEED.format(incidents, now.isoformat()[:19], _APART_SECONDS))
        database.execute("UPDATE intake SET inbox = ?, last_delivery = ?", (identity, deliveries))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    try:
        yield database
    finally:
        database.close()


def quiet_site(stage: Stage, engine: DockerEngine, gpus: GpuHost) -> Site:
    """Return a site that tells nobody, on which there is no Prometheus to confirm anything."""
    return Site(stage, engine, gpus, policy=_POLICY, more_settings={"recheck": "1h"}).prepare()


def _stored(site: Site, pace: Pace) -> float:
    body = delivery_file(site.stage.folder, 1)
    return post(site.webhook, body, seconds=pace.seconds, token=site.token).rate


def _shown(site: Site) -> tuple[float, float, float]:
    return (
        _milliseconds(lambda: _get(site, "/")),
        _milliseconds(lambda: _get(site, "/incidents")),
        _milliseconds(lambda: _list(site), times=3),
    )


def _decided(site: Site, pace: Pace, turn: int) -> float:
    alerts = pace.of(_ALERTS)
    # Numbers that no seeded incident has.
    first = 2 * INCIDENTS + turn * alerts
    before = decisions_of(site)
    began = time.perf_counter()
    post_each(site, range(first, first + alerts))
    eventually(lambda: decisions_of(site) >= before + alerts, 120, "all are decided about")
    return alerts / (time.perf_counter() - began)


def post_each(site: Site, numbers: Iterable[int]) -> None:
    """Post an alert for each number in a delivery of its own, as the shipped routes do."""
    client = http.client.HTTPConnection(LOOPBACK, site.receiver_port, timeout=30)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {site.token}"}
    for one in numbers:
        client.request("POST", "/api/v1/alerts", delivery(1, first=one), headers)
        answer = client.getresponse()
        answer.read()
        assert answer.status == http.client.OK
    client.close()


def decisions_of(site: Site) -> float:
    """Return how many decisions the worker of *site* has made."""
    text = requests.get(f"http://{LOOPBACK}:{site.worker_port}/metrics", timeout=10).text
    lines = [x for x in text.splitlines() if x.startswith("remediator_decisions_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def _get(site: Site, path: str) -> None:
    headers = {"Authorization": f"Bearer {site.token}"}
    answer = requests.get(f"{site.url}{path}", headers=headers, timeout=30)
    assert answer.ok, answer.text


def _list(site: Site) -> None:
    command = [sys.executable, "-m", "remediator", "incidents", "list"]
    subprocess.run(command, env=site.environment(), check=True, capture_output=True)


def _milliseconds(act: Callable[[], None], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def _middle(
    stored: list[float], decided: list[float], shown: list[tuple[float, float, float]]
) -> Cost:
    overview, incidents, listing = (statistics.median(one) for one in zip(*shown, strict=True))
    return Cost(statistics.median(stored), statistics.median(decided), overview, incidents, listing)


def _verdicts(empty: Cost, full: Cost) -> list[Verdict]:
    def speed(what: str, full_ms: float, empty_ms: float) -> Verdict:
        return at_least(what, Amount(1000 / full_ms, "/s"), Amount(1000 / empty_ms, "/s"), 0.9)

    kept = "with all that kept"
    return [
        at_least(f"intake {kept}", Amount(full.stored, "/s"), Amount(empty.stored, "/s"), 0.9),
        at_least(f"decide {kept}", Amount(full.decided, "/s"), Amount(empty.decided, "/s"), 0.9),
        speed(f"page {kept}", full.overview, empty.overview),
        below(f"page {kept}: time", Amount(max(full.overview, full.incidents), "ms"), 100),
        speed(f"`incidents list` {kept}", full.listing, empty.listing),
    ]


def _table(empty: Cost, full: Cost, size: str, seeded: float) -> Table:
    names = {
        "stored": "deliveries stored per second, 8 connections",
        "decided": f"alerts taken and decided about per second, {_ALERTS} deliveries of one",
        "overview": "the page",
        "incidents": "the page of incidents",
        "listing": "`remediator incidents list`",
    }
    return Table(
        f"With {size} kept",
        ("what", "anew", "full"),
        [
            (text, number(getattr(empty, name)), number(getattr(full, name)))
            for name, text in names.items()
        ],
        [f"Receiver and worker run; filling the two databases took {seeded:.0f} s."],
    )


def _bytes_per_row(state: Path, pace: Pace) -> dict[str, float]:
    """Return what a kept delivery and a kept incident take on the disk, indexes included."""
    inbox, journal = state / "inbox" / "inbox.db", state / "journal.db"
    return {
        "delivery_row_bytes": inbox.stat().st_size / pace.of(DELIVERIES),
        "incident_rows_bytes": journal.stat().st_size / pace.of(INCIDENTS),
    }
