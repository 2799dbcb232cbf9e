"""HTTP with one deadline for a whole conversation, however slowly and steadily it goes on.

A read timeout begins anew with every byte: a server that sends one each second never runs into
it. Here the connection is cut once the time is over, whatever is being waited for.
"""

import contextlib
import socket
import threading
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError


class NoAnswerError(Exception):
    """There is no whole answer; says in a word why."""


class _Watch:
    """One conversation of one thread."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()

    def on(self, connection: HTTPConnection) -> None:
        """Cut *connection* when the time is over, or now if it is."""
        # Kept, since a connection lets go of it where the answer ends with the connection.
        self._socket = getattr(connection, "sock", None)
        if self.is_over:
            self._cut()

    def _cut(self) -> None:
        self.is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # The socket itself, also below TLS: nobody has to agree.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


_watches = threading.local()


def _watch(connection: HTTPConnection) -> None:
    watch: _Watch | None = getattr(_watches, "current", None)
    if watch is not None:
        watch.on(connection)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self)

    def request(self, *arguments: Any, **more: Any) -> None:
        _watch(self)
        super().request(*arguments, **more)


class _SafeConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self)

    def request(self, *arguments: Any, **more: Any) -> None:
        _watch(self)
        super().request(*arguments, **more)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SafePool(HTTPSConnectionPool):
    ConnectionCls = _SafeConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SafePool}


class DeadlineSession:
    """Asks over kept connections; no answer takes longer or is larger than it may be."""

    def __init__(self, seconds: float, largest: int) -> None:
        self._seconds = seconds
        self._largest = largest
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Adapter())

    def get(self, url: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        """Return status and whole body of the answer; NoAnswerError says why there is none."""
        watch = _watches.current = _Watch(self._seconds)
        watch.start()
        try:
            status, body = self._read(url, parameters)
        except (requests.RequestException, HTTPError) as error:
            raise (
                self._too_late() if watch.is_over else NoAnswerError(type(error).__name__)
            ) from error
        finally:
            watch.stop()
            _watches.current = None
        if watch.is_over:
            # A body without a length ends where the connection is cut: it is not all there is.
            raise self._too_late()
        if len(body) > self._largest:
            raise NoAnswerError(f"it is larger than {self._largest} bytes")
        return status, body

    def _read(self, url: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        with self._session.get(
            url, params=parameters, timeout=self._seconds, allow_redirects=False, stream=True
        ) as answer:
            body: bytes = answer.raw.read(self._largest + 1, decode_content=True)
            return answer.status_code, body

    def _too_late(self) -> NoAnswerError:
        return NoAnswerError(f"not complete within {self._seconds:g} s")
