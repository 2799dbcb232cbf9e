"""Slow, silent and greedy clients, kill -9 and SIGTERM under load: nothing acknowledged is lost."""

import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.eventually import eventually, patience
from tests.peers.ports import answers
from tests.peers.receiver import FIRING, Receiver, marked, read_all

pytestmark = pytest.mark.integration

CLIENTS = 4


@pytest.fixture
def receiver(folder: Path) -> Iterator[Receiver]:
    """A started receiver."""
    receiver = Receiver(folder / "receiver")
    receiver.start()
    yield receiver
    receiver.stop()


def _limited(folder: Path, **limits: float) -> Receiver:
    return Receiver(folder / "receiver", settings="largest_body: 1000000\n", limits=limits)


def _slowest_of_20_deliveries(receiver: Receiver) -> float:
    """Return how long the slowest of 20 honest deliveries took, each on its own connection."""
    times = []
    for number in range(20):
        began = time.monotonic()
        assert receiver.post(marked(f"honest {number}")).status_code == 200
        times.append(time.monotonic() - began)
    return max(times)


def test_512_silent_and_half_spoken_connections_delay_nobody(receiver: Receiver) -> None:
    half_body = receiver.head(f"Content-Length: {len(FIRING)}") + FIRING[:100]
    beginnings = itertools.cycle([b"", half_body[:60], half_body])
    with contextlib.ExitStack() as stack:
        for beginning in itertools.islice(beginnings, 512):
            client = stack.enter_context(receiver.connect())
            client.sendall(beginning)

        slowest = _slowest_of_20_deliveries(receiver)

    assert slowest < 1 * patience()


def test_clients_that_never_read_delay_nobody(receiver: Receiver) -> None:
    request = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(receiver.connect())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.send(request * 5000)

        slowest = _slowest_of_20_deliveries(receiver)

    assert slowest < 1 * patience()


def test_a_delivery_that_comes_byte_by_byte_is_taken(receiver: Receiver) -> None:
    with receiver.connect() as client:
        sent = receiver.head(f"Content-Length: {len(FIRING)}", "Connection: close") + FIRING
        for position in range(len(sent)):
            client.sendall(sent[position : position + 1])
            if position % 100 == 0:
                assert requests.get(f"{receiver.url}/-/healthy", timeout=10).ok

        assert read_all(client).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("beginning", ["nothing", "half a head", "half a body", "no reading"])
def test_who_is_too_slow_is_cut_off_without_an_answer(folder: Path, beginning: str) -> None:
    short = {f"{phase}_seconds": 0.5 for phase in ("head", "body", "idle", "sending", "lingering")}
    receiver = _limited(folder, **short)
    receiver.start()
    head = receiver.head("Content-Length: 100")
    large = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 5000
    says = {"nothing": b"", "half a head": head[:-1], "half a body": head, "no reading": large}
    try:
        with receiver.connect() as client:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.send(says[beginning])

            eventually(lambda: _connections(receiver) == 0, 10, "it to be cut off")

            client.settimeout(5)
            assert beginning == "no reading" or read_all(client) == b""
        assert receiver.post().status_code == 200
    finally:
        receiver.stop()


def test_more_connections_than_may_be_cost_only_the_oldest(folder: Path) -> None:
    receiver = _limited(folder, connections=20)
    receiver.start()
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(receiver.connect()) for _ in range(200)]

            assert _slowest_of_20_deliveries(receiver) < 1 * patience()

            assert read_all(clients[0]) == b""
            assert _connections(receiver) <= 20
    finally:
        receiver.stop()


def test_half_bodies_cannot_fill_the_memory(folder: Path) -> None:
    receiver = _limited(folder, memory=2_000_000)
    receiver.start()
    part = receiver.head("Content-Length: 900000") + bytes(800_000)
    try:
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(10):
                clients.append(stack.enter_context(receiver.connect()))
                with contextlib.suppress(ConnectionError):
                    clients[-1].sendall(part)
            eventually(lambda: _connections(receiver) <= 2, 10, "most to be cut off")

            assert _slowest_of_20_deliveries(receiver) < 1 * patience()
    finally:
        receiver.stop()


