"""What the running exporter says of GPUs as they break, are cut up, leak and are used by nobody."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from prometheus_client.parser import text_string_to_metric_families

from remediator.exporter.orphans import SETTLING
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.ports import LOOPBACK, answers, free_port
from tests.peers.process import Daemon
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

MIB = 1 << 20
NOBODY = 65534
ORPHAN = "ds01_gpu_orphan_process"
LEAK = "ds01_gpu_memory_unaccounted_bytes"


class Exporter:
    """A running exporter and what it serves."""

    def __init__(self, port: int, daemon: Daemon) -> None:
        self._url = f"http://{LOOPBACK}:{port}/metrics"
        self.daemon = daemon

    def rows(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of every series called *name*."""
        with urllib.request.urlopen(self._url, timeout=10) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        # The parser gives counters the ending that DCGM's do not have.
        names = {name, f"{name}_total"}
        return [(dict(s.labels), float(s.value)) for s in samples if s.name in names]

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return the values of *name* by one label, each of which is there once."""
        rows = self.rows(name)
        found = {labels[label]: value for labels, value in rows}
        assert len(found) == len(rows)
        return found

    def shows(self, name: str, expected: dict[str, float], *, by: str = "UUID") -> None:
        """Wait until the values of *name* are *expected*: GPUs are looked at now and then."""
        eventually(lambda: self.by(by, name) == expected, 10, f"{name} is {expected}")


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
        eventually(
            lambda: exporter.by("collector", "ds01_collector_success").get("inventory"),
            15,
            "the first list",
        )
        return exporter

    return start


def test_a_gpu_that_is_ill_lost_and_back_is_followed(start: Start, host: GpuHost) -> None:
    exporter = start()
    ours, other = host.uuid(0), host.uuid(1)
    exporter.shows("ds01_gpu_lost", {ours: 0, other: 0})
    exporter.shows("ds01_gpu_info", {ours: 1, other: 1})

    host.set(0, recovery_action=1, remap_pending=1)
    exporter.shows("ds01_gpu_recovery_action", {ours: 1, other: 0})
    exporter.shows("ds01_gpu_row_remap_pending", {ours: 1, other: 0})
    exporter.shows("ds01_gpu_row_remap_failed", {ours: 0, other: 0})
    host.lose(0)
    exporter.shows("ds01_gpu_lost", {ours: 1, other: 0})
    exporter.shows("ds01_gpu_recovery_action", {other: 0})
    exporter.shows("ds01_gpu_info", {ours: 1, other: 1})
    host.restore(0)
    exporter.shows("ds01_gpu_lost", {ours: 0, other: 0})
    exporter.shows("ds01_gpu_recovery_action", {ours: 0, other: 0})


def test_while_there_is_no_driver_no_gpu_is_said_to_be_lost(start: Start, host: GpuHost) -> None:
    exporter = start()
    host.unload_driver()

    exporter.shows("ds01_gpu_lost", {})
    assert exporter.by("collector", "ds01_collector_success")["gpu-health"] == 0
    host.set(0, unlisted=1)
    host.load_driver()
    exporter.shows("ds01_gpu_lost", {host.uuid(0): 1, host.uuid(1): 0})


def test_a_repartition_while_it_runs_changes_every_family_at_once(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    host.set(1, gpm=1)
    exporter = start("--gpu-metrics")
    exporter.shows("ds01_gpu_row_remap_pending", {host.uuid(0): 0, host.uuid(1): 0})

    small, large = host.partition(1, "1g.10gb", "2g.20gb")
    container = run_gpu_container(
        docker_client, host, "slice", gpus=(large.uuid,), util=60, labels={"ds01.user": "alice"}
    )

    def slots() -> list[tuple[str, str, str]]:
        rows = exporter.rows("ds01_container_gpu")
        return [(row["UUID"], row["GPU_I_ID"], row["gpu_slot"]) for row, _ in rows]

    def engines() -> dict[str, float]:
        rows = exporter.rows("DCGM_FI_PROF_GR_ENGINE_ACTIVE")
        return {row["GPU_I_ID"]: value for row, value in rows if row["UUID"] == host.uuid(1)}

    eventually(lambda: slots() == [(host.uuid(1), str(large.gi), "1.1")], 10, "it has its slice")
    eventually(
        lambda: engines() == {str(small.gi): 0, str(large.gi): 0.6}, 10, "GPM tells both slices"
    )
    memory = exporter.rows("ds01_gpu_process_memory_bytes")
    pid = str(container.attrs["State"]["Pid"])
    assert [(row["pid"], row["GPU_I_ID"], row["user"]) for row, _ in memory] == [
        (pid, str(large.gi), "alice")
    ]
    exporter.shows("ds01_gpu_row_remap_pending", {host.uuid(0): 0})
    container.remove(force=True)
    host.disable_mig(1)
    eventually(lambda: exporter.rows("ds01_mig_slot_info") == [], 10, "the slices are gone")
    assert engines() == {"": 0}


def test_a_process_on_two_gpus_is_shown_on_both(start: Start, host: GpuHost) -> None:
    exporter = start()
    task = host.start_task(0, 1)

    def where() -> dict[str, str]:
        rows = exporter.rows("ds01_gpu_process_memory_bytes")
        return {row["UUID"]: row["pid"] for row, _ in rows}

    both = {host.uuid(0): str(task.pid), host.uuid(1): str(task.pid)}
    eventually(lambda: where() == both, 10, "it is on both")


def test_only_memory_that_nobody_can_have_is_unaccounted(
    start: Start, host: GpuHost, docker_client: DockerClient
) -> None:
    for gpu in (0, 1):
        host.set(gpu, reserved_mib=600, leaked_mib=3000)
    container = run_gpu_container(docker_client, host, "has-the-second", gpus=(1,))
    exporter = start()

    exporter.shows(LEAK, {host.uuid(0): 3000 * MIB, host.uuid(1): 0})
    container.remove(force=True)
    exporter.shows(LEAK, {host.uuid(0): 3000 * MIB, host.uuid(1): 3000 * MIB})
    host.partition(1, "1g.10gb")
    exporter.shows(LEAK, {host.uuid(0): 3000 * MIB})


def test_an_orphan_is_named_and_a_containers_process_never(
    start: Start, host: GpuHost, docker_client: DockerClient, engine: DockerEngine
) -> None:
    """Permitted are root, and whoever runs in a container that Docker knows."""
    container = run_gpu_container(docker_client, host, "living", user=str(NOBODY))
    permitted = host.start_task(1)
    orphan = host.start_task(0, 1, uid=NOBODY)
    exporter = start()
    on_gpus = {str(container.attrs["State"]["Pid"]), str(permitted.pid), str(orphan.pid)}

    def pids(name: str) -> set[str]:
        return {row["pid"] for row, _ in exporter.rows(name)}

    eventually(lambda: pids("ds01_gpu_process_memory_bytes") == on_gpus, 10, "all are listed")
    rows = eventually(
        lambda: exporter.rows(ORPHAN), SETTLING.total_seconds() + 30, "the orphan is named"
    )
    assert {(row["pid"], row["user"], row["comm"]) for row, _ in rows} == {
        (str(orphan.pid), "nobody", "gpu-task")
    }
    assert {row["UUID"] for row, _ in rows} == {host.uuid(0), host.uuid(1)}
    assert all(row["start_ticks"].isdecimal() for row, _ in rows)
    engine.freeze()
    try:
        eventually(
            lambda: exporter.rows(ORPHAN) == [], 90, "nobody is named while Docker is silent"
        )
    finally:
        engine.thaw()
    eventually(lambda: pids(ORPHAN) == {str(orphan.pid)}, 30, "Docker answers again")
    orphan.kill()
    orphan.wait()
    eventually(lambda: exporter.rows(ORPHAN) == [], 10, "it is gone")


def test_xids_and_instruments_are_served_with_dcgms_names(start: Start, host: GpuHost) -> None:
    host.set(0, energy_mj=123456789, sm_mhz=1980, memory_temp=80, ecc_dbe=1)
    exporter = start("--gpu-metrics")
    ours, other = host.uuid(0), host.uuid(1)

    exporter.shows("DCGM_FI_DEV_XID_ERRORS", {ours: 0, other: 0})
    host.set(1, xid=79)
    exporter.shows("DCGM_FI_DEV_XID_ERRORS", {ours: 0, other: 79})
    assert exporter.by("UUID", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")[ours] == 123456789
    assert exporter.by("UUID", "DCGM_FI_DEV_SM_CLOCK")[ours] == 1980
    exporter.shows("DCGM_FI_DEV_MEMORY_TEMP", {ours: 80})
    exporter.shows("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", {ours: 1, other: 0})


def test_without_gpu_metrics_nothing_of_dcgms_is_served(start: Start, host: GpuHost) -> None:
    exporter = start()

    assert exporter.rows("DCGM_FI_DEV_XID_ERRORS") == []
    assert exporter.rows("DCGM_FI_DEV_GPU_TEMP") == []


def test_it_ends_when_asked_though_the_driver_hangs(start: Start, host: GpuHost) -> None:
    exporter = start("--gpu-metrics")
    exporter.rows("ds01_gpu_info")
    host.set(0, hang=60)
    exporter.rows("ds01_gpu_info")

    exporter.daemon.signal(signal.SIGTERM)

    eventually(lambda: not exporter.daemon.is_running, 15, "it ended")
    host.set(0, hang=0)


HOLD = """
import sys
from pathlib import Path
from remediator.config.settings import Address
from remediator.wiring.exporter import Exporter, ExporterOptions

