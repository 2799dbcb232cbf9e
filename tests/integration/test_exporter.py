"""The exporter as a process: real containers, simulated GPUs, what Prometheus would read."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from docker import DockerClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.contracts.exporter_metrics import EXPORTER_METRICS
from tests.eventually import eventually, patience
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.missing import require_tool
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.process import Daemon
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

MIB = 1024 * 1024
# Names that dashboards have used for years; promtool dislikes them.
INHERITED = (
    *("DCGM_", "ds01_containers_total ", "ds01_events_24h_total ", "ds01_lifecycle_events_total "),
    *("ds01_group_members_total ", "ds01_ssh_sessions_total ", "ds01_user_containers_count "),
    "ds01_unmanaged_gpu_count ",
    "label names should be written",
)
# These need a sick GPU, or half a minute of suspicion: tests/integration/test_exporter_gpus.py.
SERVED_EMPTY = {"ds01_gpu_orphan_process"}
LABEL = re.compile(r'(\w+)="(?:[^"\\\n]|\\.)*"')
SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$", re.MULTILINE)


class Exporter:
    """A running exporter and what it serves."""

    def __init__(self, port: int, daemon: Daemon) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.daemon = daemon

    def get(self, path: str = "/metrics", accept: str = "text/plain") -> str:
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.read().decode())

    def rows(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of every series called *name*."""
        families = read_text(self.get())
        samples = [sample for family in families for sample in family.samples]
        return [(dict(s.labels), float(s.value)) for s in samples if s.name == name]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the one series with *labels*; None if there is none."""
        found = [value for has, value in self.rows(name) if labels.items() <= has.items()]
        assert len(found) <= 1, f"{name}{labels} is there {len(found)} times"
        return found[0] if found else None


Start = Callable[..., Exporter]


@pytest.fixture
def host() -> Iterator[GpuHost]:
    with GpuHost(gpus=2) as host:
        yield host


@pytest.fixture
def start(engine: DockerEngine, host: GpuHost, stage: Stage) -> Start:
    """Start an exporter with more flags."""

    def start(*flags: str) -> Exporter:
        port = free_port()
        command = [
            *(sys.executable, "-m", "remediator", "export"),
            *("--listen", f"{LOOPBACK}:{port}", "--docker-host", engine.url, *flags),
        ]
        daemon = stage.daemon(
            "exporter",
            command,
            ready=lambda: answers(port),
            environment={**os.environ, **host.environment},
        )
        exporter = Exporter(port, daemon)
        inventory = {"collector": "inventory"}
        eventually(
            lambda: exporter.value("ds01_collector_success", **inventory), 15, "the first list"
        )
        return exporter

    return start


def test_containers_are_shown_with_owner_slots_and_limits(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    small, _ = host.partition(1, "1g.10gb", "2g.20gb")
    whole = run_gpu_container(
        docker_client, host, "whole", gpus=(0,), util=80, labels={"ds01.user": "alice"}
    )
    part = run_gpu_container(
        docker_client,
        host,
        "part",
        gpus=(small.uuid,),
        labels={"ds01.user": "bob", "ds01.protected": "true", "odd": 'a"b\n'},
    )
    exporter = start("--gpu-metrics")

    info = {labels["container"]: labels for labels, _ in exporter.rows("ds01_container_info")}
    gpus = {labels["container_id"]: labels for labels, _ in exporter.rows("ds01_container_gpu")}

    assert (info["whole"]["user"], info["whole"]["exempt"]) == ("alice", "false")
    assert (info["part"]["user"], info["part"]["exempt"]) == ("bob", "true")
    assert (gpus[whole.id]["UUID"], gpus[whole.id]["GPU_I_ID"]) == (host.uuid(0), "")
    assert (gpus[part.id]["UUID"], gpus[part.id]["GPU_I_ID"]) == (host.uuid(1), str(small.gi))
    assert len(exporter.rows("ds01_container_gpu")) == 2
    assert exporter.value("ds01_container_idle_timeout_seconds", container_id=whole.id) == 1800
    assert exporter.value("ds01_container_idle_timeout_seconds", container_id=part.id) is None
    assert exporter.value("DCGM_FI_DEV_GPU_UTIL", UUID=host.uuid(0)) == 80
    assert exporter.value("ds01_gpu_demand_ratio") == pytest.approx(1 / (1 + 3 / 7))


def test_gpu_processes_are_matched_to_containers(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    container = run_gpu_container(
        docker_client, host, "train", labels={"ds01.user": "alice"}, environment={}
    )
    orphan = host.start_task(1)
    exporter = start()

    def by_pid() -> dict[str, dict[str, str]]:
        rows = exporter.rows("ds01_gpu_process_memory_bytes")
        return {labels["pid"]: labels for labels, _ in rows}

    pid = str(container.attrs["State"]["Pid"])
    found = eventually(lambda: by_pid() if len(by_pid()) == 2 else None, 5, "two processes")
    assert found[pid]["container_id"] == container.id
    assert found[pid]["user"] == "alice"
    assert found[str(orphan.pid)]["container_id"] == ""
    assert found[str(orphan.pid)]["user"] == "root"
    assert found[str(orphan.pid)]["start_ticks"].isdecimal()


def test_a_life_is_followed_within_a_moment(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    exporter = start()
    container = run_gpu_container(docker_client, host, "short-lived")
    running = {"container_id": container.id}

    eventually(lambda: exporter.value("ds01_container_running", **running) == 1, 2, "it runs")
    first = exporter.value("ds01_container_started_time_seconds", **running) or 0
    container.restart(timeout=0)
    eventually(
        lambda: (exporter.value("ds01_container_started_time_seconds", **running) or 0) > first,
        2,
        "the restart is seen",
    )
    container.stop(timeout=0)
    eventually(lambda: exporter.value("ds01_container_running", **running) == 0, 2, "it stopped")
    assert exporter.value("ds01_container_finished_time_seconds", **running)
    cpu = "ds01_container_cpu_usage_seconds_total"
    eventually(lambda: exporter.value(cpu, **running) is None, 5, "it uses nothing any more")
    container.remove()
    eventually(lambda: exporter.value("ds01_container_running", **running) is None, 2, "gone")


def test_a_new_container_with_an_old_name_is_another(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    exporter = start()
    first = run_gpu_container(docker_client, host, "same")
    first.remove(force=True)
    second = run_gpu_container(docker_client, host, "same")

    def ids() -> list[str]:
        rows = exporter.rows("ds01_container_info")
        return [labels["container_id"] for labels, _ in rows if labels["container"] == "same"]

    eventually(lambda: ids() == [second.id], 3, "only the second is there")


def test_usage_comes_from_the_kernel(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    container = run_gpu_container(
        docker_client, host, "busy", command=["sh", "-c", "while :; do :; done"], mem_limit="64m"
    )
    exporter = start()
    one = {"container_id": container.id}

    def cpu() -> float:
        return exporter.value("ds01_container_cpu_usage_seconds_total", **one) or 0

    before = eventually(cpu, 5, "CPU time is shown")
    eventually(lambda: cpu() > before + 0.1, 10, "CPU time grows")
    assert (exporter.value("ds01_container_memory_usage_bytes", **one) or 0) > 0
    assert exporter.value("ds01_container_memory_limit_bytes", **one) == 64 * MIB
    assert exporter.value("ds01_container_processes", **one) == 1
    assert exporter.value("ds01_container_network_receive_bytes_total", **one) == 0


def test_a_keep_alive_is_seen(
    start: Start, host: GpuHost, docker_client: DockerClient, tmp_path: Path
) -> None:
    container = run_gpu_container(docker_client, host, "kept", volumes=[f"{tmp_path}:/workspace"])
    exporter = start()
    one = {"container_id": container.id}
    assert exporter.value("ds01_container_keep_alive_until_seconds", **one) is None

    (tmp_path / ".keep-alive").touch()

    until = eventually(
        lambda: exporter.value("ds01_container_keep_alive_until_seconds", **one), 15, "it is seen"
    )
    assert abs(until - time.time() - 24 * 3600) < 60


def test_a_frozen_docker_delays_no_scrape(
    start: Start, host: GpuHost, docker_client: DockerClient, engine: DockerEngine
) -> None:
    run_gpu_container(docker_client, host, "known")
    exporter = start()
    engine.freeze()
    try:
        began = time.monotonic()
        age = exporter.value("ds01_inventory_age_seconds")
        names = [labels["container"] for labels, _ in exporter.rows("ds01_container_info")]

        assert time.monotonic() - began < 2 * patience()
        assert "known" in names
        assert age is not None
        eventually(
            lambda: (exporter.value("ds01_inventory_age_seconds") or 0) > age + 0.5, 5, "it ages"
        )
    finally:
        engine.thaw()


def test_a_hanging_driver_delays_a_scrape_by_a_second_at_most(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    container = run_gpu_container(docker_client, host, "known")
    exporter = start()
    exporter.get()
    host.set(0, hang=60_000)

    began = time.monotonic()
    slots = exporter.rows("ds01_container_gpu")

    assert time.monotonic() - began < 3 * patience()
    assert [labels["container_id"] for labels, _ in slots] == [container.id]
    host.set(0, hang=0)


def test_a_lost_gpu_and_a_lost_driver_hide_nothing_else(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    run_gpu_container(docker_client, host, "known", gpus=(1,))
    exporter = start("--gpu-metrics")
    host.lose(0)

    def served() -> set[str]:
        return {labels["UUID"] for labels, _ in exporter.rows("DCGM_FI_DEV_GPU_TEMP")}

    def slots() -> float | None:
        return exporter.value("ds01_collector_success", collector="slots")

    eventually(lambda: served() == {host.uuid(1)}, 10, "the lost GPU is silent")
    assert slots() == 1

    host.unload_driver()
    eventually(lambda: slots() == 0, 10, "the driver is missed")
    assert exporter.value("ds01_collector_success", collector="containers") == 1
    assert exporter.rows("ds01_container_gpu") == []
    assert len(exporter.rows("ds01_container_info")) == 1

    host.load_driver()
    eventually(lambda: exporter.rows("ds01_container_gpu"), 10, "the driver is back")


def test_a_repartition_shows_without_a_restart(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    old, _ = host.partition(1, "1g.10gb", "1g.10gb")
    run_gpu_container(docker_client, host, "part", gpus=(old.uuid,))
    exporter = start()
    assert exporter.value("ds01_mig_mapping_status") == 1

    new, *_ = host.partition(1, "3g.40gb")

    def slots() -> set[str]:
        return {labels["mig_uuid"] for labels, _ in exporter.rows("ds01_mig_slot_info")}

    # GPUs are looked at ahead of the scrapes, now and then.
    eventually(lambda: slots() == {new.uuid}, 10, "the new slice is there")
    assert exporter.value("ds01_mig_mapping_status") == 0


def test_limits_are_reloaded_and_a_broken_edit_keeps_the_last_good_ones(
    start: Start, host: GpuHost, docker_client: DockerClient, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("user_overrides: {alice: {idle_timeout_h: 2}}\n")
    container = run_gpu_container(docker_client, host, "limited", labels={"ds01.user": "alice"})
    exporter = start("--limits", str(limits))
    idle = {"container_id": container.id}

    assert exporter.value("ds01_container_idle_timeout_seconds", **idle) == 7200
    limits.write_text("user_overrides: {alice: {idle_timeout_h: 3}}\n")
    assert exporter.value("ds01_container_idle_timeout_seconds", **idle) == 10800
    limits.write_text("user_overrides: {alice: {idle_timout_h: 4}}\n")
    assert exporter.value("ds01_container_idle_timeout_seconds", **idle) == 10800
    assert exporter.value("ds01_limits_last_reload_successful") == 0
    assert "did you mean" in exporter.daemon.log_tail()
    limits.write_text("user_overrides: {alice: {idle_timeout_h: null}}\n")
    exporter.daemon.signal(signal.SIGHUP)
    assert exporter.value("ds01_container_idle_timeout_seconds", **idle) is None
    assert exporter.value("ds01_limits_last_reload_successful") == 1


class Ds01:
    """DS01's files and a /run in a folder, with one of everything."""

    def __init__(self, folder: Path) -> None:
        self.limits = folder / "limits.yaml"
        self.events = folder / "events.jsonl"
        self.state = folder / "state"
        self.run = folder / "run"
        self.limits.write_text("groups: {lab: {members: [alice]}}\n")
        self.state.mkdir()
        self.log("maintenance.idle_kill")
        self.log_in("3", "alice")

    def log(self, kind: str) -> None:
        now = datetime.now(UTC).isoformat()
        with self.events.open("a") as file:
            file.write(json.dumps({"timestamp": now, "event_type": kind}) + "\n")

    def log_in(self, session: str, user: str) -> None:
        sessions = self.run / "systemd/sessions"
        sessions.mkdir(parents=True, exist_ok=True)
        (sessions / session).write_text(f"USER={user}\nREMOTE=1\nSTATE=active\nCLASS=user\n")

    @property
    def flags(self) -> tuple[str, ...]:
        return (
            *("--limits", str(self.limits), "--events-log", str(self.events)),
            *("--ds01-state-dir", str(self.state), "--run-root", str(self.run)),
        )


