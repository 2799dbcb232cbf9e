"""The exporter's own small web server: ``/metrics`` and ``/health``.

Requests are served in threads, so that a slow client or two scrapers hold up nobody, and
``/health`` answers without looking at anything.
"""

import gzip
import ipaddress
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from prometheus_client.exposition import gzip_accepted

from remediator.exporter.rendering import FilledFamily, render

log = logging.getLogger(__name__)

# A client that says nothing for so long is let go.
_IDLE_SECONDS = 30
# Each costs a thread and a file descriptor, and nobody needs so many.
_MOST_CONNECTIONS = 100
# More makes the answer a quarter smaller and takes three times as long.
_GZIP_LEVEL = 1
_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<title>DS01 exporter</title>
<h1>DS01 exporter</h1>
<p><a href="/metrics">/metrics</a>: what every container and GPU is doing, for Prometheus</p>
<p><a href="/health">/health</a>: whether the exporter itself answers</p>
</html>
"""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Prometheus reconnects at once after a restart of either.
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], families: Callable[[], Iterable[FilledFamily]]
    ) -> None:
        self.families = families
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        """Serve a connection in a thread of its own; hang up on one too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            log.debug("too many connections, %s must come back", client_address)
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what escaped from a request; a client that hung up is nothing to tell."""
        log.debug("request of %s ended early: %r", client_address, sys.exception())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server_version = "ds01-exporter"
    sys_version = ""
    # Headers and body in one piece, and the last of it not held back for the client's receipt.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/health":
            self._answer(HTTPStatus.OK, b"ok\n")
        elif path == "/":
            self._answer(HTTPStatus.OK, _PAGE, {"Content-Type": _HTML})
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"only /metrics and /health are here\n")

    do_HEAD = do_GET  # noqa: N815 - the name the standard library asks for

    def _refuse(self) -> None:
        """Answer a request that would change something."""
        # Its body was not read, and must not be taken for the next request.
        self.close_connection = True
        headers = {"Allow": "GET, HEAD", "Connection": "close"}
        self._answer(HTTPStatus.METHOD_NOT_ALLOWED, b"this can only be read\n", headers)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def _metrics(self) -> None:
        families = cast(_Server, self.server).families
        body, content_type = render(families(), self.headers.get("Accept", ""))
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if self._wants_gzip():
            body = gzip.compress(body, _GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        self._answer(HTTPStatus.OK, body, headers)

    def _wants_gzip(self) -> bool:
        """Tell whether to compress: for a client on this machine it costs more than it brings."""
        asked = gzip_accepted(self.headers.get("Accept-Encoding", ""))
        return asked and not ipaddress.ip_address(self.client_address[0]).is_loopback

    def _answer(
        self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": _TEXT, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
        """Keep requests out of the log unless someone is looking for them."""
        log.debug(format, *args)


class ExporterServer:
    """Serves on *host*:*port* what *families* returns for each request; 0 takes a free port.

    OSError if the address cannot be had.
    """

    def __init__(
        self, host: str, port: int, families: Callable[[], Iterable[FilledFamily]]
    ) -> None:
        self._server = _Server((host, port), families)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
