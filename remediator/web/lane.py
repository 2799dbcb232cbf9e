"""The way of deliveries past Flask: from a whole request to the bytes of its answer."""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, NamedTuple

from remediator.web.auth import DELIVERIES
from remediator.web.connection import Connection
from remediator.web.framing import Incoming
from remediator.web.storing import Storer
from remediator.web.taking import Offer, Reply, Taking

# What waits has been received whole: it must not pile up before it is stored.
_MOST_WAITING_BYTES = 4 * 1024 * 1024
_WORTH_HANDING_OVER_BYTES = 32 * 1024


class Waiting(NamedTuple):
    """A delivery that is to be stored, and who waits for the answer."""

    connection: Connection
    request: Any
    offer: Offer


Answered = tuple[Connection, Any, bytes]


class Lane:
    """Checks deliveries as they come, and stores together those that are there at the same time.

    Small ones are stored at once: that takes less than to have another thread do it. Larger ones
    are stored beside, and their connections wait for `finished`.
    """

    def __init__(self, taking: Taking) -> None:
        self._taking = taking
        self._storer = Storer(taking.store)
        self._waiting: list[Waiting] = []
        self._stored: list[Waiting] = []
        self._waiting_bytes = 0
        self._date = (0, "")

    def fileno(self) -> int:
        """Return the file descriptor that becomes readable when `finished` has something."""
        return self._storer.fileno()

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be taken before what waits is stored."""
        return self._waiting_bytes >= _MOST_WAITING_BYTES

    @property
    def is_busy(self) -> bool:
        """Whether something is being stored."""
        return bool(self._stored)

    @property
    def is_small(self) -> bool:
        """Whether what waits is stored in less time than it takes to hand it over."""
        return self._waiting_bytes < _WORTH_HANDING_OVER_BYTES

    def leads(self, incoming: Incoming) -> bool:
        """Tell whether *incoming* is a plain delivery; one to be explained is Flask's."""
        request = incoming.request
        return bool(request.path == DELIVERIES and request.method == "POST" and not request.query)

    def take(self, connection: Connection, incoming: Incoming) -> bytes | None:
        """Return the answer to what is refused; None if it waits to be stored."""
        request = incoming.request
        offer = Offer(
            incoming.body, connection.address, _joined(request.headers), incoming.is_whole
        )
        refusal = self._taking.refusal(offer)
        if refusal is not None:
            return self._bytes(request, refusal)
        self._waiting.append(Waiting(connection, request, offer))
        self._waiting_bytes += len(offer.body)
        return None

    def store(self) -> list[Answered]:
        """Store all that waits, now; return each one's connection, request and answer."""
        waiting = self._give_out()
        if not waiting:
            return []
        return self._answered(waiting, self._storer.store([one.offer for one in waiting]))

    def waiting(self) -> list[Connection]:
        """Return the connections whose deliveries wait to be stored."""
        return [one.connection for one in self._waiting]

    def begin(self) -> None:
        """Have all that waits stored beside; nothing may be in hand."""
        self._stored = self._give_out()
        if self._stored:
            self._storer.begin([one.offer for one in self._stored])

    def finished(self) -> list[Answered]:
        """Return what `begin` has stored, waiting for it if need be."""
        stored, self._stored = self._stored, []
        return self._answered(stored, self._storer.end()) if stored else []

    def _give_out(self) -> list[Waiting]:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return waiting

    def _answered(self, waiting: list[Waiting], replies: list[Reply]) -> list[Answered]:
        return [
            (one.connection, one.request, self._bytes(one.request, reply))
            for one, reply in zip(waiting, replies, strict=True)
        ]

    def _bytes(self, request: Any, reply: Reply) -> bytes:
        body = reply.body
        phrase = HTTPStatus(reply.status).phrase
        head = [
            f"HTTP/{request.version[0]}.{request.version[1]} {reply.status} {phrase}",
            f"Date: {self._today()}",
            f"Connection: {'close' if request.should_close() else 'keep-alive'}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        return "\r\n".join((*head, "", "")).encode("latin-1") + body

    def _today(self) -> str:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True))
        return self._date[1]


def _joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name; one that is given twice is a list, as WSGI has it."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
