"""What people do from outside: nonsense, slowness, lies and stolen or guessed secrets."""

import contextlib
import http.client
import itertools
import re
import secrets
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import requests

from tests.bench.footprint import footprint_of
from tests.chaos.bodies import TEXTS, hostile_bodies
from tests.chaos.described import send_described
from tests.chaos.world import World, delivery_of, forged
from tests.eventually import eventually
from tests.peers.ports import LOOPBACK
from tests.peers.receiver import read_all
from tests.peers.site import ROOT

_SENDERS = 4
_MOST_GROWTH_KIB = 64 * 1024
_pause = threading.Event().wait


class HostileBodies:
    """Hostile and malformed bodies with the right token, from four clients at once."""

    idle = 2
    task = "idle"

    def __init__(self, count: int) -> None:
        self.name = f"{count:,} hostile bodies"
        self.hostile = 0
        self.statuses = Counter[int]()
        self.grown_kib = 0
        self._count = count

    def strike(self, world: World) -> None:
        """Post them all; none may be answered by 5xx, and none may cost memory for good."""
        self.hostile, self.statuses = 0, Counter()
        ids = tuple(str(container.id) for container in world.busy)
        _post(world, hostile_bodies(200, seed=0, container_ids=ids), Counter())
        before = memory_of(world)
        threads = [
            threading.Thread(target=self._send, args=(world, seed, ids)) for seed in range(_SENDERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.grown_kib = memory_of(world) - before
        self.hostile = sum(self.statuses.values())
        failed = {status: n for status, n in self.statuses.items() if status >= 500 or status == 0}
        if failed:
            raise AssertionError(f"answered by failures: {failed}")
        if self.grown_kib > _MOST_GROWTH_KIB:
            raise AssertionError(f"the programs grew by {self.grown_kib // 1024} MiB")

    def _send(self, world: World, seed: int, ids: tuple[str, ...]) -> None:
        mine = Counter[int]()
        _post(world, hostile_bodies(self._count // _SENDERS, seed + 1, ids), mine)
        self.statuses.update(mine)


def _post(world: World, bodies: Iterator[bytes], statuses: Counter[int]) -> None:
    headers = {"Authorization": f"Bearer {world.site.token}", "Content-Type": "application/json"}
    port = world.site.receiver_port
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=30)) as connection:
        for body in bodies:
            try:
                connection.request("POST", "/api/v1/alerts", body, headers)
                answer = connection.getresponse()
                answer.read()
                statuses[answer.status] += 1
            except (OSError, http.client.HTTPException):
                statuses[0] += 1
                connection.close()


def memory_of(world: World) -> int:
    """Return the memory of receiver and worker with their children, as KiB of PSS."""
    return sum(
        footprint_of(pid).memory_kib
        for daemon in (world.receiver, world.worker)
        for pid in [daemon.pid, *_children(daemon.pid)]
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class SlowAndGreedy:
    """Silent, half-spoken, byte-by-byte, oversize and ambiguous requests, all at once."""

    name = "slow, oversize and smuggled requests"
    idle = 2
    task = "idle"

    def __init__(self, connections: int = 256, seconds: float = 8) -> None:
        self.hostile = 0
        self._connections, self._seconds = connections, seconds

    def strike(self, world: World) -> None:
        """Hold connections for a while; honest deliveries have to be answered meanwhile."""
        head = _head(world, f"Content-Length: {10**6}")
        beginnings = itertools.cycle([b"", head[:40], head, head + b"x" * 1000])
        before = len(world.stream.peek().acknowledged)
        with contextlib.ExitStack() as stack:
            clients = []
            for beginning in itertools.islice(beginnings, self._connections):
                clients.append(stack.enter_context(_connect(world)))
                clients[-1].sendall(beginning)
            self.hostile = len(clients)
            for request in _ambiguous(world):
                self._must_be_refused(world, request)
            for _ in range(int(self._seconds / 0.1)):
                _pause(0.1)
                for client in clients[:32]:
                    with contextlib.suppress(OSError):
                        client.sendall(b"x")
        answered = len(world.stream.peek().acknowledged) - before
        if answered < self._seconds:
            raise AssertionError(f"only {answered} honest deliveries were answered meanwhile")

    def _must_be_refused(self, world: World, request: bytes) -> None:
        self.hostile += 1
        with _connect(world) as client:
            with contextlib.suppress(OSError):
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", answer)
        if b"200" in statuses or b"500" in statuses:
            raise AssertionError(f"{request[:200]!r} was answered by {statuses}")


def _ambiguous(world: World) -> list[bytes]:
    """Requests on whose end two programs could disagree, and ones that are too much."""
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
    return [
        _head(world, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + smuggled,
        _head(world, "Content-Length: 5", "Content-Length: 6") + b"aaaaaa" + smuggled,
        _head(world, "Content-Length: +5") + b"aaaaa" + smuggled,
        _head(world, "Content-Length: 5_0") + b"aaaaa" + smuggled,
        _head(world, "Content-Length : 5") + b"aaaaa" + smuggled,
        _head(world, "Transfer-Encoding: xchunked") + b"0\r\n\r\n" + smuggled,
        _head(world, "Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n",
        _head(world, "Transfer-Encoding: chunked") + b"-1\r\n\r\n" + smuggled,
        _head(world, "Transfer-Encoding: chunked") + b"0x5\r\naaaaa\r\n0\r\n\r\n" + smuggled,
        _head(world, "Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFF\r\n" + smuggled,
        _head(world, f"Content-Length: {10**18}"),
        _head(world, f"X-Large: {'x' * 100_000}"),
        _head(world, *(f"X-{n}: x" for n in range(1000))),
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]


def _head(world: World, *lines: str) -> bytes:
    own = (
        "POST /api/v1/alerts HTTP/1.1",
        "Host: receiver",
        f"Authorization: Bearer {world.site.token}",
        "Content-Type: application/json",
    )
    return "\r\n".join((*own, *lines, "", "")).encode()


def _connect(world: World) -> socket.socket:
    return socket.create_connection((LOOPBACK, world.site.receiver_port), timeout=15)


class LabelInjection:
    """Lies about busy containers and hostile texts, past Alertmanager and through it."""

    name = "forged alerts and injected labels"
    idle = 2
    task = "idle"

    def __init__(self) -> None:
        self.hostile = 0

    def strike(self, world: World) -> None:
        """Aim at the busy ones in every way; nothing but holds may follow, and no stray mail."""
        self.hostile = 0
        known = set(world.rows_of("SELECT DISTINCT fingerprint FROM firing"))
        for number, labels in enumerate(self._lies(world)):
            name = f"{secrets.token_hex(4)}-{number}"
            world.site.deliver(delivery_of(labels, name))
            # What it does not take as a label, it refuses itself.
            with contextlib.suppress(ValueError):
                world.alertmanager.post([{"labels": labels}])
            self.hostile += 2
        eventually(
            lambda: set(world.rows_of("SELECT DISTINCT fingerprint FROM firing")) - known,
            30,
            "the lies are taken",
        )
        _pause(3)
        strays = {r for mail in world.mail.messages for r in mail.recipients} - {
            "alice@example.org",
            "admins@example.org",
        }
        if strays:
            raise AssertionError(f"mails went to {strays}")
        if Path("/tmp/owned").exists():
            raise AssertionError("a label was run by a shell")

    def _lies(self, world: World) -> Iterator[dict[str, str]]:
        for busy in world.busy:
            yield forged(busy)
            yield forged(busy, container_id=str(busy.id)[:12])
            yield forged(busy, container_id=str(busy.id).upper())
            yield forged(busy, alertname="DS01ContainerMaxRuntime")
            for text in TEXTS:
                yield forged(busy, container=text, user=text)
                yield forged(busy, drill=text, instance=text)
                yield {"alertname": "DS01ContainerIdle", "container_id": text, "user": text}


class WrongAndReplayed:
    """Wrong, cut, rotated and misused tokens, tampered links, and a delivery sent again."""

    name = "wrong and replayed tokens, links, deliveries"
    idle = 2
    task = "idle"

    def __init__(self) -> None:
        self.hostile = 0

    def strike(self, world: World) -> None:
        """Every one of them has to be refused, but for the delivery, of which nothing follows."""
        self.hostile = 0
        token = world.site.token
        for header in _wrong(token):
            self._refused(world, header, {401})
        fresh = secrets.token_hex(32)
        self._rotate(world, fresh)
        for _ in range(20):
            self._refused(world, f"Bearer {token}", {401})
        self._deliver_only(world, fresh)
        self._links(world)
        self._again(world)

    def _rotate(self, world: World, fresh: str) -> None:
        new = world.site.token_file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(f"{fresh}\n")
        new.replace(world.site.token_file)

    def _refused(self, world: World, header: str | None, statuses: set[int]) -> None:
        self.hostile += 1
        headers = {"Content-Type": "application/json"}
        if header is not None:
            headers["Authorization"] = header
        body = delivery_of({"alertname": "Unknown"}, "unknown")
        answer = requests.post(world.site.webhook, body, headers=headers, timeout=10)
        if answer.status_code not in statuses:
            raise AssertionError(f"{(header or '')[:30]!r} was answered by {answer.status_code}")

    def _deliver_only(self, world: World, token: str) -> None:
        """The token that delivers must not command."""
        self.hostile += 1
        answer = requests.post(
            f"{world.site.url}/api/v1/commands",
            json={"action": "pause", "reason": "hostile"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        if answer.status_code not in {401, 403}:
            raise AssertionError(f"the token for deliveries commands: {answer.status_code}")

    def _links(self, world: World) -> None:
        """Follow links that were tampered with, and post without the form of the link."""
        link = eventually(lambda: _a_link(world), 60, "a mail with a link")
        target, _, key = link.partition("?k=")
        for tampered in (key[:-1], f"A{key[1:]}", key.swapcase(), f"{key}A", "", key.split(".")[0]):
            self.hostile += 1
            answer = requests.post(target, params={"k": tampered, "f": tampered}, timeout=10)
            if answer.status_code not in {403, 429}:
                raise AssertionError(f"a tampered link was answered by {answer.status_code}")
        self.hostile += 1
        if requests.post(target, params={"k": key}, timeout=10).status_code not in {403, 410}:
            raise AssertionError("a link was taken without the form of its page")
        if world.ask("SELECT count(*) FROM extension") != 0:
            raise AssertionError("a container was kept by nobody")

    def _again(self, world: World) -> None:
        """Send what was really delivered about containers once more, at once from all sides."""
        inbox = world.site.inbox()
        try:
            real = [one.body for one in inbox.after(0, 100_000) if b"DS01ContainerIdle" in one.body]
        finally:
            inbox.close()
        for body in real[-20:] * 3:
            self.hostile += 1
            world.site.deliver(body)


def _wrong(token: str) -> list[str | None]:
    return [
        *(None, "", "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", token),
        *(f"Bearer {token.upper()}", f"Basic {token}", f"Token {token}", f"Bearer {token[::-1]}"),
        *(f"Bearer {'x' * 5000}", f"Bearer {token[:32]} {token[32:]}", f"Bearer {token},x"),
    ]


def _a_link(world: World) -> str:
    for mail in reversed(world.mail.messages):
        found = re.search(r"(http://\S+/extend\?k=[\w.=-]+)", mail.text)
        if found:
            return found[1]
    return ""


class Described:
    """Requests made from the description of the API, by schemathesis."""

    name = "requests by the API's description"
    idle = 1
    task = "idle"

    def __init__(self, examples: int) -> None:
        self.hostile = 0
        self._examples = examples

    def strike(self, world: World) -> None:
        """Send them with the token that delivers, which reads as well and never commands."""
        site = world.site
        self.hostile, wrong = send_described(site.url, site.token, self._examples, site.folder)
        if wrong:
            raise AssertionError(wrong[-3000:])


class Parsers:
    """What the parsers' coverage makes interesting, by atheris, beside the running pipeline."""

    idle = 1
    task = "idle"

    def __init__(self, inputs: int) -> None:
        self.name = f"{inputs:,} inputs for the parsers"
        self.hostile = 0
        self._inputs = inputs

    def strike(self, world: World) -> None:
        """Send as many as are wanted; one that is neither read nor refused ends it."""
        del world
        failed = fuzz(self._inputs)
        if failed:
            raise AssertionError(failed[-3000:])
        self.hostile = self._inputs


def fuzz(inputs: int, seed: int = 1) -> str:
    """Send the parsers *inputs*; return what was wrong, nothing if all is well."""
    command = [sys.executable, "-m", "tests.chaos.fuzz", str(inputs), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    is_done = f"Done {inputs} in" in done.stderr
    return "" if done.returncode == 0 and is_done else done.stdout + done.stderr
