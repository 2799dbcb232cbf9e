"""The peers themselves: each works for real, and is gone once it was stopped."""

import json
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pydbus
import pytest
import requests
from docker import DockerClient

from tests.eventually import eventually
from tests.peers import ports
from tests.peers.alertmanager import shipped_configuration
from tests.peers.dockerd import Bridge, DockerEngine, busybox_image
from tests.peers.missing import PeerMissingError, require_tool
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.process import Daemon, DaemonError
from tests.peers.smtp import MailServer
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost, package_source
from tests.peers.terminals import UTMP, Terminal, Terminals, record

pytestmark = pytest.mark.integration

SLEEPER = """
[Service]
ExecStart=/bin/sleep infinity
"""

ALWAYS_FIRING = """
groups:
  - name: peers
    interval: 30s
    rules:
      - alert: Scraped
        expr: up == 1
        labels: {severity: info}
"""


class Webhook:
    """A little HTTP server that keeps the JSON posted to it."""

    def __init__(self) -> None:
        received: list[dict[str, Any]] = []
        headers: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers.append(self.headers["Authorization"])
                received.append(json.loads(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self.authorizations = headers
        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.stop()


def an_alert(**labels: str) -> dict[str, Any]:
    return {
        "labels": {"alertname": "Test", **labels},
        "startsAt": (datetime.now(UTC) - timedelta(minutes=1)).isoformat(),
    }


def is_alive(pid: int) -> bool:
    """A zombie that somebody else has to reap is not."""
    stat = _of_process(Path(f"/proc/{pid}/stat"))
    return stat != "" and stat.rpartition(")")[2].split()[0] != "Z"


def processes_naming(text: str) -> list[int]:
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if text in _of_process(path)
    ]


def _of_process(path: Path) -> str:
    """What a file in /proc says; nothing once the process has ended, whenever that was."""
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


# Bridges

# NET_ADDR_SET of linux/netdevice.h, for a hardware address.
_SET_BY_HAND = 3


def test_engines_that_start_at_the_same_moment_get_networks_of_their_own() -> None:
    with ThreadPoolExecutor() as pool:
        made = [bridge for bridge in pool.map(lambda _: Bridge.create(), range(6)) if bridge]
    try:
        if len(made) < 6:
            raise PeerMissingError("this machine lets nobody make a bridge")
        networks = {tuple(_networks_of(bridge)) for bridge in made}
        kept = {_assigned(bridge) for bridge in made}
    finally:
        for bridge in made:
            bridge.remove()

    assert len({bridge.name for bridge in made}) == 6
    assert len(networks) == 6
    assert kept == {_SET_BY_HAND}, "otherwise it changes with the containers that come and go"


def _assigned(bridge: Bridge) -> int:
    return int(Path(f"/sys/class/net/{bridge.name}/addr_assign_type").read_text())


def _networks_of(bridge: Bridge) -> list[str]:
    command = [require_tool("busybox"), "ip", "-4", "addr", "show", "dev", bridge.name]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.findall(r"inet (\S+)", output)


# Ports


def test_a_port_is_told_once_and_never_one_that_linux_gives_away_itself() -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: free_port(), range(200)))

    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(told)) == len(told)
    assert max(told) < lowest


def test_a_port_that_somebody_has_taken_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (folder / "last").write_text(str(port - 1))
    monkeypatch.setattr(ports, "_LAST", folder / "last")

    with socket.create_server((LOOPBACK, port)):
        # In the order in which they are told, which begins again after the last one.
        assert (free_port() - port) % len(ports._PORTS) > 0


# Daemons


def test_a_daemon_is_ended_with_all_its_children(folder: Path) -> None:
    command = ["sh", "-c", "trap '' TERM; sleep 900 & echo $! >child; wait"]
    daemon = Daemon("shell", command, folder, ready=(folder / "child").exists, grace=0.2).start()
    child = eventually((folder / "child").read_text, 5, "the child is started")

    daemon.stop()

    assert not daemon.is_running
    eventually(lambda: not is_alive(int(child)), 5, "the child has ended")


def test_a_daemon_that_ends_while_starting_says_how(folder: Path) -> None:
    daemon = Daemon("shell", ["sh", "-c", "echo no such luck; exit 3"], folder, ready=lambda: False)

    with pytest.raises(DaemonError, match="no such luck"):
        daemon.start()


