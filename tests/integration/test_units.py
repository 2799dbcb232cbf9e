"""`make install` and the units, as shipped, on a machine of their own with real systemd.

The machine has no network and no registry: pip finds what it needs in a folder of wheels that is
built outside. There is no Docker, no driver and no Prometheus on it, so everything is held, until
the test that gives it all of them.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from tests.alert_rules.shipped import ROOT
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.missing import require_tool
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.gpu,
    pytest.mark.systemd,
]

PACKAGES = ("systemd", "dbus", "make", "procps", "python3-venv", "gir1.2-glib-2.0")
SOURCE = "/usr/src/remediator"
STATE = "/var/lib/remediator"
RECEIVER, WORKER, EXPORTER = SERVICES = (
    "remediator-receiver.service",
    "remediator-worker.service",
    "ds01-exporter.service",
)
# What of compose/prometheus.yml there is on the machine, and how the two servers are started.
RUNNING_JOBS = {
    *("prometheus", "alertmanager", "ds01-exporter", "remediator-receiver", "remediator-worker"),
}
SERVERS = {
    "prometheus": f"--config.file={SOURCE}/compose/prometheus.own.yml"
    " --storage.tsdb.path=/var/tmp/prometheus --web.listen-address=127.0.0.1:9090",
    "prometheus-alertmanager": f"--config.file={SOURCE}/alertmanager/alertmanager.yml"
    " --storage.path=/var/tmp/alertmanager --web.listen-address=127.0.0.1:9093"
    " --cluster.listen-address=",
}
DROP_IN = f"/etc/systemd/system/{RECEIVER}.d"
# Has somebody look around in the very confinement that the receiver is in.
LOOK = f"""\
[Service]
ExecStartPost=/bin/sh -c "stat --format=%%a\\\\ %%n /run/docker.sock /run/dbus >{STATE}/inbox/seen"
"""
FIRING = ROOT / "tests" / "data" / "webhook_firing.raw.json"
# Method, URL, token and body; prints the status and the answer.
ASK = """
import sys, urllib.error, urllib.request
url, token, body = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
request = urllib.request.Request(url, body.encode() or None, headers)
try:
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that it is installed on."""

    host: SystemdHost

    def sh(self, script: str, code: int = 0) -> str:
        """Run a shell script and return what it prints."""
        status, output = self.host.run("sh", "-c", script)
        assert status == code, f"{script}: exit code {status}\n{output}"
        return output.strip()

    def make(self, what: str) -> str:
        return self.sh(
            f"cd {SOURCE} && WHEEL=$(echo {SOURCE}/wheels/remediator-*.whl)"
            f" PIP_NO_INDEX=1 PIP_FIND_LINKS={SOURCE}/wheels make {what}"
        )

    def ask(self, url: str, body: bytes = b"", token: str | None = None) -> str:
        """Return the status and the text of what *url* answers, with the installed token."""
        token = self.sh("cat /etc/remediator/token") if token is None else token
        status, output = self.host.run("python3", "-c", ASK, url, token, body.decode())
        return output if status == 0 else f"no answer: {output}"

    def deliver(self) -> None:
        """Have the receiver take one delivery, as from Alertmanager."""
        assert self.ask("http://127.0.0.1:9095/api/v1/alerts", FIRING.read_bytes())[:3] == "200"

    def incidents(self) -> list[tuple[object, object]]:
        """Number and beginning of what the installed command lists."""
        listed = json.loads(self.sh("remediator incidents list --json"))
        return [(incident["id"], incident["opened_at"]) for incident in listed]

    def value(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.host.systemctl("show", "--value", f"--property={name}", unit)

    def start(self) -> None:
        """Start all, as the instructions say."""
        self.host.systemctl("enable", "--now", "remediator.target")
        self.until_active(*SERVICES)

    def until_active(self, *units: str) -> None:
        try:
            eventually(
                lambda: all(self.value(unit, "ActiveState") == "active" for unit in units),
                30,
                f"{', '.join(units)} to be active",
            )
        except AssertionError as error:
            error.add_note(self.host.systemctl("status", *units))
            raise


@pytest.fixture(scope="module")
def gpus() -> Iterator[GpuHost]:
    with GpuHost(1) as host:
        yield host


@pytest.fixture(scope="module")
def docker(module_stage: Stage) -> DockerEngine:
    """The Docker of the machine: one whose containers, of which it has none, it could see."""
    return module_stage.docker_engine()


@pytest.fixture(scope="module")
def machine(
    module_stage: Stage, engine: DockerEngine, docker: DockerEngine, gpus: GpuHost, wheels: Path
) -> Machine:
    """A machine on which it is installed and runs."""
    shown = [docker.folder, gpus.folder]
    machine = Machine(module_stage.systemd_host(engine, PACKAGES, shown))
    machine.sh(f"mkdir --parents {SOURCE}")
    machine.host.container.put_archive(SOURCE, _source(wheels))
    machine.make("install")
    machine.start()
    return machine


def _source(wheels: Path) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("Makefile", "compose", "alert_rules", "alertmanager"):
            tar.add(ROOT / name, name)
        tar.add(wheels, "wheels")
    return archive.getvalue()


def test_systemd_finds_no_fault_in_the_units(machine: Machine) -> None:
    folder = "/usr/local/lib/systemd/system"
    units = " ".join(f"{folder}/{unit}" for unit in (*SERVICES, "remediator.target"))

    assert machine.sh(f"systemd-analyze verify --man=no {units} 2>&1") == ""


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_is_as_confined_as_the_readme_says(machine: Machine, unit: str) -> None:
    score = machine.sh(f"systemd-analyze security {unit} | grep -o ' [0-9.]* [A-Z]* ' | tail -1")

    exposure, verdict = score.split()
    table = f"| `{unit}` | {exposure} ({verdict}) |"
    assert table in (ROOT / "README.md").read_text()
    assert unit != RECEIVER or float(exposure) <= 2.0


def test_a_delivery_is_taken_by_the_worker_which_observes(machine: Machine) -> None:
    machine.deliver()

    eventually(machine.incidents, 15, "an incident")
    assert "mode observe" in machine.sh(f"journalctl --unit {WORKER}")


def test_the_receiver_wants_the_token_that_was_made(machine: Machine) -> None:
    answer = machine.ask("http://127.0.0.1:9095/api/v1/alerts", FIRING.read_bytes(), "wrong")

    assert answer[:3] == "401"
    assert machine.sh("stat --format='%a %U %G' /etc/remediator/token") == "640 root remediator"


@pytest.mark.parametrize(
    ("port", "metric"),
    [(9095, "remediator_deliveries_total"), (9096, "remediator_decisions_total"), (9101, "ds01_")],
)
def test_metrics_are_served(machine: Machine, port: int, metric: str) -> None:
    answer = machine.ask(f"http://127.0.0.1:{port}/metrics")

    assert answer[:3] == "200"
    assert metric in answer


def test_the_receiver_is_nobody_in_particular(machine: Machine) -> None:
    pid = machine.value(RECEIVER, "MainPID")
    status = machine.sh(f"cat /proc/{pid}/status")

    assert machine.sh(f"stat --format=%U /proc/{pid}") == "remediator"
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


@pytest.mark.parametrize(
    "path",
    [f"{STATE}/journal.db", f"{STATE}/new", "/etc/remediator/policy.yaml", "/tmp/../usr/new"],
)
def test_the_receivers_user_writes_in_its_inbox_alone(machine: Machine, path: str) -> None:
    assert "denied" in machine.sh(_as_receiver(f"sh -c ': >>{path}'") + " 2>&1", code=2)
    machine.sh(_as_receiver(f"sh -c ': >>{STATE}/inbox/new && rm {STATE}/inbox/new'"))


def test_the_receiver_sees_neither_dockers_socket_nor_the_bus(machine: Machine) -> None:
    bind = 'import socket; socket.socket(socket.AF_UNIX).bind("/run/docker.sock")'
    machine.sh(f"python3 -c '{bind}' && chmod 666 /run/docker.sock")
    machine.sh(f"mkdir --parents {DROP_IN} && printf '%s' '{LOOK}' >{DROP_IN}/look.conf")
    machine.host.systemctl("daemon-reload")

    machine.host.systemctl("restart", RECEIVER)

    machine.until_active(RECEIVER)
    assert machine.sh(f"cat {STATE}/inbox/seen") == "0 /run/docker.sock\n0 /run/dbus"
    machine.sh(f"rm -r /run/docker.sock {DROP_IN} {STATE}/inbox/seen")
    machine.host.systemctl("daemon-reload")


def _as_receiver(command: str) -> str:
    return f"setpriv --reuid=remediator --regid=remediator --clear-groups {command}"


READ = dedent(f"""\
    from pathlib import Path
    from remediator.journal.journal import Journal
    print(Journal.for_reading(Path("{STATE}")).intake.mark().last_delivery)
    """)


def _read_as_receiver(machine: Machine) -> int:
    # That the shell quotes it is not worth a word more: there are no single quotes in it.
    return int(machine.sh(_as_receiver(f"/opt/remediator/bin/python -c '{READ}'")))


@pytest.mark.parametrize("how", ["runs", "was killed", "was stopped"])
def test_the_receivers_user_reads_the_journal_while_its_worker(machine: Machine, how: str) -> None:
    machine.deliver()
    eventually(lambda: _read_as_receiver(machine) > 0, 15, "a delivery to be taken")

    match how:
        case "was killed":
            machine.host.systemctl("kill", "--signal=KILL", WORKER)
            machine.host.systemctl("stop", WORKER)
        case "was stopped":
            machine.host.systemctl("stop", WORKER)

    assert _read_as_receiver(machine) > 0
    assert machine.ask("http://127.0.0.1:9095/-/ready")[:3] == "200"
    machine.host.systemctl("reset-failed", WORKER)
    machine.host.systemctl("start", WORKER)
    machine.until_active(WORKER)


def test_a_reload_reads_the_policy_again(machine: Machine) -> None:
    before = machine.value(WORKER, "MainPID")
    machine.sh("echo 'nonsense: 1' >>/etc/remediator/policy.yaml")

    machine.host.systemctl("reload", WORKER, EXPORTER)

    eventually(
        lambda: "new one is refused" in machine.sh(f"journalctl --unit {WORKER}"), 10, "a refusal"
    )
    machine.sh("sed -i '$d' /etc/remediator/policy.yaml")
    machine.host.systemctl("reload", WORKER)
    eventually(
        lambda: "policy read again" in machine.sh(f"journalctl --unit {WORKER}"), 10, "a reload"
    )
    assert machine.value(WORKER, "MainPID") == before
    assert machine.value(EXPORTER, "ActiveState") == "active"


def test_the_target_stops_and_starts_all(machine: Machine) -> None:
    machine.host.systemctl("stop", "remediator.target")
    eventually(
        lambda: {machine.value(unit, "ActiveState") for unit in SERVICES} == {"inactive"}, 30, "end"
    )

    machine.host.systemctl("start", "remediator.target")
    machine.until_active(*SERVICES)
    # It was ready before the job was done, so nothing has to be waited for.
    assert machine.ask("http://127.0.0.1:9096/metrics")[:3] == "200"


def test_an_upgrade_keeps_journal_and_configuration(machine: Machine) -> None:
    machine.deliver()
    eventually(machine.incidents, 15, "an incident")
    before = machine.incidents(), machine.sh("cat /etc/remediator/token")
    worker = machine.value(WORKER, "MainPID")
    machine.sh("echo '# mine' >>/etc/remediator/settings.yaml")

    printed = machine.make("install")

    machine.until_active(*SERVICES)
    assert "new:" not in printed
    assert machine.value(WORKER, "MainPID") != worker
    assert (machine.incidents(), machine.sh("cat /etc/remediator/token")) == before
    assert machine.sh("tail -1 /etc/remediator/settings.yaml") == "# mine"


def test_what_was_uninstalled_is_taken_up_again_when_it_is_installed(machine: Machine) -> None:
    machine.deliver()
    eventually(machine.incidents, 15, "an incident")
    before = machine.incidents()

    machine.make("uninstall")

    assert machine.sh("ls /etc/remediator/policy.yaml /var/lib/remediator/journal.db")
    assert {machine.value(unit, "LoadState") for unit in SERVICES} == {"not-found"}
    machine.sh("test ! -e /opt/remediator && test ! -e /usr/local/bin/remediator")
    machine.make("install")
    machine.start()
    assert machine.incidents() == before


def test_doctor_finds_all_well_that_is_on_the_machine(machine: Machine) -> None:
    found = json.loads(machine.sh("remediator doctor --json --no-test-alert", code=1))

    good = {one["name"] for one in found if one["health"] == "good"}
    assert good == {
        *("policy", "limits", "state", "receiver", "token", "worker", "in charge", "systemd")
    }


def give_it_the_rest(machine: Machine, docker: DockerEngine, gpus: GpuHost) -> None:
    """Have Prometheus, Alertmanager, Docker and the driver there, as the instructions want them.

    The two programs are this machine's own, Debian's. What does not run on it is taken out of the
    shipped configuration, as the comments in that say.
    """
    prometheus = yaml.safe_load((ROOT / "compose" / "prometheus.yml").read_text())
    jobs = prometheus["scrape_configs"]
    prometheus["scrape_configs"] = [job for job in jobs if job["job_name"] in RUNNING_JOBS]
    files = {
        "/usr/bin/prometheus": Path(require_tool("prometheus")).read_bytes(),
        "/usr/bin/prometheus-alertmanager": Path(
            require_tool("prometheus-alertmanager")
        ).read_bytes(),
        f"{SOURCE}/compose/prometheus.own.yml": yaml.safe_dump(prometheus).encode(),
    }
    templates = Path("/usr/share/prometheus/alertmanager")
    files |= {str(path): path.read_bytes() for path in templates.glob("*.tmpl")}
    machine.host.container.put_archive("/", archive_of(files))
    for name, arguments in SERVERS.items():
        machine.host.add_unit(
            f"{name}.service", f"[Service]\nExecStart=/usr/bin/{name} {arguments}\n"
        )
    driver = "".join(f'Environment="{n}={v}"\n' for n, v in driver_of(gpus).items())
    for unit in (WORKER, EXPORTER):
        machine.sh(
            f"mkdir --parents /etc/systemd/system/{unit}.d &&"
            f" printf '[Service]\\n%s' '{driver}' >/etc/systemd/system/{unit}.d/driver.conf"
        )
    machine.sh(f"echo 'docker_host: {docker.url}' >>/etc/remediator/settings.yaml")
    machine.sh("sed -i '/^mail:/,/^# chat/d' /etc/remediator/settings.yaml")
    machine.host.systemctl("daemon-reload")
    machine.host.systemctl("start", *(f"{name}.service" for name in SERVERS))
    machine.host.systemctl("restart", *SERVICES)
    machine.until_active(*SERVICES, *(f"{name}.service" for name in SERVERS))


def driver_of(gpus: GpuHost) -> dict[str, str]:
    """What a process needs in its environment to see the stand-in driver."""
    return {
        "FAKE_NVML_STATE": str(gpus.state),
        "LD_LIBRARY_PATH": str(gpus.folder / "lib"),
    }


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """An archive of programs and files, by their paths."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def test_doctor_is_green_and_its_alert_arrives_once_the_rest_is_there(
    machine: Machine, docker: DockerEngine, gpus: GpuHost
) -> None:
    give_it_the_rest(machine, docker, gpus)
    variables = " ".join(f"{name}={value}" for name, value in driver_of(gpus).items())

    eventually(lambda: target_health(machine) == {"up"}, 90, "Prometheus to have asked each target")
    _, printed = machine.host.run("sh", "-c", f"{variables} remediator doctor --json")

    found = {finding["name"]: finding for finding in json.loads(printed)}
    # No mail server is named in the settings, which counts for nothing.
    unwell = {name: one["says"] for name, one in found.items() if one["health"] != "good"}
    assert unwell.keys() == {"mail"}, unwell
    assert "taken and held after" in found["test alert"]["says"]
    assert "RemediatorDoctorTest" in machine.sh("remediator incidents list --json")


def target_health(machine: Machine) -> set[str]:
    """How the targets of its Prometheus are."""
    answer = machine.ask("http://127.0.0.1:9090/api/v1/targets")
    if not answer.startswith("200 "):
        return set()
    return {target["health"] for target in json.loads(answer[4:])["data"]["activeTargets"]}


def test_a_purge_removes_configuration_and_state(machine: Machine) -> None:
    machine.make("uninstall PURGE=1")

    machine.sh("test ! -e /etc/remediator && test ! -e /var/lib/remediator")
    machine.make("install")
    machine.start()


def test_it_is_not_installed_over_something_else(machine: Machine) -> None:
    machine.sh("mkdir --parents /opt/other && touch /opt/other/precious")

    refusal = machine.sh(
        f"cd {SOURCE} && bash compose/systemd/install.sh nothing; PREFIX=/opt/other"
        " bash compose/systemd/install.sh install 2>&1",
        code=1,
    )

    assert "holds something else" in refusal
    machine.sh("test -e /opt/other/precious")