@pytest.fixture
def ds01(tmp_path: Path) -> Ds01:
    return Ds01(tmp_path)


def test_every_family_of_the_contract_is_served_as_it_says(
    start: Start, host: GpuHost, docker_client: DockerClient, ds01: Ds01, tmp_path: Path
) -> None:
    host.partition(1, "1g.10gb", "2g.20gb")
    host.set(0, memory_temp=50)
    (tmp_path / ".keep-alive").touch()
    run_gpu_container(
        docker_client,
        host,
        "work",
        labels={"ds01.user": "alice"},
        volumes=[f"{tmp_path}:/workspace"],
        mem_limit="64m",
        cgroup_parent="/ds01.slice/ds01-lab.slice/ds01-lab-alice.slice",
    )
    run_gpu_container(docker_client, host, "done").stop(timeout=0)
    exporter = start("--gpu-metrics", *ds01.flags)
    eventually(lambda: exporter.rows("DCGM_FI_DEV_GPU_TEMP"), 10, "the GPUs were looked at")
    eventually(lambda: exporter.rows("ds01_container_processes"), 10, "and the containers")

    text = exporter.get()

    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    labels = {name: tuple(LABEL.findall(inside)) for name, inside in SERIES.findall(text)}
    assert kinds == {row.name: row.kind for row in EXPORTER_METRICS}
    assert labels == {r.name: r.labels for r in EXPORTER_METRICS if r.name not in SERVED_EMPTY}


