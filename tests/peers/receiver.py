"""The receiver as a process of its own: ``remediator serve`` on a free loopback port."""

import json
import os
import secrets
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from remediator.inbox.store import Inbox
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.process import Daemon

DATA = Path(__file__).resolve().parents[1] / "data"
FIRING = (DATA / "webhook_firing.raw.json").read_bytes()
RESOLVED = (DATA / "webhook_resolved.raw.json").read_bytes()

_TIMEOUT = 10

# The same program, but with limits of the test's own, which no setting changes.
_LIMITED = """
import sys
from functools import partial
from remediator.config.settings import read_settings
from remediator.web.connection import Limits
from remediator.web.serving import ReceiverServer, listen
from remediator.wiring.receiver import make_receiver
import os
settings = read_settings(None, os.environ)
listener = listen(settings.listen.host, settings.listen.port)
limits = Limits(settings.largest_body, **eval(sys.argv[1]))
ReceiverServer(partial(make_receiver, settings), listener, limits, lambda _: True).serve()
"""


def marked(marker: str) -> bytes:
    """A delivery that can be told from all others by its group key."""
    body = json.loads(FIRING)
    body["groupKey"] = marker
    return json.dumps(body).encode()


@dataclass(slots=True)
class Receiver:
    """A receiver whose files are in *folder*; not started before it is asked to."""

    folder: Path
    settings: str = ""
    limits: Mapping[str, float] | None = None
    wrapper: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    daemon: Daemon = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token_file.write_text(secrets.token_hex(32) + "\n")
        self.token_file.chmod(0o600)
        self.policy_file.write_text("mode: observe\nrules: []\n")
        (self.folder / "settings.yaml").write_text(self.settings or "{}\n")
        self.daemon = Daemon(
            "serve", self.command, self.folder, ready=self.is_ready, environment=self.environment
        )

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def policy_file(self) -> Path:
        return self.folder / "policy.yaml"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def webhook(self) -> str:
        return f"{self.url}/api/v1/alerts"

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()

    @property
    def command(self) -> list[str]:
        if self.limits is not None:
            return [sys.executable, "-c", _LIMITED, repr(dict(self.limits))]
        return [*self.wrapper, sys.executable, "-m", "remediator", "serve"]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "REMEDIATOR_STATE_DIR": str(self.state_dir),
            "REMEDIATOR_POLICY": str(self.policy_file),
            "REMEDIATOR_SETTINGS": str(self.folder / "settings.yaml"),
            "REMEDIATOR_LISTEN": f"{LOOPBACK}:{self.port}",
            "REMEDIATOR_TOKEN_FILE": str(self.token_file),
        }

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=_TIMEOUT).ok
        except requests.RequestException:
            return False

    def start(self) -> None:
        self.daemon.start()

    def stop(self) -> None:
        if self.daemon.is_running:
            self.daemon.stop()

    def kill_all(self) -> None:
        """Kill every process of the receiver at once, as a power failure does."""
        os.killpg(self.daemon.pid, signal.SIGKILL)
        self.daemon.kill()

    def post(
        self, body: bytes = FIRING, path: str = "", **headers: str | None
    ) -> requests.Response:
        """Post *body* as Alertmanager does, with *headers* (``_`` for ``-``) over its own."""
        return requests.post(
            self.webhook + path, data=body, headers=self.headers(**headers), timeout=_TIMEOUT
        )

    def headers(self, **others: str | None) -> dict[str, str | None]:
        own = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        return {**own, **{name.replace("_", "-"): value for name, value in others.items()}}

    def connect(self) -> socket.socket:
        """A connection on which nothing has been said."""
        client = socket.create_connection((LOOPBACK, self.port), timeout=_TIMEOUT)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def head(self, *lines: str, version: str = "1.1") -> bytes:
        """The head of a delivery with more header *lines*."""
        own = (
            f"POST /api/v1/alerts HTTP/{version}",
            "Host: receiver",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
        )
        return "\r\n".join((*own, *lines, "", "")).encode()

    def exchange(self, *sent: bytes) -> bytes:
        """Send raw bytes and return all that is answered until the receiver closes."""
        with self.connect() as client:
            for data in sent:
                client.sendall(data)
            return read_all(client)

    def markers(self) -> Counter[str]:
        """How often each delivery of `marked` is in the inbox."""
        inbox, last, found = Inbox.for_worker(self.state_dir / "inbox"), 0, Counter[str]()
        while batch := inbox.after(last, 1000):
            found.update(json.loads(stored.body)["groupKey"] for stored in batch)
            last = batch[-1].id
        inbox.close()
        return found

    def bodies(self) -> list[bytes]:
        """The bodies in the inbox, the oldest first."""
        inbox = Inbox.for_worker(self.state_dir / "inbox")
        bodies = [stored.body for stored in inbox.after(0, 100_000)]
        inbox.close()
        return bodies

    def count(self, result: str) -> float:
        """What ``/metrics`` says of deliveries with this result."""
        line = f'remediator_deliveries_total{{result="{result}"}} '
        text = requests.get(f"{self.url}/metrics", timeout=_TIMEOUT).text
        return next(float(row.removeprefix(line)) for row in text.splitlines() if line in row)


def read_all(client: socket.socket) -> bytes:
    """All that comes until the other side closes, in whichever way."""
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received
