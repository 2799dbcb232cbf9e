"""A real Docker engine of our own, beside whatever engine the machine has.

Everything it makes lies in one folder, its mounts in a mount namespace that ends with it, and
its bridge has a name and a network of its own. It never touches iptables: the host reaches
containers on the bridge without, and rewriting the DOCKER chain would cut off the containers of
the machine's own engine.
"""

import contextlib
import fcntl
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound

from tests.eventually import eventually
from tests.peers.missing import require_root, require_tool
from tests.peers.process import Daemon

BUSYBOX = "busybox:static"

# Containers with this label outlive a test: they are session peers themselves.
SESSION_PEER = "remediator.session-peer"

_BRIDGE_PREFIX = "rmd"
_INTERFACES = Path("/sys/class/net")
_CHOICE = Path(tempfile.gettempdir()) / "remediator-test-bridges.lock"
_CANNOT_STACK = "error initializing graphdriver"
_CLIENT_TIMEOUT_SECONDS = 30


class DockerEngine:
    """One dockerd with its containerd, in *folder* (keep that path short: it holds sockets).

    One that is *apart* has a network of its own, which is a loopback and nothing else: containers
    in the host's network are in that one, so that they may have any port.

    ``network`` is "bridge", or "none" where this machine lets nobody make a bridge; ``driver`` is
    "overlay2", or "vfs" where the folder's file system cannot be stacked.
    """

    def __init__(self, folder: Path, *, apart: bool = False) -> None:
        require_root("starting a Docker engine")
        self._apart = apart
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.driver = "overlay2"
        self.network = "bridge"
        # Whether its containers run on while it is away, as a site that cares about them has it.
        self.live_restore = False
        self._bridge: Bridge | None = None
        self._clients: list[DockerClient] = []
        self.daemon = self._daemon()

    def _daemon(self) -> Daemon:
        bridge = self._bridge.name if self._bridge else "none"
        return Daemon(
            "dockerd",
            [
                require_tool("unshare"),
                *("--mount", "--propagation", "slave"),
                *(self._entry_of_its_own_network() if self._apart else ()),
                require_tool("dockerd"),
                f"--host={self.url}",
                f"--data-root={self.folder / 'data'}",
                f"--exec-root={self.folder / 'exec'}",
                f"--pidfile={self.folder / 'docker.pid'}",
                f"--config-file={self.folder / 'daemon.json'}",
                f"--storage-driver={self.driver}",
                f"--bridge={bridge}",
                *("--iptables=false", "--ip6tables=false", "--ip-forward=false"),
                "--shutdown-timeout=1",
            ],
            self.folder,
            ready=self._answers,
            ready_within=30,
            grace=20,
            # It ends its containers and its containerd itself when it is asked to.
            signal_when_orphaned="TERM",
        )

    def _entry_of_its_own_network(self) -> list[str]:
        # Mounts are shared again, below: who mounts / with rslave needs that they are.
        script = 'mount --make-rshared / && "$0" ip link set lo up && exec "$@"'
        return ["--net", require_tool("sh"), "-c", script, require_tool("busybox")]

    @property
    def pid(self) -> int:
        """The process id of dockerd."""
        return self.daemon.pid

    def start(self) -> Self:
        """Start the engine, on the data of an earlier start if there was one."""
        if self._bridge is None and not self._apart:
            self._bridge = Bridge.create()
            self.network = "bridge" if self._bridge else "none"
        (self.folder / "daemon.json").write_text(json.dumps({"live-restore": self.live_restore}))
        self.daemon = self._daemon()
        try:
            self.daemon.start()
        except Exception:
            if self.driver == "vfs" or _CANNOT_STACK not in self.daemon.log_tail():
                self.stop()
                raise
            self.driver = "vfs"
            self.daemon = self._daemon()
            self.daemon.start()
        return self

    def stop(self) -> None:
        """Remove every container, stop dockerd and containerd, take the bridge away."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.daemon.is_running:
            self.daemon.thaw()
            with contextlib.suppress(DockerException, AssertionError):
                self._remove_containers()
        self.daemon.stop()
        self._end_leftovers()
        if self._bridge is not None:
            self._bridge.remove()
            self._bridge = None
        for part in ("data", "exec"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def kill(self) -> None:
        """End dockerd at once; its containers run on, and `start` finds them again."""
        self.daemon.kill()
        # The kernel ends containerd then, but a dockerd that starts before that waits in vain.
        eventually(lambda: self.containerd_pid() is None, 10, "containerd ends with dockerd")
        # Where process 1 reaps late, a dead containerd looks alive to the next dockerd.
        for pid_file in ("docker.pid", "exec/containerd/containerd.pid"):
            (self.folder / pid_file).unlink(missing_ok=True)

    def freeze(self) -> None:
        """Hang dockerd alone: containers run on, its socket accepts and never answers."""
        self.daemon.freeze()

    def thaw(self) -> None:
        """Let a frozen dockerd go on."""
        self.daemon.thaw()

    def enter(self, *command: str) -> list[str]:
        """Return *command* as it is run in the network of an engine that is apart."""
        return [require_tool("nsenter"), f"--net=/proc/{self.pid}/ns/net", "--", *command]

    def client(self, timeout: int = _CLIENT_TIMEOUT_SECONDS) -> DockerClient:
        """A client of this engine; the engine closes it when it stops."""
        client = DockerClient(base_url=self.url, version="auto", timeout=timeout)
        self._clients.append(client)
        return client

    def containerd_pid(self) -> int | None:
        """The process id of the containerd that dockerd started, while it runs."""
        config = str(self.folder / "exec" / "containerd" / "containerd.toml")
        return next((pid for pid in _pids() if config in _command(pid)), None)

    def _answers(self) -> bool:
        # Not with the SDK: a client that cannot connect while it is made leaks its socket.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 OK" in connection.recv(100)
            except OSError:
                return False

    def _remove_containers(self) -> None:
        with contextlib.closing(DockerClient(base_url=self.url, version="auto")) as client:
            remove_containers(client)

    def _end_leftovers(self) -> None:
        """End what a killed dockerd left: containers (by id) and their shims (by our folder)."""
        ids = [path.name for path in (self.folder / "data" / "containers").glob("*")]
        for pid in _pids():
            if str(self.folder / "exec") in _command(pid) or _is_in(pid, ids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def remove_containers(client: DockerClient, keep: frozenset[str] = frozenset()) -> None:
    """Remove all containers, running or not, but those whose id is in *keep*."""
    for row in client.api.containers(all=True):
        if row["Id"] not in keep:
            with contextlib.suppress(APIError):
                client.api.remove_container(row["Id"], force=True, v=True)


def remove_test_containers(client: DockerClient) -> None:
    """Remove what a test left; session peers run on."""
    peers = client.api.containers(all=True, filters={"label": [SESSION_PEER]})
    remove_containers(client, keep=frozenset(row["Id"] for row in peers))


def busybox_image(client: DockerClient) -> str:
    """The name of an image with a whole small userland; made at the first call."""
    with contextlib.suppress(ImageNotFound):
        client.images.get(BUSYBOX)
        return BUSYBOX
    repository, _, tag = BUSYBOX.partition(":")
    client.api.import_image_from_data(
        _busybox_root(Path(require_tool("busybox"))), repository=repository, tag=tag
    )
    return BUSYBOX


def _busybox_root(busybox: Path) -> bytes:
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for folder, mode in {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777}.items():
            tar.addfile(_entry(folder, tarfile.DIRTYPE, mode))
        tar.add(busybox.resolve(), "bin/busybox")
        for name in listing.stdout.split():
            if name != "busybox":
                tar.addfile(_entry(f"bin/{name}", tarfile.SYMTYPE, 0o777, target="busybox"))
        users = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
        passwd = _entry("etc/passwd", tarfile.REGTYPE, 0o644)
        passwd.size = len(users)
        tar.addfile(passwd, io.BytesIO(users))
    return content.getvalue()


def _entry(name: str, kind: bytes, mode: int, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, target
    return entry


class Bridge:
    """A network bridge on the host with a private /24 that was free when it was made."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def create(cls) -> Self | None:
        """Make one; None where this machine does not let us."""
        # Two bridges may have the same address as far as Linux cares, and then one is not reached.
        with _CHOICE.open("w") as choice:
            fcntl.flock(choice, fcntl.LOCK_EX)
            _remove_stale_bridges()
            bridge = cls(_free_name())
            if not _busybox("ip", "link", "add", bridge.name, "type", "bridge"):
                return None
            number = next(n for n in range(256) if f"10.213.{n}." not in _addresses_in_use())
            # An address of its own: that of a port, which Linux takes otherwise, goes with the
            # port, and containers that remember it reach nobody until they ask again.
            hardware = f"02:42:0a:d5:{number:02x}:01"
            if (
                _busybox("ip", "link", "set", bridge.name, "address", hardware)
                and _busybox("ip", "addr", "add", f"10.213.{number}.1/24", "dev", bridge.name)
                and _busybox("ip", "link", "set", bridge.name, "up")
            ):
                return bridge
            bridge.remove()
            return None

    def remove(self) -> None:
        """Take it away; harmless when it is gone."""
        _busybox("ip", "link", "del", self.name)


def _free_name() -> str:
    names = (f"{_BRIDGE_PREFIX}{os.getpid()}n{number}" for number in range(100))
    return next(name for name in names if not (_INTERFACES / name).exists())


def _addresses_in_use() -> str:
    ip = [require_tool("busybox"), "ip", "-o", "addr"]
    return subprocess.run(ip, capture_output=True, text=True, check=True).stdout


def _remove_stale_bridges() -> None:
    """Take away what test runs left that were killed; the name holds the run's process id."""
    for path in _INTERFACES.glob(f"{_BRIDGE_PREFIX}*"):
        owner = re.fullmatch(rf"{_BRIDGE_PREFIX}(\d+)n\d+", path.name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            Bridge(path.name).remove()


def _busybox(*arguments: str) -> bool:
    command = [require_tool("busybox"), *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return ""


def _is_in(pid: int, containers: list[str]) -> bool:
    with contextlib.suppress(OSError):
        cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        return any(container in cgroups for container in containers)
    return False