def test_a_user_is_shown_with_all_that_is_theirs(
    start: Start, host: GpuHost, docker_client: DockerClient, ds01: Ds01
) -> None:
    alice = {"ds01.user": "alice"}
    run_gpu_container(docker_client, host, "one", gpus=(0,), labels=alice)
    run_gpu_container(docker_client, host, "two", gpus=(0, 1), labels=alice)
    run_gpu_container(docker_client, host, "ours", labels={"ds01.managed": "true", **alice})
    exporter = start(*ds01.flags)

    def value(name: str) -> float | None:
        return exporter.value(name, user="alice")

    eventually(lambda: value("ds01_user_gpus_allocated") == 2, 5, "two slots, one of them shared")
    assert value("ds01_user_gpu_equivalents") == 2
    assert value("ds01_user_mig_allocated") == 2
    assert value("ds01_user_containers_count") == 3
    assert value("ds01_user_group_info") == 1
    eventually(lambda: value("ds01_ssh_sessions_active") == 1, 5, "her session")
    assert exporter.value("ds01_unmanaged_gpu_count") == 2
    ds01.log_in("4", "alice")
    eventually(lambda: value("ds01_ssh_sessions_active") == 2, 5, "another session")


def test_a_slice_is_shown_with_its_users_whole_name(
    start: Start, host: GpuHost, docker_client: DockerClient, ds01: Ds01
) -> None:
    ds01.limits.write_text('groups: {lab: {members: ["h.baker@hertie-school.lan"]}}\n')
    run_gpu_container(
        docker_client,
        host,
        "busy",
        command=["sh", "-c", "while :; do :; done"],
        cgroup_parent="/ds01.slice/ds01-lab.slice/ds01-lab-h_baker.slice",
    )
    exporter = start(*ds01.flags)
    whose = {"user": "h.baker@hertie-school.lan", "group": "lab"}

    def cpu() -> float:
        return exporter.value("ds01_user_cpu_usage_seconds_total", **whose) or 0

    before = eventually(cpu, 5, "CPU time is shown")
    eventually(lambda: cpu() > before + 0.1, 10, "CPU time grows")
    assert (exporter.value("ds01_user_memory_current_bytes", **whose) or 0) > 0


