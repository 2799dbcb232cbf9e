"""The tunnel to a GPU host whose monitoring stack runs elsewhere: real systemd, ssh and sshd.

The machine of the tests is the GPU host, with an sshd and the exporter. The container with
systemd is the monitoring host, and runs the unit as it is shipped.
"""

import contextlib
import io
import re
import shlex
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import requests

from tests.alert_rules.shipped import ROOT
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.missing import PeerMissingError
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.sshd import SshServer
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

FOLDER = ROOT / "compose" / "systemd"
UNIT = FOLDER / "remediator-tunnel@.service"
README = FOLDER / "README.md"
TUNNEL = "remediator-tunnel@gpu1.service"
SERVICES = ("DS01_EXPORTER", "DCGM_EXPORTER", "NODE_EXPORTER", "CADVISOR", "RECEIVER", "WORKER")
SEEN_AT = "127.0.1.1"
KEY, KNOWN_HOSTS = "/etc/remediator/tunnels/key", "/etc/remediator/tunnels/known_hosts"


# The container's Python has sockets and no more.
FETCH = """
import socket, sys
host, port, path = sys.argv[1:]
with socket.create_connection((host, int(port)), 5) as peer:
    peer.sendall(f"GET {path} HTTP/1.0\\r\\n\\r\\n".encode())
    with peer.makefile() as answer:
        sys.stdout.write(answer.read())
"""
SERVE = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    while True:
        client, _ = server.accept()
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nyes")
        client.close()
