"""A Prometheus that answers slowly, endlessly or by halves costs its timeout and is silent."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from remediator.core.observation import Verdict
from remediator.errors import SourceError
from remediator.sources.deadline import DeadlineSession, NoAnswerError
from remediator.sources.prometheus import PrometheusSource
from tests.builders import MINUTE, NOON, an_alert
from tests.peers.ports import LOOPBACK

SECONDS = 0.6
ANSWER = b'{"status":"success","data":{"result":[{"metric":{},"value":[1,"7"]}]}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n\r\n"
Speak = Callable[["Server", socket.socket], None]


class Server:
    """Takes connections one by one, and says on each what it is told to, question by question."""

    def __init__(self, *speak: Speak) -> None:
        self._speak = speak
        self._listener = socket.create_server((LOOPBACK, 0))
        self._stopping = threading.Event()
        self.connections = 0
        self.url = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def drip(self, client: socket.socket, data: bytes) -> None:
        """Send byte by byte, each well within any read timeout, until nobody listens."""
        # No longer than a test may take, should nobody hang up.
        for number in range(min(len(data), 100)):
            if self._stopping.wait(SECONDS / 6):
                return
            client.sendall(data[number : number + 1])

    def _serve(self) -> None:
        speak = iter(self._speak)
        with contextlib.suppress(OSError, StopIteration):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                with client, contextlib.suppress(OSError):
                    while client.recv(65536):
                        next(speak)(self, client)


def whole(_server: Server, client: socket.socket) -> None:
    client.sendall(HEAD + LENGTH % len(ANSWER) + ANSWER)


def dripping_head(server: Server, client: socket.socket) -> None:
    server.drip(client, HEAD * 100)


def dripping_body(server: Server, client: socket.socket) -> None:
    client.sendall(HEAD + LENGTH % 5000)
    server.drip(client, ANSWER + b" " * 5000)


def dripping_without_a_length(server: Server, client: socket.socket) -> None:
    client.sendall(HEAD + b"Connection: close\r\n\r\n" + ANSWER)
    server.drip(client, b" " * 5000)


def dripping_chunks(server: Server, client: socket.socket) -> None:
    client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    server.drip(client, b"1\r\n \r\n" * 1000)


def silent(server: Server, client: socket.socket) -> None:
    del server
    client.recv(1)


def half(_server: Server, client: socket.socket) -> None:
    client.sendall(HEAD + LENGTH % 5000 + ANSWER)
    client.shutdown(socket.SHUT_RDWR)


def endless(_server: Server, client: socket.socket) -> None:
    client.sendall(HEAD + b"Connection: close\r\n\r\n")
    while True:
        client.sendall(b" " * 65536)


def saying(body: bytes) -> Speak:
    return lambda _server, client: client.sendall(HEAD + LENGTH % len(body) + body)


@pytest.fixture
def took() -> Callable[[], float]:
    began = time.monotonic()
    return lambda: time.monotonic() - began


def source(server: Server) -> PrometheusSource:
    return PrometheusSource(server.url, timedelta(seconds=SECONDS), MINUTE)


@pytest.mark.parametrize(
    "speak",
    [dripping_head, dripping_body, dripping_without_a_length, dripping_chunks, silent],
)
def test_the_whole_answer_has_to_come_in_time(speak: Speak, took: Callable[[], float]) -> None:
    with Server(speak) as server:
        confirmed = source(server).confirm(an_alert(), NOON)

        assert confirmed.report.verdict is Verdict.SILENT
        assert confirmed.report.says.startswith(f"no answer from Prometheus at {server.url}/api")
        # Dripping takes twice as long.
        assert took() < 5


def test_what_is_cut_off_is_said_to_be_late(took: Callable[[], float]) -> None:
    with (
        Server(dripping_body) as server,
        pytest.raises(SourceError, match=r"/api/v1/query: not complete within 0\.6 s"),
    ):
        source(server).value("up")
    assert took() >= SECONDS


@pytest.mark.parametrize(
    ("speak", "why"),
    [
        pytest.param(half, "ProtocolError|IncompleteRead", id="half of it"),
        pytest.param(saying(b"<html>"), "JSONDecodeError", id="something else"),
        pytest.param(saying(b"[" * 100_000), "RecursionError", id="deeply nested"),
        pytest.param(saying(b'{"status":"success","data":[7]}'), "TypeError", id="a list"),
        pytest.param(saying(b'{"status":"success"}'), "KeyError", id="nothing in it"),
        pytest.param(saying(b"7"), "AttributeError", id="a number"),
        pytest.param(saying(b'{"status":"error","error":"bad"}'), "refused .*: bad", id="refusal"),
    ],
)
def test_what_is_no_answer_is_silence(speak: Speak, why: str) -> None:
    with Server(speak) as server, pytest.raises(SourceError, match=why):
        source(server).value("up")


def test_an_answer_without_end_is_not_kept(took: Callable[[], float]) -> None:
    with Server(endless) as server:
        session = DeadlineSession(60, largest=1_000_000)
        with pytest.raises(NoAnswerError, match="larger than 1000000 bytes"):
            session.get(server.url, {})
    assert took() < 10


def test_after_a_late_answer_the_next_one_is_heard_on_a_new_connection() -> None:
    with Server(whole, whole, dripping_body, whole) as server:
        asking = source(server)

        assert (asking.value("up"), asking.value("up"), server.connections) == (7, 7, 1)
        with pytest.raises(SourceError):
            asking.value("up")
        assert (asking.value("up"), server.connections) == (7, 2)


def test_a_server_that_is_not_there_is_silent_at_once(took: Callable[[], float]) -> None:
    with Server() as server:
        url = server.url
    with pytest.raises(SourceError, match="ConnectionError"):
        PrometheusSource(url, timedelta(seconds=30), MINUTE).value("up")
    assert took() < 5