def test_events_are_counted_as_they_come_through_a_rotation(start: Start, ds01: Ds01) -> None:
    exporter = start(*ds01.flags)

    def kills() -> float | None:
        return exporter.value("ds01_lifecycle_events_total", action="idle_kill")

    # A log that takes long to read is not waited for: a scrape is told what was read last.
    eventually(lambda: kills() == 1, 5, "the first")
    ds01.log("maintenance.idle_kill")
    eventually(lambda: kills() == 2, 5, "the second")
    ds01.events.rename(ds01.events.with_suffix(".jsonl.1"))
    assert [kills(), kills()] == [2, 2]
    ds01.log("maintenance.idle_kill")
    eventually(lambda: kills() == 3, 5, "the third")
    assert exporter.value("ds01_events_24h_total", event_type="maintenance.idle_kill") == 3


def test_a_file_that_cannot_be_read_costs_only_its_own_families(start: Start, ds01: Ds01) -> None:
    exporter = start(*ds01.flags)

    def success(*collectors: str) -> list[float | None]:
        return [exporter.value("ds01_collector_success", collector=name) for name in collectors]

    eventually(lambda: success("events", "state-disk", "sessions") == [1, 1, 1], 5, "all is read")
    ds01.events.unlink()
    ds01.events.mkdir()

    eventually(lambda: success("events") == [0], 5, "the events are missed")
    assert exporter.value("ds01_lifecycle_events_total", action="idle_kill") == 1
    assert success("state-disk") == [1]
    assert exporter.value("ds01_ssh_sessions_total") == 1
    assert (exporter.value("ds01_source_age_seconds", source="events-log") or 0) > 0
    assert f"cannot read {ds01.events}" in exporter.daemon.log_tail()


