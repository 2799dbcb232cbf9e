"""Large deliveries are stored by a thread beside: in order, and all of them."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.bench.peers import delivery
from tests.peers.receiver import Receiver, marked, read_all

pytestmark = pytest.mark.integration

ALERTS = 100


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path_factory.mktemp("large"), settings="largest_body: 20000000\n")
    receiver.start()
    yield receiver
    receiver.stop()


def large(number: int) -> bytes:
    """A delivery that is not stored by the way."""
    return delivery(ALERTS, first=number * ALERTS)


def numbers_in(answers: bytes) -> list[int]:
    return [
        json.loads(part.partition(b"\r\n\r\n")[2])["delivery"]
        for part in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]
    ]


def test_large_and_small_ones_on_one_connection_are_answered_in_order(receiver: Receiver) -> None:
    bodies = [large(1), marked("between"), large(2), large(3), marked("last")]
    health = b"GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    sent = [receiver.head(f"Content-Length: {len(body)}") + body for body in bodies]

    answers = receiver.exchange(b"".join(sent), health)

    stored, _, last = answers.rpartition(b"HTTP/1.1 200 OK\r\n")
    assert b'"healthy": true' in last
    numbers = numbers_in(stored)
    kept = receiver.bodies()
    assert [kept[number - 1] for number in numbers] == bodies


def test_many_at_once_are_each_acknowledged_and_each_kept(receiver: Receiver) -> None:
    bodies = [large(10 + number) if number % 2 else marked(f"m {number}") for number in range(24)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(receiver.connect()) for _ in bodies]
        for client, body in zip(clients, bodies, strict=True):
            head = receiver.head(f"Content-Length: {len(body)}", "Connection: close")
            client.sendall(head + body)
        answers = [read_all(client) for client in clients]

    numbers = [number for answer in answers for number in numbers_in(answer)]
    kept = receiver.bodies()
    assert [kept[number - 1] for number in numbers] == bodies


def test_who_leaves_while_his_delivery_is_stored_disturbs_nobody(receiver: Receiver) -> None:
    for number in range(20):
        body = large(100 + number)
        with receiver.connect() as client:
            client.sendall(receiver.head(f"Content-Length: {len(body)}") + body)
    body = large(200)

    assert receiver.post(body).status_code == 200
    assert body in receiver.bodies()
