"""The stand-in for dcgm-exporter as a unit of a `SystemdHost`, or as a container of our engine."""

import io
import tarfile
from collections.abc import Collection
from pathlib import PurePosixPath
from textwrap import dedent

import requests
from docker.models.containers import Container

from tests.eventually import eventually
from tests.peers.dcgm import PROGRAM
from tests.peers.dockerd import DockerEngine
from tests.peers.missing import PeerMissingError
from tests.peers.systemd_host import SystemdHost, image

PORT = 9400
UNIT = "dcgm.service"
NAME = "dcgm-exporter"
_PLACE = PurePosixPath("/opt/dcgm_program.py")
_STARTS = "/run/dcgm-starts"


def address_of(engine: DockerEngine, container: Container) -> str:
    """Return ``host:port`` at which an exporter in *container* is reached from here."""
    if engine.network != "bridge":
        raise PeerMissingError("the container needs a bridge to be reached at")
    container.reload()
    return f"{container.attrs['NetworkSettings']['IPAddress']}:{PORT}"


def answers(address: str) -> bool:
    """Tell whether an exporter answers with 200."""
    try:
        return requests.get(f"http://{address}/metrics", timeout=1).ok
    except requests.RequestException:
        return False


class DcgmUnit:
    """The exporter as a unit; each of its starts is counted."""

    def __init__(self, engine: DockerEngine, host: SystemdHost, uuids: Collection[str]) -> None:
        self.host = host
        self.address = address_of(engine, host.container)
        self._uuids = uuids

    def install(self, *arguments: str, options: str = "", limits: str = "") -> None:
        """Write the unit file, with the program's *arguments* and further lines, and start it."""
        put_program(self.host.container)
        self.host.run("rm", "-f", _STARTS)
        text = f"""\
            [Unit]
            {limits}
            [Service]
            ExecStartPre=/bin/sh -c 'echo >>{_STARTS}'
            ExecStart=/usr/bin/python3 {_PLACE} {PORT} {" ".join(arguments)} {" ".join(self._uuids)}
            TimeoutStopSec=45
            SendSIGKILL=no
            {options}"""
        self.host.add_unit(UNIT, dedent(text) + "\n")
        self.host.systemctl("start", UNIT)
        eventually(lambda: answers(self.address), 10, "the exporter answers")

    def remove(self) -> None:
        """Kill it and delete the file, or the link that masks it."""
        # A restart that still waits would start one that must not be killed either.
        self.host.add_unit(UNIT, "[Service]\nExecStart=/bin/true\nTimeoutStopSec=1\n")
        self.host.remove_unit(UNIT)

    def kill(self, signal: str) -> None:
        """Send its process a signal."""
        self.host.systemctl("kill", "--kill-who=main", f"--signal={signal}", UNIT)

    def starts(self) -> int:
        """How often it was started."""
        return self.host.run("cat", _STARTS)[1].count("\n")

    def is_(self, state: str) -> bool:
        """Tell whether systemd calls it just this: active, failed, inactive."""
        return self.host.systemctl("is-active", UNIT) == state


def run_container(engine: DockerEngine, *arguments: str, restart: str = "no") -> Container:
    """Start the exporter as a container that Docker owns, and wait until it answers."""
    client = engine.client()
    container = client.containers.create(
        image(client),
        ["python3", str(_PLACE), str(PORT), *arguments],
        name=NAME,
        restart_policy={"Name": restart},
    )
    put_program(container)
    container.start()
    address = address_of(engine, container)
    eventually(lambda: answers(address), 10, "the exporter answers")
    return container


def put_program(container: Container) -> None:
    """Copy the program into *container*."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(PROGRAM, _PLACE.name)
    assert container.put_archive(str(_PLACE.parent), content.getvalue())
