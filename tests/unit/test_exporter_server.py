"""The exporter's web server, spoken to as users, Prometheus and strangers do."""

import contextlib
import gzip
import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from remediator.exporter.families import Family
from remediator.exporter.rendering import FilledFamily
from remediator.exporter.server import ExporterServer
from tests.eventually import eventually
from tests.peers.ports import LOOPBACK

NUMBER = Family("number", "A number.")
MANY = Family("many", "More than fits into a socket.", ("label",))


class Metrics:
    """What the server serves; a scrape hangs while *gate* is closed."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.hanging = 0
        self.families: list[FilledFamily] = [NUMBER.of([((), 1.0)])]

    def __call__(self) -> Iterable[FilledFamily]:
        self.hanging += 1
        self.gate.wait(20)
        self.hanging -= 1
        return self.families


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(metrics: Metrics) -> Iterator[ExporterServer]:
    server = ExporterServer(LOOPBACK, 0, metrics)
    server.start()
    yield server
    metrics.gate.set()
    server.stop()


Ask = Callable[..., tuple[http.client.HTTPResponse, bytes]]


@pytest.fixture
def ask(server: ExporterServer) -> Iterator[Ask]:
    """Send one request on a connection that is kept, and return the answer with its body."""
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)) as client:

        def ask(
            path: str, method: str = "GET", body: bytes | None = None, **headers: str
        ) -> tuple[http.client.HTTPResponse, bytes]:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request(method, path, body=body, headers=named)
            answer = client.getresponse()
            return answer, answer.read()

        yield ask


def test_metrics_are_served_on_a_connection_that_is_kept(ask: Ask) -> None:
    for _ in range(3):
        answer, body = ask("/metrics?ignored=1")

        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert body.endswith(b"number 1.0\n")


def test_openmetrics_is_served_on_request(ask: Ask) -> None:
    answer, body = ask("/metrics", Accept="application/openmetrics-text;version=1.0.0")

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"number 1.0\n# EOF\n")


def test_the_first_page_links_what_there_is(ask: Ask) -> None:
    answer, body = ask("/")

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b'href="/metrics"' in body
    assert b'href="/health"' in body


@pytest.mark.parametrize("path", ["/", "/metrics", "/health", "/nothing"])
def test_a_head_request_gets_the_head_of_the_answer(ask: Ask, path: str) -> None:
    expected, body = ask(path)
    answer, nothing = ask(path, "HEAD")

    assert (answer.status, nothing) == (expected.status, b"")
    assert answer.headers["Content-Type"] == expected.headers["Content-Type"]
    assert answer.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(ask: Ask, method: str) -> None:
    answer, _ = ask("/metrics", method, b"GET /health HTTP/1.1\r\n\r\n")

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    # The body is not taken for a second request.
    assert ask("/nothing")[0].status == 404


def test_a_client_on_this_machine_gets_no_gzip(ask: Ask) -> None:
    answer, body = ask("/metrics", Accept_Encoding="gzip")

    assert answer.headers["Content-Encoding"] is None
    assert body.endswith(b"number 1.0\n")


def own_address() -> str | None:
    """Return an address of this machine that is not loopback; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            # Nothing is sent: this only asks for the route.
            client.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(client.getsockname()[0])


@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip;q=0.5", "identity", ""])
def test_a_client_elsewhere_gets_gzip_if_it_asks(metrics: Metrics, accepted: str) -> None:
    address = own_address() or LOOPBACK
    server = ExporterServer(address, 0, metrics)
    server.start()
    connection = http.client.HTTPConnection(address, server.port, timeout=5)
    with contextlib.closing(connection) as client:
        client.request("GET", "/metrics", headers={"Accept-Encoding": accepted})
        answer = client.getresponse()
        body = answer.read()
    server.stop()

    is_compressed = "gzip" in accepted and address != LOOPBACK
    assert answer.headers["Content-Encoding"] == ("gzip" if is_compressed else None)
    assert (gzip.decompress(body) if is_compressed else body).endswith(b"number 1.0\n")


def test_health_answers_while_every_scrape_hangs(server: ExporterServer, metrics: Metrics) -> None:
    metrics.gate.clear()
    answers: list[int] = []
    scrapers = [threading.Thread(target=lambda: answers.append(get(server))) for _ in range(8)]
    for scraper in scrapers:
        scraper.start()
    eventually(lambda: metrics.hanging == 8, 5, "eight scrapes hang")

    assert get(server, "/health") == 200
    assert answers == []
    metrics.gate.set()
    for scraper in scrapers:
        scraper.join()
    assert answers == [200] * 8


def get(server: ExporterServer, path: str = "/metrics") -> int:
    client = http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)
    with contextlib.closing(client):
        client.request("GET", path)
        answer = client.getresponse()
        answer.read()
        return answer.status


def test_slow_readers_and_silent_clients_hold_up_nobody(
    server: ExporterServer, metrics: Metrics
) -> None:
    metrics.families = [MANY.of([((f"{number:01000}",), 1.0) for number in range(20_000)])]
    with contextlib.ExitStack() as strangers:
        for words in (b"GET /metrics HTTP/1.1\r\n\r\n", b"", b"GET /met"):
            for _ in range(3):
                stranger = strangers.enter_context(
                    socket.create_connection((LOOPBACK, server.port))
                )
                stranger.sendall(words)

        assert get(server) == 200
        assert get(server, "/health") == 200


def test_one_connection_too_many_is_hung_up_on_and_others_come_later(
    server: ExporterServer,
) -> None:
    with contextlib.ExitStack() as strangers:
        for _ in range(100):
            strangers.enter_context(socket.create_connection((LOOPBACK, server.port)))

        with socket.create_connection((LOOPBACK, server.port), timeout=5) as late:
            assert late.recv(1) == b""
    eventually(lambda: is_served(server), 5, "there is room again")


def is_served(server: ExporterServer) -> bool:
    with contextlib.suppress(http.client.HTTPException, OSError):
        return get(server, "/health") == 200
    return False
