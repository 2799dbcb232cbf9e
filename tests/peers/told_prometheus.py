"""A server that answers Prometheus's query with samples that it was told, in Prometheus's own form.

For pages that need a whole machine full of GPUs at once. That a real Prometheus answers in the same
form is shown in ``tests/integration/test_page.py``.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.peers.ports import LOOPBACK

Told = tuple[Mapping[str, str], float]


class ToldPrometheus:
    """Answers every query with ``samples``; while ``goes_on`` is clear it does not answer."""

    def __init__(self, samples: Sequence[Told] = ()) -> None:
        self.samples = list(samples)
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.asked = 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked += 1
                told.goes_on.wait(30)
                body = told.answer()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def answer(self) -> bytes:
        """The body of an answer, as /api/v1/query gives it."""
        result = [
            {"metric": dict(labels), "value": [1790000000.0, str(value)]}
            for labels, value in self.samples
        ]
        data = {"resultType": "vector", "result": result}
        return json.dumps({"status": "success", "data": data}).encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.goes_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