def test_a_client_that_says_more_than_it_should_still_reads_its_answer(receiver: Receiver) -> None:
    head = receiver.head("Content-Length: 1000000000")

    answer = receiver.exchange(head, bytes(2_000_000))

    assert answer.startswith(b"HTTP/1.1 413 ")


class _Load:
    """Clients that deliver without pause, each delivery marked, and remember what was answered."""

    def __init__(self, receiver: Receiver) -> None:
        self.acknowledged: list[str] = []
        self.others: list[str] = []
        self._receiver = receiver
        self._token = receiver.token
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._deliver) for _ in range(CLIENTS)]

    def __enter__(self) -> "_Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until *count* more deliveries have been acknowledged."""
        enough = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= enough, 20, f"{count} more deliveries")

    def _deliver(self) -> None:
        with requests.Session() as session:
            session.headers["Content-Type"] = "application/json"
            session.headers["Authorization"] = f"Bearer {self._token}"
            while not self._stop.is_set():
                number = next(self._numbers)
                marker = f"delivery {number}"
                # Every other one is long, and stored by a thread beside.
                body = marked(marker) + b" " * (40_000 * (number % 2))
                try:
                    answer = session.post(self._receiver.webhook, body, timeout=10)
                except requests.ConnectionError:
                    continue
                if answer.status_code == requests.codes.ok:
                    self.acknowledged.append(marker)
                else:
                    self.others.append(f"{answer.status_code} {answer.text}")


@pytest.mark.parametrize("only_the_parent", [False, True], ids=["all", "only the parent"])
def test_kill_9_under_load_loses_nothing_that_was_acknowledged(
    receiver: Receiver, only_the_parent: bool
) -> None:
    with _Load(receiver) as load:
        for _ in range(5):
            load.more(50)
            if only_the_parent:
                receiver.daemon.kill()
            else:
                receiver.kill_all()
            receiver.start()
        load.more(50)

    stored = receiver.markers()
    assert [marker for marker in load.acknowledged if not stored[marker]] == []
    assert load.others == []


def test_a_worker_whose_parent_was_killed_gives_the_port_free(receiver: Receiver) -> None:
    receiver.daemon.kill()

    eventually(lambda: not answers(receiver.port), 5, "the port to be free")


def test_sigterm_under_load_answers_what_came_and_exits_with_0(receiver: Receiver) -> None:
    with _Load(receiver) as load:
        for _ in range(3):
            load.more(50)
            receiver.daemon.signal(signal.SIGTERM)
            assert receiver.daemon.wait(10) == 0
            receiver.start()

    stored = receiver.markers()
    assert [marker for marker in load.acknowledged if not stored[marker]] == []
    assert load.others == []


def test_sigterm_waits_for_a_delivery_that_is_on_its_way(receiver: Receiver) -> None:
    with receiver.connect() as client, receiver.connect() as silent:
        client.sendall(receiver.head(f"Content-Length: {len(FIRING)}") + FIRING[:-1])
        eventually(lambda: _connections(receiver) == 2, 5, "both to be accepted")

        receiver.daemon.signal(signal.SIGTERM)
        assert read_all(silent) == b""
        client.sendall(FIRING[-1:])

        answer = read_all(client)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
        assert receiver.daemon.wait(10) == 0


def test_sighup_replaces_the_worker_without_losing_a_delivery(receiver: Receiver) -> None:
    before = _children(receiver)
    with _Load(receiver) as load:
        load.more(50)
        receiver.daemon.signal(signal.SIGHUP)
        eventually(lambda: not _children(receiver) & before, 10, "another worker")
        load.more(50)

    stored = receiver.markers()
    assert [marker for marker in load.acknowledged if not stored[marker]] == []
    assert load.others == []


def _children(receiver: Receiver) -> set[str]:
    pid = receiver.daemon.pid
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _connections(receiver: Receiver) -> int:
    """How many connections the receiver's worker has open."""
    sockets = 0
    for child in _children(receiver):
        for file in Path(f"/proc/{child}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets += str(file.readlink()).startswith("socket:")
    # All but the listening one, and the one by which the worker is woken.
    return sockets - 2
