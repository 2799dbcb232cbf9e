"""The stack in containers, as shipped: started, looked at from all sides, stopped.

See `tests/peers/compose_stack.py` for what is a stand-in. Of Grafana and cAdvisor only the way that
compose runs them is tried here, not the programs.
"""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.peers.compose_stack import ComposeStack
from tests.peers.gpu.host import GpuHost
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

pytestmark = [
    pytest.mark.integration,
    pytest.mark.docker,
    pytest.mark.gpu,
    pytest.mark.systemd,
]

SERVICES = {
    *("prometheus", "alertmanager", "grafana", "node-exporter", "cadvisor", "dcgm-exporter"),
    *("receiver", "worker", "exporter"),
}
PORTS = {3000, 8080, 9090, 9093, 9095, 9096, 9100, 9101, 9400}
MAIL = 25
PROMETHEUS = "http://127.0.0.1:9090/api/v1"
# The capabilities that a container may have at all, by service; all others have none.
CAPABILITIES = {
    "cadvisor": {"DAC_READ_SEARCH"},
    "dcgm-exporter": {"SYS_ADMIN"},
    "exporter": {"DAC_READ_SEARCH", "SYS_PTRACE"},
    "worker": {
        *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "KILL", "SETGID", "SETUID"),
        *("SYS_ADMIN", "SYS_PTRACE"),
    },
}
LOOK = "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/self/status"


@pytest.fixture(scope="module")
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


@pytest.fixture(scope="module")
def stack(
    module_stage: Stage, gpus: GpuHost, systemd_host: SystemdHost, wheels: Path
) -> ComposeStack:
    """The stack, started, with every service well."""
    stack = ComposeStack(module_stage, gpus, systemd_host)
    stack.prepare()
    stack.make_images(wheels)
    stack.start_mail_server()
    start(stack)
    return stack


def start(stack: ComposeStack) -> None:
    done = stack.remediator("up")
    assert done.returncode == 0, done.stderr
    try:
        eventually(stack.is_well, 90, "every container to be well")
        assert stack.remediator("status", "--quiet").returncode == 0
    except AssertionError as error:
        error.add_note(stack.remediator("status").stdout)
        error.add_note("\n".join(f"{name}:\n{log}" for name, log in stack.logs().items()))
        raise


def inspected(stack: ComposeStack) -> dict[str, dict[str, Any]]:
    """What Docker says of each container, by service."""
    containers = {name: stack.container(name) for name in SERVICES}
    return {name: container.attrs for name, container in containers.items()}


def test_every_service_is_well_and_status_says_so(stack: ComposeStack) -> None:
    printed = stack.remediator("status").stdout

    assert {line.split()[1] for line in printed.splitlines()} == SERVICES
    assert {line.split()[0] for line in printed.splitlines()} == {"ok"}


def test_every_service_but_dcgm_has_a_health_check(stack: ComposeStack) -> None:
    states = {name: attrs["State"] for name, attrs in inspected(stack).items()}

    assert {name for name, state in states.items() if "Health" not in state} == {"dcgm-exporter"}


def test_prometheus_has_every_target_up(stack: ComposeStack) -> None:
    def health() -> dict[str, str]:
        targets = stack.ask_json(f"{PROMETHEUS}/targets")["data"]["activeTargets"]
        return {target["labels"]["job"]: target["health"] for target in targets}

    eventually(lambda: set(health().values()) == {"up"}, 40, "every target to be up")
    assert len(health()) == len(SERVICES)


def test_prometheus_evaluates_all_rules_we_ship(stack: ComposeStack) -> None:
    groups = stack.ask_json(f"{PROMETHEUS}/rules")["data"]["groups"]

    assert {group["file"].rpartition("/")[2] for group in groups} == {
        path.name for path in (stack.folder / "alert_rules").glob("*.yml")
    }
    assert {rule.get("lastError", "") for group in groups for rule in group["rules"]} == {""}


def test_doctor_finds_all_well_and_its_alert_is_in_the_journal(stack: ComposeStack) -> None:
    code, printed = stack.run_in("worker", "remediator", "doctor", "--json")

    findings = json.loads(printed)
    assert {one["name"]: one["health"] for one in findings if one["health"] != "good"} == {}
    assert code == 0
    _, listed = stack.run_in("worker", "remediator", "incidents", "list", "--json")
    assert any("RemediatorDoctorTest" in incident["title"] for incident in json.loads(listed))


def test_the_page_shows_the_journal_from_its_read_only_mount(stack: ComposeStack) -> None:
    token = (stack.compose / "secrets" / "token").read_text()
    script = (
        "import urllib.request as r;"
        " q = r.Request('http://127.0.0.1:9095/api/v1/state',"
        f" headers={{'Authorization': 'Bearer {token}'}});"
        " print(r.urlopen(q, timeout=10).status)"
    )

    assert stack.run_in("receiver", "/opt/remediator/bin/python", "-c", script) == (0, "200\n")


def test_everything_listens_on_loopback_alone(stack: ComposeStack) -> None:
    lines = stack.enter("cat", "/proc/net/tcp", "/proc/net/tcp6").splitlines()
    listening = [line.split()[1] for line in lines if line.split()[3] == "0A"]
    addresses = {entry.partition(":")[0] for entry in listening}

    assert addresses == {"0100007F"}
    assert {int(entry.partition(":")[2], 16) for entry in listening} == {*PORTS, MAIL}
    assert not any(attrs["NetworkSettings"]["Ports"] for attrs in inspected(stack).values())


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_container_has_what_it_needs_and_no_more(stack: ComposeStack, service: str) -> None:
    host = stack.container(service).attrs["HostConfig"]

    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert set(host["CapAdd"] or ()) == CAPABILITIES.get(service, set())
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}
    assert stack.container(service).labels["ds01.monitoring"] == "true"


