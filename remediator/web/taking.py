"""Take deliveries: who may deliver, what is a delivery, and several of them to the disk at once.

The server hands deliveries here without Flask, which costs more than all that is done with one.
Flask's view of the same path, which also explains, comes here as well: there is one answer.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from remediator.clock import Clock
from remediator.errors import DeliveryError, InboxError, SetupError
from remediator.inbox.store import Inbox
from remediator.metrics import ReceiverMetrics
from remediator.payload import check_delivery
from remediator.web.auth import TokenFile

log = logging.getLogger(__name__)

_LONGEST_PROGRAM = 100
_SOON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One POST of a delivery; ``body`` is empty if it was refused unread (not ``is_whole``)."""

    body: bytes
    address: str
    headers: Mapping[str, str]
    is_whole: bool = True

    @property
    def sender(self) -> str:
        """Where it comes from, as it is kept: the address, and what the client calls itself."""
        return f"{self.address} {self.headers.get('USER-AGENT', '')[:_LONGEST_PROGRAM]}"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to an offer: status, what the JSON says, further headers."""

    status: int
    fields: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The JSON, as it is sent."""
        return (json.dumps(self.fields, ensure_ascii=False) + "\n").encode()


class Taking:
    """Checks offers one by one, and stores those that passed together; counts all of them."""

    def __init__(
        self,
        inbox: Inbox,
        token: TokenFile | None,
        ring: Callable[[], None],
        metrics: ReceiverMetrics,
        clock: Clock,
        largest_body: int,
    ) -> None:
        self._inbox = inbox
        self._token = token
        self._ring = ring
        self._clock = clock
        self._largest_body = largest_body
        self._results = metrics.deliveries
        self._stored = metrics.deliveries.labels("stored")
        self._store_seconds = metrics.store_seconds
        self._is_failing = False

    def refusal(self, offer: Offer) -> Reply | None:
        """Return why *offer* is not taken, None if it may be stored."""
        reply = self.unwelcome(offer)
        if reply is None and not offer.is_whole:
            return self.too_large()
        return self.malformed(offer) if reply is None else reply

    def unwelcome(self, offer: Offer) -> Reply | None:
        """Return what the head alone forbids."""
        return self._unauthorized(offer) or self._unreadable(offer)

    def too_large(self) -> Reply:
        """Return the answer to a body that is over the limit."""
        self._results.labels("too_large").inc()
        most = self._largest_body
        return Reply(413, {"error": f"larger than {most} bytes: group alerts more finely"})

    def malformed(self, offer: Offer) -> Reply | None:
        """Return what is wrong with the body."""
        try:
            check_delivery(offer.body)
        except DeliveryError as error:
            self._results.labels("refused").inc()
            log.warning("delivery refused: %s", error)
            return Reply(400, {"error": str(error)})
        return None

    def store(self, offers: Sequence[Offer]) -> list[Reply]:
        """Store what was not refused, in one transaction; 200 means that it is on the disk."""
        bodies = [(offer.body, offer.sender) for offer in offers]
        began = time.monotonic()
        try:
            with self._store_seconds.time():
                numbers = self._inbox.store_all(bodies, self._clock.now())
        except InboxError as error:
            if len(offers) > 1 and time.monotonic() - began < _SOON_SECONDS:
                # One that does not fit on the disk must not keep out those that do. A lock that
                # was waited for in vain is not waited for once more by each.
                return [reply for offer in offers for reply in self.store([offer])]
            self._results.labels("failed").inc(len(offers))
            self._note_failure(error)
            again = Reply(503, {"error": "the inbox cannot be written, send it again"})
            return [again] * len(offers)
        return self._acknowledged(numbers)

    def _acknowledged(self, numbers: list[int]) -> list[Reply]:
        self._stored.inc(len(numbers))
        if self._is_failing:
            log.info("deliveries are stored again")
            self._is_failing = False
        self._ring()
        return [Reply(200, {"delivery": number}) for number in numbers]

    def _unauthorized(self, offer: Offer) -> Reply | None:
        if self._token is None:
            return None
        try:
            if self._token.accepts(offer.headers.get("AUTHORIZATION")):
                return None
        except SetupError as error:
            self._results.labels("failed").inc()
            self._note_failure(error)
            return Reply(503, {"error": "the receiver has no usable token, see its log"})
        self._results.labels("unauthorized").inc()
        log.warning("delivery without the right bearer token from %s", offer.address)
        return Reply(
            401,
            {"error": "a bearer token is needed: see authorization.credentials_file"},
            {"WWW-Authenticate": 'Bearer realm="remediator"'},
        )

    def _unreadable(self, offer: Offer) -> Reply | None:
        media_type = offer.headers.get("CONTENT-TYPE", "").partition(";")[0].strip().lower()
        encoding = offer.headers.get("CONTENT-ENCODING", "identity").strip().lower()
        if media_type != "application/json":
            problem = "Content-Type must be application/json"
        elif encoding != "identity":
            problem = "Content-Encoding is not supported: send it as it is"
        else:
            return None
        self._results.labels("refused").inc()
        return Reply(415, {"error": problem})

    def _note_failure(self, error: Exception) -> None:
        """Log the first of a row of failures: Alertmanager tries again at once, and often."""
        if not self._is_failing:
            log.error("no delivery can be taken: %s", error)
        self._is_failing = True