def test_a_host_without_ds01s_files_has_none_of_their_troubles(
    start: Start, tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone")
    exporter = start("--events-log", gone, "--ds01-state-dir", gone, "--run-root", gone)

    hosts = {"events", "state-disk", "sessions", "user-slices", "groups"}

    def working() -> set[str]:
        rows = exporter.rows("ds01_collector_success")
        return {row["collector"] for row, works in rows if works}

    eventually(lambda: hosts <= working(), 5, "all is read")
    assert len(exporter.rows("ds01_lifecycle_events_total")) == 7
    assert exporter.rows("ds01_ssh_sessions_total") == []


def test_labels_from_outside_hide_no_family(
    start: Start, host: GpuHost, docker_client: DockerClient, ds01: Ds01
) -> None:
    exporter = start(*ds01.flags)
    run_gpu_container(docker_client, host, "plain", labels={"ds01.user": "alice"})
    eventually(lambda: exporter.rows("ds01_container_info"), 5, "it is shown")
    before = set(re.findall(r"^# TYPE (\w+)", exporter.get(), re.MULTILINE))

    run_gpu_container(
        docker_client,
        host,
        "hostile",
        labels={
            "ds01.interface": 'a"\n\\' * 25_000,
            "ds01.user": 'b"\n\\',
            "ds01.container_type": "\u2028}\n# TYPE x",
            "ds01.gpu.uuids": 'GPU-\n"',
        },
    )
    run_gpu_container(
        docker_client, host, "api", labels={"ds01.interface": "api", "ds01.gpu.slots": "all"}
    )
    ds01.log('"\n\\ \u2028' * 1000)
    ds01.log_in("5", 'a"b\\')
    eventually(lambda: len(exporter.rows("ds01_container_info")) == 3, 5, "all are shown")

    text = exporter.get()
    assert set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) == before
    assert len(text) < 100_000
    assert exporter.value("ds01_unmanaged_gpu_all_access") == 0, "DS01's API made it"
    slots = exporter.rows("ds01_container_gpu")
    assert len(slots) == 1 + 1 + 2