@pytest.mark.parametrize(
    ("what", "who"),
    [
        ("/var/run/docker.sock", {"worker", "exporter", "cadvisor"}),
        ("/run/dbus", {"worker"}),
        ("/run/secrets/token", {"worker", "receiver"}),
        ("/var/lib/remediator/inbox", {"worker", "receiver"}),
        ("/host", {"node-exporter"}),
    ],
)
def test_a_mount_is_where_it_is_needed_alone(stack: ComposeStack, what: str, who: set[str]) -> None:
    mounts = {
        name: {mount["Destination"] for mount in attrs["Mounts"]}
        for name, attrs in inspected(stack).items()
    }

    assert {name for name, found in mounts.items() if what in found} == who


def test_the_processes_of_the_host_are_shown_to_three(stack: ComposeStack) -> None:
    modes = {name: attrs["HostConfig"]["PidMode"] for name, attrs in inspected(stack).items()}

    assert {name for name, mode in modes.items() if mode == "host"} == {
        *("worker", "exporter", "node-exporter")
    }


@pytest.mark.parametrize(
    "service", ["receiver", "prometheus", "alertmanager", "node-exporter", "grafana"]
)
def test_what_need_not_be_root_is_not_and_can_do_nothing(stack: ComposeStack, service: str) -> None:
    code, status = stack.run_in(service, "sh", "-c", LOOK)

    assert code == 0
    assert re.search(r"^Uid:\t0\t", status, re.MULTILINE) is None
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("/var/lib/remediator/inbox/new", True),
        ("/var/lib/remediator/new", False),
        ("/var/lib/remediator/journal.db", False),
        ("/etc/remediator/policy.yaml", False),
        ("/opt/remediator/new", False),
    ],
)
def test_the_receiver_writes_in_its_inbox_alone(stack: ComposeStack, path: str, may: bool) -> None:
    code, _ = stack.run_in("receiver", "sh", "-c", f": >>{path}")

    assert (code == 0) is may


def test_secrets_are_in_files_and_nowhere_else(stack: ComposeStack) -> None:
    told = json.dumps(inspected(stack)) + json.dumps(
        [image.history() for image in stack.client.images.list() if image.tags]
    )
    for name in ("token", "grafana-password"):
        path = stack.compose / "secrets" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert len(path.read_text()) == 64
        assert path.read_text() not in told


def test_grafana_is_given_its_provisioning_and_may_read_its_password(stack: ComposeStack) -> None:
    code, listed = stack.run_in(
        "grafana",
        *("sh", "-c", "cat $GF_SECURITY_ADMIN_PASSWORD__FILE && find /etc/grafana -type f"),
    )

    assert code == 0
    assert (stack.compose / "secrets" / "grafana-password").read_text() in listed
    shipped = [path for path in (stack.compose / "grafana").rglob("*") if path.is_file()]
    assert len(shipped) == listed.count("/etc/grafana/")


def test_the_exporter_sees_processes_and_the_worker_services_of_the_host(
    stack: ComposeStack, gpus: GpuHost, systemd_host: SystemdHost
) -> None:
    systemd_host.add_unit("gpu-daemon.service", "[Service]\nExecStart=/bin/sleep 3600\n")
    systemd_host.systemctl("start", "gpu-daemon.service")
    task = gpus.start_task(0, task="orphan", uid=54321)

    quiesce = "remediator quiesce --services gpu-daemon.service -- sh -c 'echo so it is done'"
    code, printed = stack.run_in("worker", "sh", "-c", quiesce)

    assert (code, "so it is done" in printed) == (0, True), printed
    assert systemd_host.systemctl("is-active", "gpu-daemon.service") == "active"
    systemd_host.remove_unit("gpu-daemon.service")
    eventually(
        lambda: re.search(
            r'^ds01_gpu_orphan_process\{.*user="54321"',
            stack.ask("http://127.0.0.1:9101/metrics"),
            re.MULTILINE,
        ),
        40,
        "the orphan to be seen",
    )
    task.kill()


def test_logs_are_shown_of_what_is_named(stack: ComposeStack) -> None:
    printed = stack.remediator("logs", "--tail", "5", "receiver").stdout

    assert "remediator.w" in printed
    assert "worker" not in printed


def test_a_service_that_is_stopped_or_gone_is_named(stack: ComposeStack) -> None:
    stack.container("cadvisor").stop(timeout=1)
    stack.container("alertmanager").remove(force=True)

    done = stack.remediator("status")

    bad = {line for line in done.stdout.splitlines() if line.startswith("BAD")}
    assert done.returncode == 1
    assert {line.split()[1] for line in bad} == {"cadvisor", "alertmanager"}
    assert any(line.endswith("missing") for line in bad)
    start(stack)


def test_what_was_taken_down_goes_on_where_it_was(stack: ComposeStack) -> None:
    _, before = stack.run_in("worker", "remediator", "incidents", "list", "--json")

    done = stack.remediator("down")

    assert done.returncode == 0, done.stderr
    assert stack.client.containers.list(all=True) == []
    assert stack.remediator("status", "--quiet").returncode == 1
    refused = stack.remediator("down", "--volumes")
    assert (refused.returncode, "nothing was removed" in refused.stderr) == (1, True)
    start(stack)
    _, after = stack.run_in("worker", "remediator", "incidents", "list", "--json")
    assert {i["id"] for i in json.loads(before)} <= {i["id"] for i in json.loads(after)}
    assert json.loads(before) != []
