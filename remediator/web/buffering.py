"""A gunicorn worker that no slow client can occupy.

It keeps all connections in one selector and hands the application whole requests only, so that
a client which sends half a request, or does not read its answer, costs a little memory until its
deadline and nobody else any time. gunicorn's own workers give each connection a thread or a
process and are starved by a few dozen silent ones; nginx in front would do the same as this.

The application runs in the same thread, one request at a time. Deliveries go past it: those that
are there at the same time are written to the disk together, and answered when they are on it.
"""

import io
import logging
import os
import resource
import selectors
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.base import Worker

from remediator.web.connection import Connection, Phase
from remediator.web.framing import GoAhead, Incoming, Malformed, RequestReader
from remediator.web.lane import Answered, Lane
from remediator.web.written import Written, refusal

log = logging.getLogger(__name__)

_TURN_SECONDS = 0.5
_ACCEPTED_PER_TURN = 64
_SPARE_FILES = 64
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BufferingWorker(Worker):  # type: ignore[misc]  # gunicorn ships no types
    """The worker process; its application tells it its `Limits` and who may send a body."""

    def run(self) -> None:
        """Serve until told to stop, then answer what has begun to arrive."""
        self._limits = self.app.limits
        self._lane = Lane(self.wsgi.taking)
        # Those whose delivery is being stored: they are not watched meanwhile.
        self._paused: set[Connection] = set()
        self._selector = selectors.DefaultSelector()
        # Those that began their present request, or pause, longest ago come first.
        self._connections: OrderedDict[Connection, None] = OrderedDict()
        self._unfinished: dict[Connection, None] = {}
        self._held = 0
        self._next_look = 0.0
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(self._limits.connections, soft - _SPARE_FILES))
        if not self._watch_what_stops_us():
            return
        for listener in self.sockets:
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
        self._selector.register(self._lane, selectors.EVENT_READ, self._answer_stored)
        while self.alive:
            self._turn()
        self._drain()

    def _watch_what_stops_us(self) -> bool:
        """Wake at once at a signal, and when the parent was killed, which sends none."""
        try:
            parent = os.pidfd_open(self.ppid)
        except ProcessLookupError:
            return False
        self._selector.register(parent, selectors.EVENT_READ, partial(self._orphaned, parent))
        self._selector.register(self.PIPE[0], selectors.EVENT_READ, self._wake)
        return bool(self.ppid == os.getppid())

    def _orphaned(self, parent: int, _events: int) -> None:
        log.warning("the parent process was killed, ending")
        self._selector.unregister(parent)
        self.alive = False

    def _wake(self, _events: int) -> None:
        os.read(self.PIPE[0], 4096)

    def _turn(self) -> None:
        """Do what can be done for every connection once, waiting only if there is nothing."""
        self.notify()
        unfinished = list(self._unfinished)
        happened = self._selector.select(0 if unfinished else _TURN_SECONDS / 2)
        for key, events in happened:
            key.data(events)
        for connection in unfinished:
            if connection in self._unfinished:
                self._guarded(connection, self._proceed)
        self._store()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _TURN_SECONDS
            self._cut_off_the_late(now)
        if not happened and not unfinished:
            self.wsgi.prepare()

    def _accept(self, listener: Any, _events: int = 0, most: int = _ACCEPTED_PER_TURN) -> None:
        for _ in range(most):
            try:
                client, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("a connection could not be accepted: %s", error)
                self._cut_off_the_oldest()
                return
            self._admit(client, peer)

    def _admit(self, client: socket.socket, peer: Any) -> None:
        reader = RequestReader(self.cfg, peer, self._limits.body, self.app.accepts_body)
        connection = Connection(client, peer, reader, self._limits)
        self._connections[connection] = None
        action = partial(self._on_event, connection)
        self._selector.register(connection, connection.interest, action)
        while len(self._connections) > self._most:
            self._cut_off_the_oldest()

    def _on_event(self, connection: Connection, events: int) -> None:
        if connection.phase is Phase.CLOSED:
            return
        # Whose requests wait for their turn isn't read from, or the waiting ones would pile up.
        if events & selectors.EVENT_READ and connection not in self._unfinished:
            self._guarded(connection, self._receive)
        elif events & selectors.EVENT_WRITE:
            self._guarded(connection, self._proceed)

    def _guarded(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        """Take one *step*; whatever goes wrong in it ends this one connection."""
        deadline, held = connection.deadline, connection.held
        try:
            step(connection)
        except OSError:
            self._close(connection)
        except Exception:
            log.exception("a bug, please report it: connection from %s closed", connection.peer)
            self._close(connection)
        if connection.phase is Phase.CLOSED:
            self._held -= held
            return
        self._held += connection.held - held
        self._watch(connection, is_next_step=connection.deadline != deadline)
        if self._held > self._limits.memory:
            self._free_memory()
        if self._lane.is_full:
            self._store()

    def _receive(self, connection: Connection) -> None:
        connection.receive()
        self._proceed(connection)

    def _proceed(self, connection: Connection) -> None:
        """Answer one request if a whole one is there, and send what can be sent."""
        match connection.next():
            case Incoming() as incoming if self._lane.leads(incoming):
                if self._takes_along(connection, incoming):
                    return
            case Incoming() as incoming:
                self._answer(connection, incoming)
            case Malformed(status, reason):
                log.info("not an HTTP request from %s: %s", connection.peer[0], reason)
                connection.send(refusal(status, reason))
                connection.finish(unread=True)
            case GoAhead():
                connection.send(_CONTINUE)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        connection.advance()
        if connection.phase is Phase.CLOSED:
            self._close(connection)

    def _takes_along(self, connection: Connection, incoming: Incoming) -> bool:
        """Take a delivery; return whether it waits to be stored, and its connection with it."""
        request = incoming.request
        if not incoming.is_whole or not self.alive:
            request.force_close()
        answer = self._lane.take(connection, incoming)
        if answer is None:
            return True
        self._send(connection, request, answer, unread=not incoming.is_whole)
        return False

    def _store(self) -> None:
        """Store what this turn has brought, and answer it, now or when it has been stored."""
        if self._lane.is_full or not self.alive:
            # Nothing more is taken in until this is done.
            self._answer_stored()
            self._answer_all(self._lane.store())
        elif not self._lane.is_busy and self._lane.is_small:
            self._answer_all(self._lane.store())
        else:
            for connection in self._lane.waiting():
                self._pause(connection)
            if not self._lane.is_busy:
                self._lane.begin()

    def _answer_stored(self, _events: int = 0) -> None:
        self._answer_all(self._lane.finished())

    def _answer_all(self, answered: list[Answered]) -> None:
        for connection, request, answer in answered:
            if connection.phase is not Phase.CLOSED:
                self._resume(connection)
                self._guarded(connection, partial(self._finish, request, answer))

    def _pause(self, connection: Connection) -> None:
        if connection.phase is not Phase.CLOSED and connection not in self._paused:
            self._selector.unregister(connection)
            self._unfinished.pop(connection, None)
            self._paused.add(connection)

    def _resume(self, connection: Connection) -> None:
        if connection in self._paused:
            self._paused.discard(connection)
            action = partial(self._on_event, connection)
            self._selector.register(connection, connection.interest, action)

    def _finish(self, request: Any, answer: bytes, connection: Connection) -> None:
        self._send(connection, request, answer, unread=False)
        self._advance(connection)

    def _send(self, connection: Connection, request: Any, answer: bytes, *, unread: bool) -> None:
        connection.send(answer)
        if request.should_close():
            connection.finish(unread=unread)

    def _answer(self, connection: Connection, incoming: Incoming) -> None:
        sent = Written()
        response, environ = wsgi.create(
            incoming.request, sent, connection.peer, connection.local, self.cfg
        )
        # "100 Continue" was said when it was time.
        sent.data.clear()
        environ["wsgi.input"] = io.BytesIO(incoming.body)
        if not incoming.is_whole:
            # As large as it was announced to be, or as it turned out: what the application
            # refuses by the header alone, after it has looked at who sends it.
            environ["CONTENT_LENGTH"] = str(self._limits.body + 1)
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        if not incoming.is_whole or not self.alive:
            response.force_close()
        self._run_application(environ, response)
        connection.send(bytes(sent.data))
        if response.should_close():
            connection.finish(unread=not incoming.is_whole)

    def _run_application(self, environ: dict[str, Any], response: Any) -> None:
        pieces = self.wsgi(environ, response.start_response)
        try:
            for piece in pieces:
                response.write(piece)
            response.close()
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def _watch(self, connection: Connection, *, is_next_step: bool) -> None:
        """Wait for the right events, and keep the order of `_connections`."""
        key = self._selector.get_key(connection)
        if key.events != connection.interest:
            self._selector.modify(connection, connection.interest, key.data)
        if is_next_step:
            self._connections.move_to_end(connection)
        if connection.has_more:
            self._unfinished[connection] = None
        else:
            self._unfinished.pop(connection, None)

    def _cut_off_the_late(self, now: float) -> None:
        for connection in list(self._connections):
            if connection.deadline < now:
                self._cut_off(connection)

    def _cut_off_the_oldest(self) -> None:
        """Make room at the cost of who has taken longest: an honest client takes milliseconds."""
        oldest = next(iter(self._connections), None)
        if oldest is not None:
            self._cut_off(oldest)

    def _free_memory(self) -> None:
        for connection in list(self._connections):
            if connection.held:
                self._cut_off(connection)
            if self._held <= self._limits.memory:
                return

    def _cut_off(self, connection: Connection) -> None:
        self._held -= connection.held
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection in self._paused:
            self._paused.discard(connection)
        else:
            self._selector.unregister(connection)
        self._connections.pop(connection, None)
        self._unfinished.pop(connection, None)
        connection.close()

    def _drain(self) -> None:
        """Take what is already there, and answer it; who only holds a connection is cut off."""
        self._store()
        for listener in self.sockets:
            self._accept(listener, most=self.cfg.backlog)
            self._selector.unregister(listener)
            listener.close()
        deadline = time.monotonic() + self.cfg.graceful_timeout / 2
        while self._connections and time.monotonic() < deadline:
            for connection in list(self._connections):
                if connection.phase in {Phase.IDLE, Phase.HEAD}:
                    self._guarded(connection, self._receive)
                    self._store()
                if connection.phase is not Phase.CLOSED and not connection.is_busy:
                    self._cut_off(connection)
            if self._connections:
                self._turn()