def test_the_format_is_valid_in_both_dialects(
    start: Start, host: GpuHost, docker_client: DockerClient, ds01: Ds01
) -> None:
    run_gpu_container(docker_client, host, "odd", labels={"ds01.user": 'a"b\\\n'})
    host.start_task(1)
    exporter = start("--gpu-metrics", *ds01.flags)

    checked = subprocess.run(
        [require_tool("promtool"), "check", "metrics"],
        input=exporter.get(),
        capture_output=True,
        text=True,
        check=False,
    )
    openmetrics = exporter.get(accept="application/openmetrics-text; version=1.0.0")

    complaints = [
        line for line in checked.stderr.splitlines() if not any(old in line for old in INHERITED)
    ]
    assert complaints == []
    assert openmetrics.endswith("# EOF\n")
    assert len(list(read_openmetrics(openmetrics))) > 30


def test_health_answers_at_once_and_nothing_else_is_there(start: Start) -> None:
    exporter = start()

    assert exporter.get("/health") == "ok\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        exporter.get("/secrets")


def test_scrapes_are_served_side_by_side(start: Start, host: GpuHost) -> None:
    exporter = start()
    host.set(0, hang=60_000)
    began = time.monotonic()
    threads = [threading.Thread(target=exporter.get) for _ in range(5)]
    for thread in threads:
        thread.start()

    assert exporter.get("/health") == "ok\n"
    assert time.monotonic() - began < 1 * patience()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 4 * patience()
    host.set(0, hang=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked_even_without_docker(number: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    docker = f"unix://{tmp_path}/docker.sock"
    command = [sys.executable, "-m", "remediator", "export"]
    flags = ["--listen", f"{LOOPBACK}:{port}", "--docker-host", docker]

    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as exporter:
        try:
            eventually(lambda: answers(port), 15, "it listens")
            exporter.send_signal(number)
            _, log = exporter.communicate(timeout=10)
        finally:
            exporter.kill()

    assert exporter.returncode == 0
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        pytest.param(
            ["--limits", "LIMITS"], r"limits.yaml:1:11: .*\n.*limits.yaml:2:", id="limits"
        ),
        pytest.param(["--listen", "192.0.2.1:1"], "cannot listen on 192.0.2.1:1", id="address"),
        pytest.param(["--listen", "everywhere"], "is not an address", id="no address"),
    ],
)
def test_what_it_cannot_start_with_is_said(flags: list[str], said: str, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("policies: []\ndefaults: {idle_timeout_h: soon}\n")
    arguments = [str(limits) if flag == "LIMITS" else flag for flag in flags]

    ended = subprocess.run(
        [sys.executable, "-m", "remediator", "export", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ended.returncode in {1, 2}
    assert re.search(said, ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