def test_a_daemon_is_started_again_after_a_kill(stage: Stage) -> None:
    daemon = stage.daemon("sleeper", ["sleep", "900"])
    first = daemon.pid

    daemon.kill()
    daemon.start()

    assert daemon.is_running
    assert daemon.pid != first


def test_a_frozen_daemon_runs_on_once_thawed_and_can_be_stopped_frozen(folder: Path) -> None:
    ticks = folder / "ticks"
    command = ["sh", "-c", "while :; do echo >>ticks; sleep 0.01; done"]
    daemon = Daemon("ticker", command, folder, ready=ticks.exists).start()

    daemon.freeze()
    frozen_at = ticks.stat().st_size
    daemon.thaw()
    eventually(lambda: ticks.stat().st_size > frozen_at + 2, 5, "it ticks again")
    daemon.freeze()
    daemon.stop()

    assert not daemon.is_running


def test_daemons_die_with_a_test_run_that_is_killed(folder: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.peers.process import Daemon;"
        "d = Daemon('sleeper', ['sleep', '900'], Path(sys.argv[1])).start();"
        "print(d.pid, flush=True); time.sleep(900)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, cwd=root, text=True
    ) as run:
        assert run.stdout is not None
        sleeper = int(run.stdout.readline())
        assert is_alive(sleeper)

        run.send_signal(signal.SIGKILL)

        eventually(lambda: not is_alive(sleeper), 5, "the daemon has ended with its run")


# Docker


@pytest.mark.docker
def test_a_container_runs_on_the_engine_and_is_reached_on_its_bridge(
    docker_client: DockerClient, engine: DockerEngine, busybox: str
) -> None:
    container = docker_client.containers.run(
        busybox, ["httpd", "-f", "-p", "80", "-h", "/etc"], detach=True
    )
    container.reload()

    assert engine.network == "bridge"
    address = container.attrs["NetworkSettings"]["IPAddress"]
    answer = eventually(lambda: fetch(f"http://{address}/passwd"), 5, "the container serves")
    assert "nobody" in answer
    assert Path(f"/proc/{container.attrs['State']['Pid']}").exists()


def fetch(url: str) -> str:
    try:
        return requests.get(url, timeout=5).text
    except requests.RequestException:
        return ""


@pytest.mark.docker
def test_the_containers_of_one_test_are_gone_in_the_next(docker_client: DockerClient) -> None:
    labels = [row["Labels"] for row in docker_client.api.containers(all=True)]

    assert all("remediator.session-peer" in each for each in labels)


