"""The way of deliveries past Flask: from a whole request to the bytes of its answer."""

import logging
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from remediator.web.auth import DELIVERIES
from remediator.web.connection import Connection
from remediator.web.framing import Incoming
from remediator.web.taking import Offer, Reply, Taking

log = logging.getLogger(__name__)

# What waits has been received whole: it must not pile up before it is stored.
_MOST_WAITING_BYTES = 4 * 1024 * 1024


class Lane:
    """Checks deliveries as they come, and stores together those of one turn of the server."""

    def __init__(self, taking: Taking) -> None:
        self._taking = taking
        self._waiting: list[tuple[Connection, Any, Offer]] = []
        self._waiting_bytes = 0
        self._date = (0, "")

    @property
    def is_full(self) -> bool:
        """Whether what waits should be stored now."""
        return self._waiting_bytes >= _MOST_WAITING_BYTES

    def leads(self, incoming: Incoming) -> bool:
        """Tell whether *incoming* is a plain delivery; one to be explained is Flask's."""
        request = incoming.request
        return bool(request.path == DELIVERIES and request.method == "POST" and not request.query)

    def take(self, connection: Connection, incoming: Incoming) -> bytes | None:
        """Return the answer to what is refused; None if it waits for `store`."""
        request = incoming.request
        offer = Offer(
            incoming.body, connection.address, _joined(request.headers), incoming.is_whole
        )
        refusal = self._taking.refusal(offer)
        if refusal is not None:
            return self._bytes(request, refusal)
        self._waiting.append((connection, request, offer))
        self._waiting_bytes += len(offer.body)
        return None

    def store(self) -> list[tuple[Connection, Any, bytes]]:
        """Store what waits; return each one's connection, request and answer."""
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not waiting:
            return []
        try:
            replies = self._taking.store([offer for _, _, offer in waiting])
        except Exception:
            log.exception("a bug, please report it: %s deliveries are not stored", len(waiting))
            replies = [Reply(500, {"error": "not stored, send it again"})] * len(waiting)
        return [
            (connection, request, self._bytes(request, reply))
            for (connection, request, _), reply in zip(waiting, replies, strict=True)
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