"""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The monitoring host with the unit, and the sshd of the GPU host."""

    monitoring: SystemdHost
    sshd: SshServer
    ports: Mapping[str, int]

    def fetch(self, service: str, path: str = "/metrics") -> str:
        """What the monitoring host gets from *service* of the GPU host; nothing if it fails."""
        port = str(self.ports[service])
        status, output = self.monitoring.run("python3", "-c", FETCH, SEEN_AT, port, path)
        return output if status == 0 else ""

    def property(self, name: str) -> str:
        return self.monitoring.systemctl("show", "--value", f"--property={name}", TUNNEL)

    def put(self, path: str, text: str, mode: int) -> None:
        """Write a file of the tunnel's user."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            entry = tarfile.TarInfo(path.removeprefix("/"))
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
        assert self.monitoring.container.put_archive("/", content.getvalue())
        self.monitoring.run("chown", "-R", "remediator-tunnel", "/etc/remediator")


def documented(start: str) -> str:
    """The one line of the README that begins with *start*."""
    (line,) = (line for line in README.read_text().splitlines() if line.startswith(start))
    return line


def with_ports(text: str, ports: Mapping[str, int]) -> str:
    """*text* with the ports of the unit replaced by those of this test."""
    defaults = dict(re.findall(r"(\w+)=(\d+)", UNIT.read_text()))
    for name, port in ports.items():
        text = text.replace(f":{defaults[name]}", f":{port}")
    return text


@pytest.fixture(scope="module")
def ports(module_stage: Stage, engine: DockerEngine) -> Iterator[Mapping[str, int]]:
    """The ports of this test, and the exporter at its own."""
    chosen = {name: free_port() for name in (*SERVICES, "PROMETHEUS")}
    listen = f"{LOOPBACK}:{chosen['DS01_EXPORTER']}"
    with GpuHost(gpus=1) as gpus:
        module_stage.daemon(
            "exporter",
            [
                *(sys.executable, "-m", "remediator", "export"),
                *("--listen", listen, "--docker-host", engine.url),
            ],
            ready=lambda: answers(chosen["DS01_EXPORTER"]),
            environment={**gpus.environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            ready_within=30,
        )
        yield chosen


@pytest.fixture(scope="module")
def tunnel(
    module_stage: Stage, engine: DockerEngine, systemd_host: SystemdHost, ports: Mapping[str, int]
) -> Iterator[Tunnel]:
    """A started tunnel, set up as the README says."""
    gateway = engine.client().networks.get("bridge").attrs["IPAM"]["Config"][0].get("Gateway")
    if engine.network != "bridge" or not gateway:
        raise PeerMissingError("the container needs a bridge to reach an sshd outside")
    options = with_ports(documented("restrict,").rpartition(" ssh-ed25519")[0], ports)
    sshd = SshServer(module_stage.folder / "sshd", gateway, options)
    made = Tunnel(systemd_host, sshd, ports)
    assert systemd_host.run(*shlex.split(documented("useradd")))[0] == 0
    environment = {
        "DESTINATION": f"{sshd.user}@{sshd.host}",
        "LISTEN": SEEN_AT,
        "SSH_PORT": sshd.port,
        **ports,
    }
    lines = [f"{name}={value}\n" for name, value in environment.items()]
    made.put("/etc/remediator/tunnels/gpu1.env", "".join(lines), 0o644)
    made.put(KEY, sshd.key.read_text(), 0o400)
    made.put(KNOWN_HOSTS, sshd.known_hosts, 0o644)
    systemd_host.add_unit(UNIT.name, UNIT.read_text())
    try:
        sshd.start()
        systemd_host.systemctl("start", TUNNEL)
        eventually(lambda: made.fetch("DS01_EXPORTER"), 15, "the exporter is reached")
        yield made
    finally:
        systemd_host.remove_unit(TUNNEL)
        systemd_host.remove_unit(UNIT.name)
        sshd.stop()


def test_systemd_finds_no_fault_with_the_unit(tunnel: Tunnel) -> None:
    status, output = tunnel.monitoring.run("systemd-analyze", "--man=no", "verify", TUNNEL)

    assert (status, output) == (0, "")


def test_the_unit_runs_as_nobody_in_particular_and_sees_little(tunnel: Tunnel) -> None:
    pid = tunnel.property("MainPID")
    _, user = tunnel.monitoring.run("stat", "-c", "%U", f"/proc/{pid}")
    _, output = tunnel.monitoring.run("systemd-analyze", "security", "--no-pager", TUNNEL)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", output)

    assert user.strip() == "remediator-tunnel"
    assert exposure
    assert float(exposure[1]) < 2.5


def test_the_exporter_of_the_gpu_host_is_scraped_through_the_tunnel(tunnel: Tunnel) -> None:
    assert "ds01_exporter_info" in tunnel.fetch("DS01_EXPORTER")


def test_the_tunnel_comes_back_when_its_connection_is_cut(tunnel: Tunnel) -> None:
    before = int(tunnel.property("NRestarts"))

    assert tunnel.sshd.drop_connections() == 1

    eventually(lambda: int(tunnel.property("NRestarts")) > before, 20, "it is started again")
    eventually(lambda: tunnel.fetch("DS01_EXPORTER"), 20, "the exporter is reached again")


def test_a_worker_on_the_gpu_host_reaches_prometheus(tunnel: Tunnel) -> None:
    port = tunnel.ports["PROMETHEUS"]
    command = ["systemd-run", "--unit=prometheus", "python3", "-c", SERVE, LOOPBACK, str(port)]
    assert tunnel.monitoring.run(*command)[0] == 0

    answer = eventually(lambda: _answer_of(f"http://{LOOPBACK}:{port}/"), 10, "an answer")

    assert answer == "yes"


def _answer_of(url: str) -> str:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=5).text
    return ""


def test_the_key_opens_no_other_port_and_runs_no_command(tunnel: Tunnel) -> None:
    forbidden, allowed = free_port(), tunnel.ports["DS01_EXPORTER"]

    def ssh(*arguments: str) -> tuple[int, str]:
        login = f"timeout 10 ssh -o BatchMode=yes -i {KEY} -o UserKnownHostsFile={KNOWN_HOSTS}"
        to = f"{tunnel.sshd.user}@{tunnel.sshd.host}"
        port = str(tunnel.sshd.port)
        return tunnel.monitoring.run(*shlex.split(login), "-p", port, *arguments, to, "id")

    back = f"{LOOPBACK}:{forbidden}:{LOOPBACK}:{allowed}"
    assert ssh("-W", f"{LOOPBACK}:{allowed}")[0] == 0
    assert "administratively prohibited" in ssh("-W", f"{LOOPBACK}:{forbidden}")[1]
    assert "forwarding failed" in ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", back)[1]
    assert "uid=" not in ssh()[1]


def test_the_example_of_a_tunnel_has_what_the_unit_needs() -> None:
    example = (FOLDER / "gpu1.env").read_text()
    given = set(re.findall(r"^#? ?([A-Z0-9_]+)=", example, re.MULTILINE))
    unit = UNIT.read_text()
    defaults = set(re.findall(r"[ =]([A-Z0-9_]+)=", unit))
    needed = set(re.findall(r"\$\{([A-Z0-9_]+)\}", unit))

    assert needed - defaults == {"DESTINATION", "LISTEN"} <= given
    assert given <= needed


def test_the_documented_key_opens_the_ports_of_the_unit_and_no_other() -> None:
    defaults = dict(re.findall(r"(\w+)=(\d+)", UNIT.read_text()))
    options = documented("restrict,")

    opened = set(re.findall(r'permitopen="127\.0\.0\.1:(\d+)"', options))
    listened = set(re.findall(r'permitlisten="127\.0\.0\.1:(\d+)"', options))
    assert opened == {defaults[name] for name in SERVICES}
    assert listened == {defaults["PROMETHEUS"]}


def test_what_is_to_be_typed_is_understood_there(tunnel: Tunnel) -> None:
    """In the order of the README, with a key that is not the tunnel's own."""
    starts = ("mkdir --parents", "ssh-keygen -t", "chown", "systemctl status", "journalctl --unit")
    for start in starts:
        command = documented(start).replace("/etc/remediator/tunnels", "/tmp/tunnels")

        status, output = tunnel.monitoring.run(*shlex.split(command))

        assert status == 0, f"{command}: {output}"
    tunnel.monitoring.run("rm", "-r", "/tmp/tunnels")
