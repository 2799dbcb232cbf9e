"""The exporter as a process: real containers, simulated GPUs, what Prometheus would read."""

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
from pathlib import Path

import pytest
from docker import DockerClient
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.eventually import eventually
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
INHERITED = ("DCGM_", "ds01_containers_total ", "label names should be written")


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
    assert exporter.value("ds01_container_cpu_usage_seconds_total", **running) is None
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
        docker_client, host, "busy", command=["sh", "-c", "while :; do :; done"]
    )
    exporter = start()
    one = {"container_id": container.id}

    def cpu() -> float:
        return exporter.value("ds01_container_cpu_usage_seconds_total", **one) or 0

    before = eventually(cpu, 5, "CPU time is shown")
    eventually(lambda: cpu() > before + 0.1, 10, "CPU time grows")
    assert (exporter.value("ds01_container_memory_usage_bytes", **one) or 0) > 0
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

        assert time.monotonic() - began < 2
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

    assert time.monotonic() - began < 3
    assert [labels["container_id"] for labels, _ in slots] == [container.id]
    host.set(0, hang=0)


def test_a_lost_gpu_and_a_lost_driver_hide_nothing_else(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    run_gpu_container(docker_client, host, "known", gpus=(1,))
    exporter = start("--gpu-metrics")
    host.lose(0)
    served = {labels["UUID"] for labels, _ in exporter.rows("DCGM_FI_DEV_GPU_TEMP")}
    assert served == {host.uuid(1)}
    assert exporter.value("ds01_collector_success", collector="slots") == 1

    host.unload_driver()
    assert exporter.value("ds01_collector_success", collector="slots") == 0
    assert exporter.value("ds01_collector_success", collector="containers") == 1
    assert exporter.rows("ds01_container_gpu") == []
    assert len(exporter.rows("ds01_container_info")) == 1

    host.load_driver()
    eventually(lambda: exporter.rows("ds01_container_gpu"), 5, "the driver is back")


def test_a_repartition_shows_without_a_restart(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    old, _ = host.partition(1, "1g.10gb", "1g.10gb")
    run_gpu_container(docker_client, host, "part", gpus=(old.uuid,))
    exporter = start()
    assert exporter.value("ds01_mig_mapping_status") == 1

    new, *_ = host.partition(1, "3g.40gb")

    slots = {labels["mig_uuid"] for labels, _ in exporter.rows("ds01_mig_slot_info")}
    assert slots == {new.uuid}
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


def test_the_format_is_valid_in_both_dialects(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    run_gpu_container(docker_client, host, "odd", labels={"ds01.user": 'a"b\\\n'})
    host.start_task(1)
    exporter = start("--gpu-metrics")

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
    assert time.monotonic() - began < 1
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 4
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
