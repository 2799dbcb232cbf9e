"""Stand-ins for dcgm-exporter.

`DcgmExporter` lives in the test and serves whatever it is told of each GPU, blanks included.
`dcgm_program.py` beside this file is a program of its own, for a unit or a container.
"""

import contextlib
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.peers.ports import LOOPBACK

# What DCGM sends where it has no value, for integers.
BLANK = 9223372036854775794.0
PROGRAM = Path(__file__).with_name("dcgm_program.py")


class DcgmExporter:
    """Serves DCGM's families on a free port; *host_label* is the name it has for its host.

    Older versions say ``Hostname``, newer ones ``hostname``. A *fault* is ``hang``, ``trickle``,
    ``huge`` or ``nonsense``: no answer, one that takes for ever, one without end or without sense.
    """

    def __init__(self, host_label: str = "Hostname") -> None:
        self.answers = True
        self.fault = ""
        self._stopping = threading.Event()
        self.scrapes = 0
        self._host_label = host_label
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.scrapes += 1
                if exporter.fault:
                    exporter.misbehave(self)
                    return
                body = exporter.page().encode()
                self.send_response(200 if exporter.answers else 503)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    @property
    def address(self) -> str:
        """Its ``host:port``, to be scraped at."""
        return f"{LOOPBACK}:{self._server.server_port}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def set(self, family: str, value: float, **labels: str) -> None:
        """Serve *value* for the series with *labels*, until it is set anew."""
        with self._lock:
            self._values[family, tuple(sorted(labels.items()))] = value

    def misbehave(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer as no exporter should, until nobody listens any more."""
        if self.fault == "hang":
            self._stopping.wait()
            return
        handler.send_response(200)
        handler.end_headers()
        if self.fault == "nonsense":
            handler.wfile.write(b"DCGM_FI_DEV_GPU_TEMP{{\n")
            return
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                handler.wfile.write(self.page().encode())
                self._stopping.wait(0.02 if self.fault == "trickle" else 0)

    def page(self) -> str:
        """Return the page as it is served now."""
        with self._lock:
            values = dict(self._values)
        return "".join(
            f"{family}{{{self._labels(dict(labels))}}} {value:.17g}\n"
            for (family, labels), value in sorted(values.items())
        )

    def _labels(self, labels: Mapping[str, str]) -> str:
        everything = {"gpu": "0", "device": "nvidia0", self._host_label: "gpu1", **labels}
        return ",".join(f'{name}="{value}"' for name, value in everything.items())