exporter = Exporter(
    ExporterOptions(Address("127.0.0.1", 0), f"unix://{sys.argv[1]}/none.sock", gpu_metrics=True)
)
exporter.start()
print(exporter.port, flush=True)
for line in sys.stdin:
    print(getattr(exporter, line.strip())(), flush=True)
exporter.stop()
"""


def test_a_whole_exporter_lets_go_of_every_gpu_and_takes_them_again(
    host: GpuHost, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={**os.environ, **host.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        url = f"http://{LOOPBACK}:{program.stdout.readline().strip()}/metrics"

        def temperatures() -> bool:
            with urllib.request.urlopen(url, timeout=10) as response:
                return b"DCGM_FI_DEV_XID_ERRORS{" in response.read()

        def tell(what: str) -> str:
            print(what, file=program.stdin, flush=True)
            assert program.stdout is not None
            return program.stdout.readline().strip()

        def holders() -> set[int]:
            return {holder.pid for gpu in (0, 1) for holder in host.holders(gpu)}

        eventually(temperatures, 10, "the GPUs are shown")
        assert program.pid in holders()
        assert tell("release_driver") == "True"
        assert temperatures(), "from what was known"
        assert program.pid not in holders()
        tell("resume_driver")
        assert temperatures()
        eventually(lambda: program.pid in holders(), 5, "the GPUs are asked again")
        program.stdin.close()
