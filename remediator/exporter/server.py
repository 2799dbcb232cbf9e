"""The exporter's own small web server: ``/metrics`` and ``/health``.

Requests are served in threads, so that a slow client or two scrapers hold up nobody, and
``/health`` answers without looking at anything.
"""

import logging
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

log = logging.getLogger(__name__)

# A client that says nothing for so long is let go.
_IDLE_SECONDS = 30
_TEXT = "text/plain; charset=utf-8"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Prometheus reconnects at once after a restart of either.
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self, address: tuple[str, int], render: Callable[[str], tuple[bytes, str]]
    ) -> None:
        self.render = render
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what escaped from a request; a client that hung up is nothing to tell."""
        log.debug("request of %s ended early: %r", client_address, sys.exception())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server_version = "ds01-exporter"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            render = cast(_Server, self.server).render
            body, content_type = render(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, body, content_type)
        elif path == "/health":
            self._answer(HTTPStatus.OK, b"ok\n", _TEXT)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"only /metrics and /health are here\n", _TEXT)

    do_HEAD = do_GET  # noqa: N815 - the name the standard library asks for

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited name
        """Keep requests out of the log unless someone is looking for them."""
        log.debug(format, *args)


class ExporterServer:
    """Serves what *collector* yields on *host*:*port*; 0 takes a free port.

    OSError if the address cannot be had.
    """

    def __init__(self, host: str, port: int, collector: Collector) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)

        def render(accept: str) -> tuple[bytes, str]:
            encode, content_type = choose_encoder(accept)
            return encode(registry), content_type

        self._server = _Server((host, port), render)
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