@pytest.mark.docker
def test_a_frozen_engine_answers_nobody_while_its_containers_run(
    stage: Stage, docker_client: DockerClient, engine: DockerEngine, busybox: str
) -> None:
    container = docker_client.containers.run(busybox, ["sleep", "900"], detach=True)
    container.reload()
    hasty = engine.client(timeout=1)

    engine.freeze()
    with pytest.raises(requests.exceptions.ReadTimeout):
        hasty.containers.list()
    alive = is_alive(container.attrs["State"]["Pid"])
    engine.thaw()

    assert alive
    assert hasty.ping()


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name leaves room for the sockets of an engine."""
    return tmp_path_factory.mktemp("e")


@pytest.mark.docker
def test_a_stopped_engine_leaves_nothing(short: Path) -> None:
    engine = DockerEngine(short / "own").start()
    containerd = engine.containerd_pid()
    client = engine.client()
    container = client.containers.run(busybox_image(client), ["sleep", "900"], detach=True)
    container.reload()
    pids = [engine.pid, containerd, container.attrs["State"]["Pid"]]
    assert all(pid and is_alive(pid) for pid in pids)

    engine.stop()

    assert not any(pid and is_alive(pid) for pid in pids)
    eventually(lambda: not processes_naming(str(short / "own")), 5, "its shim has ended")
    assert str(short) not in Path("/proc/self/mounts").read_text()
    assert not (short / "own" / "data").exists()


@pytest.mark.docker
def test_a_killed_engine_leaves_nothing_once_it_was_stopped(short: Path) -> None:
    engine = DockerEngine(short / "own").start()
    client = engine.client()
    container = client.containers.run(busybox_image(client), ["sleep", "900"], detach=True)
    container.reload()
    pid = container.attrs["State"]["Pid"]

    engine.kill()
    assert is_alive(pid)
    engine.stop()

    eventually(lambda: not is_alive(pid), 5, "the container has ended")
    eventually(lambda: not processes_naming(str(short / "own")), 5, "its shim has ended")


@pytest.mark.docker
def test_a_killed_engine_knows_its_containers_when_it_is_back(stage: Stage) -> None:
    engine = stage.docker_engine()
    client = engine.client()
    container = client.containers.create(busybox_image(client), ["sleep", "900"])

    engine.kill()
    engine.start()

    assert [row["Id"] for row in client.api.containers(all=True)] == [container.id]


# Prometheus and Alertmanager


def test_an_alert_goes_from_a_scrape_through_both_to_a_webhook(
    stage: Stage, webhook: Webhook, folder: Path
) -> None:
    rules = folder / "rules.yml"
    rules.write_text(ALWAYS_FIRING)
    token_file = folder / "token"
    token_file.write_text("opensesame\n")
    alertmanager = stage.alertmanager(webhook.url, token_file)

    prometheus = stage.prometheus([rules], alertmanagers=[alertmanager.address], rule_interval="1s")
    prometheus.add_target("itself", prometheus.address)

    delivery = eventually(lambda: webhook.received, 15, "a delivery arrives")[0]
    assert delivery["alerts"][0]["labels"]["instance"] == prometheus.address
    assert webhook.authorizations[0] == "Bearer opensesame"
    assert prometheus.targets_up() == {prometheus.address: True}
    assert prometheus.firing("Scraped")
    assert alertmanager.alerts()[0]["labels"]["alertname"] == "Scraped"


def test_prometheus_keeps_what_it_scraped_through_a_kill(stage: Stage) -> None:
    prometheus = stage.prometheus()
    prometheus.add_target("itself", prometheus.address)
    eventually(lambda: prometheus.query("up == 1"), 10, "it has scraped itself")

    prometheus.kill()
    prometheus.start()

    assert prometheus.query("max_over_time(up[1m]) == 1")


def test_prometheus_says_what_is_wrong_with_a_query_and_a_rule(stage: Stage, folder: Path) -> None:
    rules = folder / "rules.yml"
    rules.write_text("groups: []\n")
    prometheus = stage.prometheus([rules])
    rules.write_text("groups: [{name: broken, rules: [{record: a, expr: 'sum('}]}]\n")

    with pytest.raises(ValueError, match="parse error"):
        prometheus.query("sum(")
    with pytest.raises(ValueError, match="could not parse expression"):
        prometheus.reload()


def test_a_mesh_of_two_delivers_once(stage: Stage, webhook: Webhook) -> None:
    first = stage.alertmanager(webhook.url, mesh=True)
    second = stage.alertmanager(webhook.url, peers=[first.mesh_address])
    eventually(lambda: mesh_size(second.url) == 2, 10, "the two have met")

    for alertmanager in (first, second):
        alertmanager.post([an_alert(instance="a")])

    eventually(lambda: webhook.received, 30, "a delivery arrives")


def mesh_size(url: str) -> int:
    status = requests.get(f"{url}/api/v2/status", timeout=5).json()
    return len(status["cluster"]["peers"])


def test_each_target_is_delivered_by_itself_and_resolving_too(
    stage: Stage, webhook: Webhook
) -> None:
    alertmanager = stage.alertmanager(webhook.url)
    alertmanager.post([an_alert(container_id="a"), an_alert(container_id="b")])
    eventually(lambda: len(webhook.received) == 2, 10, "two deliveries arrive")

    ended = datetime.now(UTC).isoformat()
    alertmanager.post([{**an_alert(container_id="a"), "endsAt": ended}])

    resolved = eventually(
        lambda: [each for each in webhook.received if each["status"] == "resolved"],
        10,
        "the resolved one arrives",
    )
    assert resolved[0]["groupLabels"]["container_id"] == "a"


SHIPPED = """
global: {smtp_smarthost: 'mail.example.org:587', smtp_from: 'a@example.org'}
templates: ['templates/*.tmpl']
route:
  receiver: people
  group_wait: 30s
  routes:
    - {receiver: remediator, matchers: [remediate="true"], group_wait: 5s, continue: true}
receivers:
  - name: people
    email_configs: [{to: admin@example.org}]
  - name: remediator
    webhook_configs: [{url: 'http://127.0.0.1:9095/api/v1/alerts'}]
