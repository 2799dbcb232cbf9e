"""A real HTTP server that stands in for a chat service: Apprise posts to it with ``json://``."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.peers.ports import LOOPBACK


class ChatServer:
    """Keeps what is posted in ``posts``; answers ``status``, or nothing while it is ``hung``."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.status = 200
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def url(self, token: str = "s3cret-t0ken", password: str = "s3cret-pass") -> str:
        """Return an Apprise URL with secrets in its path and its login."""
        return f"json://bot:{password}@{LOOPBACK}:{self.port}/{token}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port."""
        self.go_on()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def hang(self) -> None:
        """Take what is sent, and do not answer."""
        self._goes_on.clear()

    def go_on(self) -> None:
        """Answer again."""
        self._goes_on.set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        chat = self

        class Handler(BaseHTTPRequestHandler):
            """One post."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                chat._goes_on.wait(10)
                if chat.status < 300:
                    chat.posts.append(json.loads(body))
                chat.paths.append(self.path)
                self.send_response(chat.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        return Handler
