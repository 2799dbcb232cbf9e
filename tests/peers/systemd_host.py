"""A "GPU host" with real systemd: a container of our engine that boots.

Its system bus is a socket in a folder of ours, so that a program on the outside drives it with
``pydbus.connect(host.bus_address)`` as it would drive the machine's own. The root file system
is made by debootstrap from the machine's own package source, once, and kept as an archive in the
repository's ignored ``.cache`` folder.
"""

import hashlib
import os
import platform
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from docker import DockerClient
from docker.models.containers import Container

from tests.eventually import eventually
from tests.peers.dockerd import SESSION_PEER
from tests.peers.missing import PeerMissingError, require_root, require_tool

PACKAGES = ("systemd", "dbus", "python3-minimal", "openssh-client")
CACHE = Path(__file__).resolve().parents[2] / ".cache"

_REPOSITORY = "systemd-host"
_BUS_FOLDER = "/run/dbus"
_APT = Path("/etc/apt")
# What a test never looks at and what would only make the archive bigger.
_LEFT_OUT = re.compile(
    r"\./(dev|proc|sys|var/cache/apt|var/lib/apt/lists|usr/share/(doc|man|locale|info))/."
)


class SystemdHost:
    """One booted systemd; ``bus_address`` reaches its bus from outside.

    *client* belongs to an engine of ours; *folder* (a short path) holds the bus socket. What
    *packages* names is installed in it; *shown* are folders of this machine that it has as well.
    """

    def __init__(
        self,
        client: DockerClient,
        folder: Path,
        packages: Sequence[str] = PACKAGES,
        shown: Sequence[Path] = (),
    ) -> None:
        self._shown = shown
        self._client = client
        self._packages = packages
        self._bus_folder = folder / "dbus"
        self.bus_address = f"unix:path={self._bus_folder / 'system_bus_socket'}"
        self._container: Container | None = None

    @property
    def container(self) -> Container:
        """The container it boots in."""
        if self._container is None:
            raise RuntimeError("the systemd host is not started")
        return self._container

    def start(self) -> Self:
        """Boot, and return once systemd has nothing left to start."""
        self._bus_folder.mkdir(parents=True, exist_ok=True)
        self._container = self._client.containers.run(
            image(self._client, self._packages),
            "/lib/systemd/systemd",
            detach=True,
            hostname="gpu-host",
            environment={"container": "docker"},
            labels={SESSION_PEER: "systemd"},
            cap_add=["SYS_ADMIN"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            # On cgroup v2 systemd needs to see the tree whose files are mounted below.
            cgroupns="host" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else None,
            tmpfs={"/run": "", "/run/lock": "", "/tmp": ""},
            volumes={
                "/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"},
                str(self._bus_folder): {"bind": _BUS_FOLDER, "mode": "rw"},
                **{str(path): {"bind": str(path), "mode": "rw"} for path in self._shown},
            },
        )
        eventually(self._has_booted, 30, "systemd in its container has booted")
        return self

    def stop(self) -> None:
        """Switch the host off; harmless when it is off."""
        if self._container is not None:
            self._container.remove(force=True, v=True)
            self._container = None

    def run(self, *command: str) -> tuple[int, str]:
        """Exit status and output of a command inside."""
        status, output = self.container.exec_run(list(command))
        assert isinstance(output, bytes)
        return status or 0, output.decode(errors="replace")

    def systemctl(self, *arguments: str) -> str:
        """What ``systemctl`` prints inside, whatever its exit status."""
        return self.run("systemctl", "--no-pager", *arguments)[1].strip()

    def add_unit(self, name: str, text: str) -> None:
        """Install unit *name* (with its suffix), replacing an older one, and load it."""
        path = f"/etc/systemd/system/{name}"
        status, output = self.run("sh", "-c", 'printf %s "$1" >"$2"', "sh", text, path)
        if status != 0:
            raise RuntimeError(f"{name} cannot be written: {output}")
        self.systemctl("daemon-reload")

    def remove_unit(self, name: str) -> None:
        """Stop unit *name* at once and forget it."""
        self.systemctl("kill", "--signal=KILL", name)
        self.systemctl("stop", name)
        self.systemctl("reset-failed", name)
        self.run("rm", "-f", f"/etc/systemd/system/{name}")
        self.systemctl("daemon-reload")

    def log(self) -> str:
        """The end of its journal."""
        return self.run("journalctl", "--no-pager", "--lines=60")[1]

    def _has_booted(self) -> bool:
        return self.systemctl("is-system-running") in {"running", "degraded"}


def image(client: DockerClient, packages: Sequence[str] = PACKAGES) -> str:
    """The name of the image to boot, made from the archive if the engine lacks it."""
    archive = root_archive(packages)
    name = f"{_REPOSITORY}:{archive.name.split('.')[0].rpartition('-')[2]}"
    if not client.images.list(name=name):
        repository, _, tag = name.partition(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)
    return name


def root_archive(packages: Sequence[str] = PACKAGES) -> Path:
    """The archive of the root file system; building it takes a minute or two, once."""
    require_root("building a root file system")
    name = release()
    key = hashlib.sha256(" ".join((name, platform.machine(), *packages)).encode()).hexdigest()
    archive = CACHE / f"systemd-{name}-{key[:12]}.tar"
    if not archive.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="systemd-root-") as folder:
            _debootstrap(name, Path(folder) / "root", packages)
            # A second run that builds at the same time only replaces the archive by an equal one.
            partial = archive.with_suffix(f".{os.getpid()}.part")
            _pack(Path(folder) / "root", partial)
            partial.rename(archive)
    return archive


def _debootstrap(suite: str, root: Path, packages: Sequence[str]) -> None:
    command = [
        require_tool("debootstrap"),
        "--variant=minbase",
        f"--include={','.join(packages)}",
        suite,
        str(root),
        package_source(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeerMissingError(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _pack(root: Path, archive: Path) -> None:
    def leave_out(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if _LEFT_OUT.match(entry.name) else entry

    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".", filter=leave_out)


def package_source() -> str:
    """The first package source of this machine's apt, in either of its two file formats."""
    for path in (_APT / "sources.list", *sorted((_APT / "sources.list.d").glob("*"))):
        if path.suffix in {".list", ".sources"} and path.is_file():
            for address in _sources_in(path.read_text()):
                return address
    raise PeerMissingError(f"no package source in {_APT}: debootstrap does not know where to look")


def _sources_in(text: str) -> Iterator[str]:
    for line in text.splitlines():
        one_line = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+://\S+)", line)
        field = re.match(r"URIs:\s*(\S+://\S+)", line)
        if found := one_line or field:
            yield found[1]


def release() -> str:
    """The code name of this release."""
    names = platform.freedesktop_os_release()
    if "VERSION_CODENAME" not in names:
        raise PeerMissingError("debootstrap needs a Debian or Ubuntu release; this is neither")
    return names["VERSION_CODENAME"]