"""


def test_shipped_routes_run_with_our_addresses(
    stage: Stage, webhook: Webhook, mail_server: MailServer, folder: Path
) -> None:
    shipped = folder / "shipped.yml"
    shipped.write_text(SHIPPED)
    alertmanager = stage.shipped_alertmanager(shipped, webhook.url, mail=mail_server)

    alertmanager.post([an_alert(remediate="true"), an_alert(instance="b")])

    eventually(lambda: webhook.received, 10, "a delivery arrives")
    mail = eventually(lambda: mail_server.to("admin@example.org"), 10, "a mail arrives")
    assert "Test" in mail[0].subject


def test_shipped_routes_lose_nothing_but_their_waits(folder: Path) -> None:
    shipped = folder / "shipped.yml"
    shipped.write_text(SHIPPED)

    configuration = shipped_configuration(shipped, "http://127.0.0.1:1/", folder / "token")

    route = configuration["route"]["routes"][0]
    assert route["matchers"] == ['remediate="true"']
    assert route["group_wait"] == "0s"
    assert configuration["templates"] == [str(folder / "templates/*.tmpl")]


# Mail


def send(
    server: MailServer, *recipients: str, password: str | None = None, timeout: float = 5
) -> dict[str, tuple[int, bytes]]:
    context = ssl.create_default_context(cafile=str(server.ca_file))
    with smtplib.SMTP(server.host, server.port, timeout=timeout) as client:
        client.starttls(context=context)
        client.login(server.user, password or server.password)
        text = "Subject: =?utf-8?b?Y2Fmw6k=?=\r\n\r\nhello\r\n.dot\r\n"
        return client.sendmail("from@example.org", recipients, text)


def test_mail_arrives_over_tls_with_a_login(mail_server: MailServer) -> None:
    refused = send(mail_server, "alice@example.org")

    assert not refused
    assert mail_server.messages[0].recipients == ("alice@example.org",)
    assert mail_server.messages[0].subject == "café"
    assert mail_server.messages[0].text.splitlines() == ["hello", ".dot"]


def test_mail_is_refused_without_tls_and_with_a_wrong_password(mail_server: MailServer) -> None:
    client = smtplib.SMTP(mail_server.host, mail_server.port, timeout=5)
    with client, pytest.raises(smtplib.SMTPSenderRefused) as without_tls:
        client.sendmail("from@example.org", ["alice@example.org"], "")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        send(mail_server, "alice@example.org", password="guess")

    assert without_tls.value.smtp_code == 530
    assert not mail_server.messages


def test_a_stranger_does_not_trust_the_certificate(mail_server: MailServer) -> None:
    client = smtplib.SMTP(mail_server.host, mail_server.port, timeout=5)

    with client, pytest.raises(ssl.SSLCertVerificationError):
        client.starttls(context=ssl.create_default_context())


def test_one_recipient_is_refused_and_the_other_served(mail_server: MailServer) -> None:
    mail_server.refuse("bob@example.org")

    refused = send(mail_server, "alice@example.org", "bob@example.org")

    assert refused["bob@example.org"][0] == 550
    assert mail_server.messages[0].recipients == ("alice@example.org",)


def test_a_mail_server_goes_down_and_comes_up_on_its_port(mail_server: MailServer) -> None:
    mail_server.stop()
    with pytest.raises(ConnectionRefusedError):
        send(mail_server, "alice@example.org")

    mail_server.start()
    send(mail_server, "alice@example.org")

    assert mail_server.to("alice@example.org")


def test_a_slow_mail_server_outlasts_an_impatient_client(mail_server: MailServer) -> None:
    mail_server.be_slow(timedelta(seconds=60))

    with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
        send(mail_server, "alice@example.org", timeout=0.3)
    mail_server.stop()

    assert not answers(mail_server.port)
    assert not mail_server.messages


# Terminals


def test_wall_reaches_every_terminal(terminals: Terminals) -> None:
    alice, bob = terminals.login("alice"), terminals.login("bob")

    wall("container c1 stops in ten minutes")

    eventually(lambda: "ten minutes" in alice.read(), 5, "alice reads it")
    eventually(lambda: "ten minutes" in bob.read(), 5, "bob reads it")
    assert alice.path.group() == "tty"


def wall(text: str) -> None:
    subprocess.run(["wall"], input=text, text=True, check=True, capture_output=True)


@pytest.fixture
def turn(terminals: Terminals, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep other test runs off utmp, which is as it was; `Terminals` of the test may take it."""
    monkeypatch.setattr("tests.peers.terminals._LOCK", folder / "lock")
    if terminals._before is None:
        UTMP.unlink()
    else:
        UTMP.write_bytes(terminals._before)


