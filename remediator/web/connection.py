"""One client's connection: what it sent, what it is still to be sent, and how long it may take.

Nothing here waits: each method does what can be done now.
"""

import socket
import time
from dataclasses import dataclass
from enum import Enum, auto
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from remediator.web.framing import GoAhead, Incoming, Malformed, RequestReader

_READ_SIZE = 64 * 1024
# Whoever is in the middle of a body has more of it.
_READ_SIZE_IN_BODY = 256 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take; times in seconds, sizes in bytes.

    Alertmanager gives up after 10 s, so an honest delivery is never near them. What is too slow
    is cut off without an answer: a 4xx would tell Alertmanager not to try again.
    """

    body: int
    connections: int = 900
    memory: int = 128 * 1024 * 1024
    head_seconds: float = 10
    body_seconds: float = 30
    idle_seconds: float = 75
    sending_seconds: float = 30
    lingering_seconds: float = 2


class Phase(Enum):
    """What a connection is waiting for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    SENDING = auto()
    LINGERING = auto()
    CLOSED = auto()


class Connection:
    """A connection and its phase, each of which has a deadline on the monotonic clock."""

    def __init__(
        self, client: socket.socket, peer: Any, reader: RequestReader, limits: Limits
    ) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = peer
        self.local = client.getsockname()
        self.phase = Phase.HEAD
        self._socket = client
        self._reader = reader
        self._seconds = _seconds(limits)
        self._outgoing = bytearray()
        self._has_ended = False
        self._is_stalled = False
        self._is_last = False
        self._must_linger = False
        self._step = (Phase.HEAD, reader.number)
        self.deadline = time.monotonic() + limits.head_seconds

    @property
    def address(self) -> str:
        """The client's address, without its port."""
        return str(self.peer[0])

    def fileno(self) -> int:
        """Return the file descriptor, which is what selectors ask for."""
        return self._socket.fileno()

    @property
    def held(self) -> int:
        """How many bytes this connection makes us hold."""
        return self._reader.held + len(self._outgoing)

    @property
    def interest(self) -> int:
        """Which events to wait for; while it is sent an answer, nothing more is read."""
        return EVENT_WRITE if self.phase is Phase.SENDING else EVENT_READ

    @property
    def has_more(self) -> bool:
        """Whether there may be a whole request among what has been received."""
        is_taking = self.phase in {Phase.HEAD, Phase.BODY}
        return is_taking and not self._is_stalled and self._reader.held > 0

    @property
    def is_busy(self) -> bool:
        """Whether something has begun here that has not come to its end."""
        resting = self.phase in {Phase.IDLE, Phase.HEAD} and not self._reader.has_begun
        return not resting and self.phase is not Phase.CLOSED

    def receive(self) -> None:
        """Take what has arrived; OSError if the connection is broken."""
        try:
            in_body = self._reader.is_in_body
            data = self._socket.recv(_READ_SIZE_IN_BODY if in_body else _READ_SIZE)
        except BlockingIOError:
            return
        if not data:
            self._has_ended = True
        elif not self._is_last:
            self._reader.feed(data)

    def next(self) -> Incoming | GoAhead | Malformed | None:
        """Return what is to be done for this client now; None if it must be waited for."""
        if self._outgoing:
            return None
        found = None if self._is_last else self._reader.next()
        self._is_stalled = found is None
        return found

    def send(self, data: bytes) -> None:
        """Send *data* as soon as the client takes it."""
        self._outgoing += data

    def finish(self, *, unread: bool) -> None:
        """Close once all is sent; *unread* if the client may still be sending."""
        self._is_last = True
        self._must_linger = unread or self._reader.held > 0

    def advance(self) -> None:
        """Send what can be sent and enter the phase that follows; OSError if it is broken."""
        self._flush()
        if not self._outgoing and self._is_last and self._must_linger:
            # To close with input unread would make the kernel discard the answer as well.
            self._must_linger = False
            self._socket.shutdown(socket.SHUT_WR)
            self._enter(Phase.LINGERING)
        else:
            self._enter(self._next_phase())

    def close(self) -> None:
        """Close at once."""
        self.phase = Phase.CLOSED
        self._socket.close()

    def _next_phase(self) -> Phase:
        if self._outgoing:
            return Phase.SENDING
        # Who has ended may still read: what came whole before is answered first.
        if self._has_ended and self._is_stalled:
            return Phase.CLOSED
        if self._is_last:
            return Phase.LINGERING if self.phase is Phase.LINGERING else Phase.CLOSED
        if self._reader.is_in_body:
            return Phase.BODY
        # A new connection that says nothing isn't given the time of one that proved itself.
        is_idle = not self._reader.has_begun and self._reader.number > 1
        return Phase.IDLE if is_idle else Phase.HEAD

    def _enter(self, phase: Phase) -> None:
        step = (phase, self._reader.number)
        if step != self._step:
            self.deadline = time.monotonic() + self._seconds.get(phase, 0)
        self.phase, self._step = phase, step

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            return


def _seconds(limits: Limits) -> dict[Phase, float]:
    return {
        Phase.IDLE: limits.idle_seconds,
        Phase.HEAD: limits.head_seconds,
        Phase.BODY: limits.body_seconds,
        Phase.SENDING: limits.sending_seconds,
        Phase.LINGERING: limits.lingering_seconds,
    }
