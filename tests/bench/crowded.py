"""Honest deliveries while hundreds of connections have said half of something and wait."""

import contextlib
import http.client
import itertools
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.bench.intake import Server, started_receiver
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.peers import Webhook, delivery
from tests.bench.report import Amount, Result, Table, Verdict, below, number
from tests.bench.timing import percentile
from tests.peers.ports import LOOPBACK
from tests.peers.stage import Stage

_SLOW = 512
_HONEST = 20
_PATIENCE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Answers:
    """How many honest deliveries were answered, and the milliseconds each of those took."""

    answered: int
    asked: int
    times: list[float]


def bench_crowded(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure with half heads and with half bodies, the receiver and `webhook` in turns."""
    peer = Webhook(stage)
    receiver = started_receiver(stage)
    servers = {
        "receiver": Server(receiver.webhook, receiver.daemon.pid, receiver.token),
        "`webhook`": Server(peer.url, peer.pid),
    }
    found: dict[tuple[str, str], list[Answers]] = {}
    for half, (name, server) in itertools.product(("head", "body"), servers.items()):
        rounds = [_round(server, half, pace) for _ in range(pace.rounds)]
        found[half, name] = rounds
    receiver.stop()
    return Result([_table(found, pace)], _verdicts(found))


def _round(server: Server, half: str, pace: Pace) -> Answers:
    with _slow_clients(server, half, pace.of(_SLOW)):
        asked = pace.of(_HONEST)
        times = [time for time in (_deliver(server) for _ in range(asked)) if time is not None]
    return Answers(len(times), asked, times)


@contextlib.contextmanager
def _slow_clients(server: Server, half: str, count: int) -> Iterator[None]:
    url, body = urlsplit(server.url), delivery(1)
    head = "\r\n".join(
        (
            f"POST {url.path} HTTP/1.1",
            "Host: receiver",
            *(f"{name}: {value}" for name, value in _headers(server).items()),
            f"Content-Length: {len(body)}",
        )
    )
    said = head.encode() if half == "head" else f"{head}\r\n\r\n".encode() + body[:100]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = socket.create_connection((LOOPBACK, url.port or 0), timeout=10)
            stack.enter_context(client)
            client.sendall(said)
        yield


def _headers(server: Server) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    return headers | ({"Authorization": f"Bearer {server.token}"} if server.token else {})


def _deliver(server: Server) -> float | None:
    """Return the milliseconds of one delivery on a connection of its own, None without a 200."""
    url, body = urlsplit(server.url), delivery(1)
    began = time.perf_counter()
    client = http.client.HTTPConnection(LOOPBACK, url.port, timeout=_PATIENCE_SECONDS)
    try:
        client.request("POST", url.path, body, _headers(server))
        answer = client.getresponse()
        answer.read()
    except OSError:
        return None
    finally:
        client.close()
    return (time.perf_counter() - began) * 1000 if answer.status == http.client.OK else None


def _verdicts(found: dict[tuple[str, str], list[Answers]]) -> list[Verdict]:
    verdicts = []
    for half in ("head", "body"):
        ours, theirs = found[half, "receiver"], found[half, "`webhook`"]
        what = f"honest deliveries beside {_SLOW} half {'heads' if half == 'head' else 'bodies'}"
        least = min(one.answered / one.asked for one in ours)
        verdicts.append(
            Verdict(
                f"{what}: answered",
                f"{min(one.answered for one in ours)} of {ours[0].asked}",
                f"{min(one.answered for one in theirs)} of {theirs[0].asked}",
                least,
                f"{ours[0].asked} of {ours[0].asked}",
                least == 1,
            )
        )
        against = str(Amount(_median(theirs), "ms"))
        verdicts.append(below(f"{what}: p50", Amount(_median(ours), "ms"), 10, against))
    return verdicts


def _median(rounds: list[Answers]) -> float:
    times = [time for one in rounds for time in one.times]
    return statistics.median(times) if times else float("inf")


def _table(found: dict[tuple[str, str], list[Answers]], pace: Pace) -> Table:
    return Table(
        f"{_HONEST} honest deliveries beside {pace.of(_SLOW)} clients that stopped half-way",
        ("half a", "server", "answered", "p50", "p99"),
        [
            (
                half,
                name,
                f"{sum(one.answered for one in rounds)} of {sum(one.asked for one in rounds)}",
                number(_median(rounds)),
                number(percentile([time for one in rounds for time in one.times] or [0.0], 99)),
            )
            for (half, name), rounds in found.items()
        ],
        ["Each on a connection of its own; the receiver is started as for the rows above."],
    )