@pytest.mark.usefixtures("turn")
def test_who_is_logged_in_changes_and_utmp_is_as_before_in_the_end() -> None:
    before = UTMP.read_bytes() if UTMP.exists() else None
    terminals = Terminals().start()
    try:
        terminal = terminals.login("alice")
        assert who() == ["alice"]
        terminals.logout(terminal)
        assert who() == []
    finally:
        terminals.stop()

    assert (UTMP.read_bytes() if UTMP.exists() else None) == before


def who() -> list[str]:
    done = subprocess.run(["who"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines()]


@pytest.mark.usefixtures("turn")
def test_terminals_of_real_people_are_left_alone() -> None:
    before = UTMP.read_bytes() if UTMP.exists() else None
    alice = Terminal("alice", 65534)
    try:
        UTMP.write_bytes(record(alice))
        with pytest.raises(PeerMissingError, match="alice"):
            Terminals().start()
        assert who() == ["alice"]
    finally:
        alice.hang_up()
        UTMP.unlink() if before is None else UTMP.write_bytes(before)


@pytest.mark.usefixtures("turn")
def test_a_login_left_by_a_crash_is_out_of_sight_and_put_back() -> None:
    before = UTMP.read_bytes() if UTMP.exists() else None
    crashed = Terminal("mallory", 65534)
    crashed.hang_up()
    left = record(crashed)
    try:
        UTMP.write_bytes(left)
        later = Terminals().start()
        assert who() == []
        later.stop()
        assert UTMP.read_bytes() == left
    finally:
        UTMP.unlink() if before is None else UTMP.write_bytes(before)


@pytest.mark.usefixtures("turn")
def test_a_second_test_run_waits_its_turn_for_the_terminals() -> None:
    first, second = Terminals().start(), Terminals(wait=timedelta(0))

    with pytest.raises(PeerMissingError, match="another test run"):
        second.start()
    first.stop()
    second.start()

    second.stop()


def test_a_full_terminal_does_not_keep_wall_from_the_others(terminals: Terminals) -> None:
    full, free = terminals.login("alice"), terminals.login("bob")
    full.fill()

    wall("anybody there?")

    eventually(lambda: "anybody there?" in free.read(), 5, "bob reads it")


# systemd


@pytest.mark.docker
@pytest.mark.systemd
def test_units_are_driven_over_the_bus_from_outside(systemd_host: SystemdHost) -> None:
    systemd_host.add_unit("sleeper.service", SLEEPER)
    bus = pydbus.connect(systemd_host.bus_address)
    manager = bus.get(".systemd1")["org.freedesktop.systemd1.Manager"]

    def state() -> str:
        row = manager.ListUnitsByNames(["sleeper.service"])[0]
        return str(row[3]) if row[7] == 0 else "job"

    try:
        manager.StartUnit("sleeper.service", "replace")
        eventually(lambda: state() == "active", 5, "the unit is active")
        manager.StopUnit("sleeper.service", "replace")
        eventually(lambda: state() == "inactive", 5, "the unit is inactive")
        assert "dbus.service" in {row[0] for row in manager.ListUnits()}
    finally:
        bus.con.close_sync(None)
        systemd_host.remove_unit("sleeper.service")


@pytest.mark.docker
@pytest.mark.systemd
def test_a_unit_is_replaced_and_removed(systemd_host: SystemdHost) -> None:
    systemd_host.add_unit("sleeper.service", SLEEPER)
    assert systemd_host.systemctl("show", "-p", "LoadState", "sleeper") == "LoadState=loaded"

    systemd_host.remove_unit("sleeper.service")

    assert systemd_host.systemctl("show", "-p", "LoadState", "sleeper") == "LoadState=not-found"


@pytest.mark.parametrize("peer", ["prometheus", "alertmanager", "mail_server"])
def test_a_stopped_peer_leaves_neither_process_nor_port(folder: Path, peer: str) -> None:
    with Stage(folder / "stage") as stage:
        starts: dict[str, Callable[[], Any]] = {
            "prometheus": stage.prometheus,
            "alertmanager": lambda: stage.alertmanager("http://127.0.0.1:1/"),
            "mail_server": stage.mail_server,
        }
        port = starts[peer]().port
        assert answers(port)

    assert not answers(port)
    assert not processes_naming(str(folder / "stage"))


def test_the_package_source_of_this_machine_is_found() -> None:
    assert package_source().startswith(("http://", "https://", "mirror"))
