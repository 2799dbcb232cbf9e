"""The simulated GPU host keeps its promises, seen through the real pynvml and from the shell."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.eventually import eventually, patience
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import build_gpu_image, run_gpu_container
from tests.peers.gpu.probe import DriverError, Probe
from tests.peers.gpu.state import GPU_KEYS, StateError, parse, render

pytestmark = [pytest.mark.integration, pytest.mark.gpu]

MIB = 1 << 20
NOT_SUPPORTED, INVALID, NO_DRIVER, TIMEOUT, LOST, RESET_REQUIRED = 3, 2, 9, 10, 15, 16


@pytest.fixture
def host() -> Iterator[GpuHost]:
    with GpuHost(gpus=2) as host:
        yield host


@pytest.fixture
def probe(host: GpuHost) -> Iterator[Probe]:
    with Probe(host) as probe:
        yield probe


def run(host: GpuHost, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the host's bin folder."""
    environment = {**os.environ, **host.environment}
    program = host.folder / "bin" / command[0]
    return subprocess.run(
        [sys.executable, program, *command[1:]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def code_of(probe: Probe, expression: str) -> int:
    with pytest.raises(DriverError) as caught:
        probe.ask(expression)
    return caught.value.code


ANSWERS = [
    ("temp", 91, "nvmlDeviceGetTemperature(gpu(0), 0)", 91),
    ("temp", 92, "nvmlDeviceGetTemperatureV(gpu(0), 0)", 92),
    ("util", 80, "nvmlDeviceGetUtilizationRates(gpu(0))", {"gpu": 80, "memory": 0}),
    ("memutil", 30, "nvmlDeviceGetUtilizationRates(gpu(0))", {"gpu": 0, "memory": 30}),
    ("total_mib", 40960, "nvmlDeviceGetMemoryInfo(gpu(0)).total", 40960 * MIB),
    ("used_mib", 700, "nvmlDeviceGetMemoryInfo(gpu(0)).used", 700 * MIB),
    ("used_mib", 700, "nvmlDeviceGetMemoryInfo(gpu(0)).free", (81920 - 700) * MIB),
    ("leaked_mib", 300, "nvmlDeviceGetMemoryInfo(gpu(0), nvmlMemory_v2).used", 300 * MIB),
    ("power_mw", 250500, "nvmlDeviceGetPowerUsage(gpu(0))", 250500),
    ("power_limit_mw", 300000, "nvmlDeviceGetPowerManagementLimit(gpu(0))", 300000),
    ("power_limit_mw", 300000, "nvmlDeviceGetEnforcedPowerLimit(gpu(0))", 300000),
    ("power_default_mw", 350000, "nvmlDeviceGetPowerManagementDefaultLimit(gpu(0))", 350000),
    (
        "power_min_mw",
        150000,
        "nvmlDeviceGetPowerManagementLimitConstraints(gpu(0))",
        [150000, 400000],
    ),
    ("persistence", 0, "nvmlDeviceGetPersistenceMode(gpu(0))", 0),
    ("recovery_action", 4, "nvmlDeviceGetFieldValues(gpu(0), [230])[0].value.uiVal", 4),
    ("recovery_action", 1, "nvmlDeviceGetFieldValues(gpu(0), [226])[0].value.uiVal", 1),
    ("remap_pending", 1, "nvmlDeviceGetRemappedRows(gpu(0))", [0, 1, 1, 0]),
    ("remap_failed", 1, "nvmlDeviceGetRemappedRows(gpu(0))", [0, 1, 0, 1]),
    ("ecc_dbe", 2, "nvmlDeviceGetTotalEccErrors(gpu(0), 1, 0)", 2),
    ("name", "NVIDIA H100", "nvmlDeviceGetName(gpu(0))", "NVIDIA H100"),
    ("minor", 5, "nvmlDeviceGetMinorNumber(gpu(0))", 5),
    ("mig_slices", 4, "nvmlDeviceGetMaxMigDeviceCount(gpu(0))", 4),
]


@pytest.mark.parametrize(("key", "value", "question", "expected"), ANSWERS)
def test_a_changed_key_is_seen_at_once(
    host: GpuHost, probe: Probe, key: str, value: object, question: str, expected: object
) -> None:
    before = probe.ask(question)

    host.set(0, **{key: value})

    assert before != expected
    assert probe.ask(question) == expected


def test_many_quick_edits_are_each_seen(host: GpuHost, probe: Probe) -> None:
    """Same size, same inode and the same clock tick must not hide an edit."""
    for temp in [41, 42, 43, 44] * 25:
        host.set(0, temp=40)
        host.set(0, temp=temp)

        assert probe.ask("nvmlDeviceGetTemperature(gpu(0), 0)") == temp


def test_a_gpu_says_who_it_is(host: GpuHost, probe: Probe) -> None:
    pci = probe.ask("nvmlDeviceGetPciInfo(gpu(1))")

    assert probe.ask("nvmlDeviceGetCount()") == 2
    assert probe.ask("nvmlSystemGetDriverVersion()") == host.read().values["driver"]
    assert probe.ask("nvmlDeviceGetUUID(gpu(1))") == host.uuid(1)
    assert probe.ask("nvmlDeviceGetIndex(gpu(1))") == 1
    assert (pci["busId"], pci["bus"]) == ("00000000:02:00.0", 2)
    by_uuid = f"nvmlDeviceGetIndex(nvmlDeviceGetHandleByUUID({host.uuid(1)!r}))"
    by_bus = "nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId(b'00000000:02:00.0'))"
    assert (probe.ask(by_uuid), probe.ask(by_bus)) == (1, 1)


def test_a_gpu_that_is_not_there_is_an_invalid_argument(probe: Probe) -> None:
    assert code_of(probe, "gpu(2)") == INVALID


def test_an_added_gpu_appears(host: GpuHost, probe: Probe) -> None:
    index = host.add_gpu(name="NVIDIA A30")

    assert probe.ask(f"nvmlDeviceGetName(gpu({index}))") == "NVIDIA A30"
    assert host.device(index).is_char_device()


def test_a_process_that_opens_the_node_is_listed_and_vanishes_when_killed(
    host: GpuHost, probe: Probe
) -> None:
    task = host.start_task(1, util=80)
    eventually(lambda: probe.pids(1) == [task.pid], within=5, what="the task is listed")
    assert probe.utilisation(1) == 80
    assert probe.pids(0) == []
    assert probe.ask("nvmlDeviceGetMemoryInfo(gpu(1)).used") == 512 * MIB
    assert probe.ask(f"nvmlSystemGetProcessName({task.pid})").endswith("gpu-task")

    os.kill(task.pid, signal.SIGKILL)

    # Not reaped: a zombie, which is no process to NVML.
    eventually(lambda: _state_of(task.pid) == "Z", within=5, what="the task is dead")
    assert probe.pids(1) == []
    assert probe.utilisation(1) == 0
    assert probe.ask("nvmlDeviceGetMemoryInfo(gpu(1)).used") == 0


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_new_process_shows_within_a_scan(host: GpuHost, probe: Probe) -> None:
    probe.pids(0)
    with host.device(0).open("r+b"):
        started = time.monotonic()
        eventually(lambda: os.getpid() in probe.pids(0), within=5, what="this process is listed")

    assert time.monotonic() - started < 1 * patience()


def test_a_process_can_say_its_memory(host: GpuHost, probe: Probe) -> None:
    host.start_task(0, GPU_TASK_MIB="4096")

    eventually(
        lambda: probe.ask("nvmlDeviceGetMemoryInfo(gpu(0)).used") == 4096 * MIB,
        within=5,
        what="4 GiB are used",
    )


def test_an_orphan_outlives_its_parent_and_is_listed(host: GpuHost, probe: Probe) -> None:
    parent = host.start_task(0, task="orphan")

    assert parent.wait(timeout=10) == 0
    pids = eventually(lambda: probe.pids(0), within=5, what="the orphan is listed")
    assert pids != [parent.pid]


def test_a_listed_process_has_what_was_said_of_it(host: GpuHost, probe: Probe) -> None:
    host.add_process(0, os.getpid(), mib=2048, util=30)

    [process] = probe.ask("nvmlDeviceGetComputeRunningProcesses(gpu(0))")
    assert process == {
        "pid": os.getpid(),
        "usedGpuMemory": 2048 * MIB,
        "gpuInstanceId": 0xFFFFFFFF,
        "computeInstanceId": 0xFFFFFFFF,
    }
    assert probe.utilisation(0) == 30
    host.remove_process(0, os.getpid())
    assert probe.pids(0) == []


def test_what_is_said_of_a_found_process_wins(host: GpuHost, probe: Probe) -> None:
    task = host.start_task(0, util=80)
    eventually(lambda: probe.utilisation(0) == 80, within=5, what="the task is seen")

    host.add_process(0, task.pid, util=3)

    assert probe.utilisation(0) == 3
    assert probe.pids(0) == [task.pid]


def test_a_listed_process_vanishes_when_it_is_a_zombie(host: GpuHost, probe: Probe) -> None:
    child = subprocess.Popen(["sleep", "60"])
    host.add_process(0, child.pid)
    assert probe.pids(0) == [child.pid]

    child.kill()
    eventually(lambda: _state_of(child.pid) == "Z", within=5, what="the child is dead")

    assert probe.pids(0) == []
    child.wait()


def test_a_listed_process_is_not_whoever_has_its_pid_later(host: GpuHost, probe: Probe) -> None:
    host.add_process(0, os.getpid())
    state = host.state.read_text()

    host.state.write_text(state.replace(" start=", " start=1"))

    assert probe.pids(0) == []


@pytest.mark.parametrize(("kind", "name"), [("graphics", "Graphics"), ("mps", "MPSCompute")])
def test_graphics_and_mps_processes_have_lists_of_their_own(
    host: GpuHost, probe: Probe, kind: str, name: str
) -> None:
    host.add_process(0, os.getpid(), kind=kind)

    [process] = probe.ask(f"nvmlDeviceGet{name}RunningProcesses(gpu(0))")
    assert process["pid"] == os.getpid()
    assert probe.pids(0) == []


def test_each_process_has_its_own_utilisation(host: GpuHost, probe: Probe) -> None:
    tasks = {host.start_task(0, util=util).pid: util for util in (20, 70)}

    def own() -> dict[int, int]:
        samples = probe.ask("nvmlDeviceGetProcessUtilization(gpu(0), 0)")
        return {sample["pid"]: sample["smUtil"] for sample in samples}

    eventually(lambda: sorted(probe.pids(0)) == sorted(tasks), within=5, what="both are listed")
    assert own() == tasks
    assert probe.utilisation(0) == 70


def test_a_fixed_utilisation_is_shared_by_processes_that_say_nothing(
    host: GpuHost, probe: Probe
) -> None:
    host.set(0, util=80)
    host.add_process(0, os.getpid())

    [sample] = probe.ask("nvmlDeviceGetProcessUtilization(gpu(0), 0)")
    assert sample["smUtil"] == 80


def test_an_unused_gpu_has_no_utilisation_samples(probe: Probe) -> None:
    assert code_of(probe, "nvmlDeviceGetProcessUtilization(gpu(0), 0)") == 6


def test_hosts_beside_each_other_do_not_see_each_others_processes(host: GpuHost) -> None:
    with GpuHost(gpus=1) as other, Probe(other) as probe, Probe(host) as ours:
        task = host.start_task(0)
        eventually(lambda: ours.pids(0) == [task.pid], within=5, what="we see it")

        assert probe.pids(0) == []


def test_the_power_limit_can_be_set_within_its_range(host: GpuHost, probe: Probe) -> None:
    probe.ask("nvmlDeviceSetPowerManagementLimit(gpu(1), 275000)")

    assert host.get(1, "power_limit_mw") == "275000"
    assert host.get(0, "power_limit_mw") == "400000"
    assert probe.ask("nvmlDeviceGetPowerManagementLimit(gpu(1))") == 275000
    assert code_of(probe, "nvmlDeviceSetPowerManagementLimit(gpu(1), 500000)") == INVALID


def test_edits_from_both_sides_at_once_lose_nothing(host: GpuHost, probe: Probe) -> None:
    """Each writer finds its own last value after each of its writes, whatever others wrote."""
    lost: list[int] = []

    def repeat(values: range, write: Callable[[int], object], read: Callable[[], int]) -> None:
        for value in values:
            write(value)
            if read() != value:
                lost.append(value)

    def cap(milliwatts: int) -> None:
        probe.ask(f"nvmlDeviceSetPowerManagementLimit(gpu(0), {milliwatts})")

    def limit() -> int:
        return int(probe.ask("nvmlDeviceGetPowerManagementLimit(gpu(0))"))

    writers = [
        threading.Thread(target=repeat, args=(range(200000, 200200), cap, limit)),
        threading.Thread(
            target=repeat,
            args=(
                range(200),
                lambda temp: host.set(0, temp=temp),
                lambda: int(host.get(0, "temp")),
            ),
        ),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert lost == []
    assert (host.get(0, "power_limit_mw"), host.get(0, "temp")) == ("200199", "199")


def test_a_lost_gpu_takes_only_itself_away(host: GpuHost, probe: Probe) -> None:
    handle = f"nvmlDeviceGetHandleByUUID({host.uuid(0)!r})"
    host.lose(0)

    assert probe.ask("nvmlDeviceGetCount()") == 2
    assert code_of(probe, "gpu(0)") == LOST
    assert code_of(probe, handle) == LOST
    assert probe.ask("nvmlDeviceGetTemperature(gpu(1), 0)") == 35
    host.restore(0)
    assert probe.ask("nvmlDeviceGetTemperature(gpu(0), 0)") == 35


def test_a_gpu_that_must_be_reset_says_so_but_measures_nothing(host: GpuHost, probe: Probe) -> None:
    host.set(0, reset_required=1, recovery_action=1)

    assert code_of(probe, "nvmlDeviceGetUtilizationRates(gpu(0))") == RESET_REQUIRED
    assert probe.ask("nvmlDeviceGetFieldValues(gpu(0), [230])[0].value.uiVal") == 1
    assert probe.pids(0) == []


def test_without_a_driver_nothing_starts_and_what_runs_fails(host: GpuHost, probe: Probe) -> None:
    host.unload_driver()

    with Probe(host, initialise=False) as fresh:
        assert code_of(fresh, "nvmlInit()") == NO_DRIVER
    assert code_of(probe, "nvmlDeviceGetCount()") == NO_DRIVER
    host.load_driver()
    assert probe.ask("nvmlDeviceGetCount()") == 2


def test_a_hung_gpu_blocks_calls_about_itself_for_as_long_as_was_set(
    host: GpuHost, probe: Probe
) -> None:
    host.set(0, hang=1)
    started = time.monotonic()

    probe.ask("nvmlDeviceGetTemperature(gpu(1), 0)")
    quick = time.monotonic() - started
    probe.ask("gpu(0)")

    assert quick < 0.5
    assert time.monotonic() - started >= 1


def test_a_hung_gpu_answers_once_it_is_freed(host: GpuHost, probe: Probe) -> None:
    host.set(0, hang=60)
    free = threading.Timer(0.3, host.set, (0,), {"hang": 0})
    started = time.monotonic()
    free.start()

    probe.ask("gpu(0)")

    assert 0.3 <= time.monotonic() - started < 10
    free.join()


def test_xids_come_as_events_each_one_also_a_repeated_code(host: GpuHost, probe: Probe) -> None:
    probe.ask("globals().update(events=nvmlEventSetCreate(), at=gpu(0))")
    probe.ask("nvmlDeviceRegisterEvents(at, nvmlEventTypeXidCriticalError, events)")
    assert code_of(probe, "nvmlEventSetWait_v2(events, 30)") == TIMEOUT

    for _ in range(2):
        host.set(0, xid=79)

        event = probe.ask("nvmlEventSetWait_v2(events, 2000)")
        assert (event["eventType"], event["eventData"]) == (8, 79)
    assert code_of(probe, "nvmlEventSetWait_v2(events, 30)") == TIMEOUT


def test_an_unknown_function_is_just_not_found(probe: Probe) -> None:
    assert code_of(probe, "nvmlDeviceGetFanSpeed(gpu(0))") == 13


def test_a_partitioned_gpu_lists_its_instances(host: GpuHost, probe: Probe) -> None:
    [small, large] = host.partition(1, "1g.10gb", "2g.20gb")

    assert probe.ask("nvmlDeviceGetMigMode(gpu(1))") == [1, 1]
    assert probe.ask("nvmlDeviceGetUUID(mig(1, 0))") == small.uuid
    assert probe.ask("nvmlDeviceGetGpuInstanceId(mig(1, 1))") == large.gi
    assert probe.ask("nvmlDeviceGetComputeInstanceId(mig(1, 1))") == large.ci
    assert probe.ask("nvmlDeviceGetName(mig(1, 1))") == "NVIDIA A100-SXM4-80GB MIG 2g.20gb"
    assert probe.ask("nvmlDeviceIsMigDeviceHandle(mig(1, 1))") == 1
    parent = "nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig(1, 0)))"
    assert probe.ask(parent) == host.uuid(1)
    assert probe.ask("nvmlDeviceGetMemoryInfo(mig(1, 1)).total") == 20480 * MIB
    assert code_of(probe, "mig(1, 2)") == 6


def test_the_compute_fraction_of_an_instance_can_be_computed(host: GpuHost, probe: Probe) -> None:
    host.enable_mig(1, [("MIG-of-my-own", 3, 0, "2g.20gb", 2)])

    attributes = probe.ask("nvmlDeviceGetAttributes(mig(1, 0))")
    whole = probe.ask("nvmlDeviceGetGpuInstanceProfileInfo(gpu(1), 4)")
    older = probe.ask("nvmlDeviceGetGpuInstanceProfileInfo(gpu(1), 1, version=1)")
    assert (attributes["gpuInstanceSliceCount"], whole["sliceCount"]) == (2, 7)
    assert (older["sliceCount"], older["memorySizeMB"]) == (2, 20480)


def test_utilisation_is_not_supported_under_mig(host: GpuHost, probe: Probe) -> None:
    host.partition(1, "7g.80gb")

    assert code_of(probe, "nvmlDeviceGetUtilizationRates(gpu(1))") == NOT_SUPPORTED
    assert code_of(probe, "nvmlDeviceGetUtilizationRates(mig(1, 0))") == NOT_SUPPORTED
    assert code_of(probe, "nvmlDeviceGetRemappedRows(gpu(1))") == NOT_SUPPORTED
    assert probe.utilisation(0) == 0


def test_a_process_is_in_the_instance_that_its_environment_names(
    host: GpuHost, probe: Probe
) -> None:
    migs = host.partition(0, "1g.10gb", "2g.20gb")
    named = host.start_task(0, NVIDIA_VISIBLE_DEVICES=migs[1].uuid)
    unnamed = host.start_task(0)

    def pids(place: int) -> list[int]:
        found = probe.ask(f"nvmlDeviceGetComputeRunningProcesses(mig(0, {place}))")
        return [process["pid"] for process in found]

    eventually(lambda: pids(1) == [named.pid], within=5, what="it is in the second instance")
    eventually(lambda: pids(0) == [unnamed.pid], within=5, what="CUDA takes the first by itself")
    listed = probe.ask("nvmlDeviceGetComputeRunningProcesses(gpu(0))")
    assert {process["pid"]: process["gpuInstanceId"] for process in listed} == {
        named.pid: migs[1].gi,
        unnamed.pid: migs[0].gi,
    }


def test_a_listed_process_can_be_put_into_an_instance(host: GpuHost, probe: Probe) -> None:
    host.partition(0, "1g.10gb", "1g.10gb")
    second = host.read().gpus[0].migs[1]
    host.add_process(0, os.getpid(), mib=100, gi=second.gi, ci=second.ci)

    assert probe.ask("nvmlDeviceGetComputeRunningProcesses(mig(0, 0))") == []
    assert len(probe.ask("nvmlDeviceGetComputeRunningProcesses(mig(0, 1))")) == 1
    assert probe.ask("nvmlDeviceGetMemoryInfo(mig(0, 1)).used") == 100 * MIB


def test_a_repartition_makes_old_instance_handles_invalid(host: GpuHost, probe: Probe) -> None:
    host.partition(0, "7g.80gb")
    probe.ask("globals().update(old=mig(0, 0))")

    host.partition(0, "7g.80gb")

    assert code_of(probe, "nvmlDeviceGetUUID(old)") == INVALID
    host.disable_mig(0)
    assert probe.ask("nvmlDeviceGetMigMode(gpu(0))") == [0, 0]


def test_a_gpu_may_not_know_mig(host: GpuHost, probe: Probe) -> None:
    host.set(0, mig_capable=0)

    assert code_of(probe, "nvmlDeviceGetMigMode(gpu(0))") == NOT_SUPPORTED
    assert probe.ask("nvmlDeviceGetMaxMigDeviceCount(gpu(0))") == 0
    with pytest.raises(StateError, match="does not know MIG"):
        host.partition(0, "1g.10gb")


FAULTS: dict[str, Any] = {
    "reset_required": 1,
    "recovery_action": 1,
    "remap_pending": 1,
    "leaked_mib": 900,
}


def test_a_reset_is_refused_while_a_process_uses_the_gpu_and_works_after(host: GpuHost) -> None:
    host.set(0, **FAULTS)
    task = host.start_task(0)
    eventually(lambda: host.holders(0), within=5, what="the task holds the GPU")

    refused = run(host, "nvidia-smi", "--gpu-reset", "-i", "0")
    task.kill()
    task.wait()
    reset = run(host, "nvidia-smi", "--gpu-reset", "-i", host.uuid(0))

    assert (refused.returncode, reset.returncode) == (255, 0)
    assert "In use by another client" in refused.stdout
    assert "was successfully reset" in reset.stdout
    assert {host.get(0, key) for key in FAULTS} == {"0"}
    assert host.get(0, "reset_count") == "1"
    assert [call["exit"] for call in host.nvidia_smi_calls()] == [255, 0]


def test_a_reset_is_refused_for_a_listed_process_and_only_on_its_gpu(host: GpuHost) -> None:
    host.add_process(0, os.getpid())

    assert run(host, "nvidia-smi", "--gpu-reset", "-i", "0").returncode == 255
    assert run(host, "nvidia-smi", "-r", "-i", "00000000:02:00.0").returncode == 0
    assert run(host, "nvidia-smi", "-r", "-i", "0,1").returncode == 255
    assert host.get(1, "reset_count") == "1"


def test_a_mere_client_blocks_a_reset_but_is_no_gpu_process(host: GpuHost) -> None:
    client = host.start_task(0, task="client")
    eventually(lambda: host.holders(0), within=5, what="the client holds the GPU")

    assert [holder.is_user for holder in host.holders(0)] == [False]
    assert run(host, "nvidia-smi", "--gpu-reset", "-i", "0").returncode == 255
    with Probe(host) as probe:
        assert probe.pids(0) == []
    client.kill()
    client.wait()
    assert run(host, "nvidia-smi", "--gpu-reset", "-i", "0").returncode == 0


def test_a_client_of_the_library_blocks_a_reset_until_it_shuts_down(
    host: GpuHost, probe: Probe
) -> None:
    held = run(host, "nvidia-smi", "--gpu-reset", "-i", "1")
    probe.ask("nvmlShutdown()")

    assert held.returncode == 255
    assert run(host, "nvidia-smi", "--gpu-reset", "-i", "1").returncode == 0


@pytest.mark.parametrize(
    ("state", "arguments", "status", "text"),
    [
        pytest.param({}, ["-r", "-i", "7"], 6, "No devices were found", id="unknown GPU"),
        pytest.param({"lost": 1}, ["-r", "-i", "0"], 15, "GPU is lost", id="lost"),
        pytest.param(
            {"reset_fail": "GPU Reset not supported", "reset_exit": 3},
            ["-r", "-i", "0"],
            3,
            "GPU Reset not supported",
            id="fails as told",
        ),
        pytest.param(
            {"reset_incomplete": 1}, ["-r", "-i", "0"], 255, "did not complete", id="incomplete"
        ),
        pytest.param(
            {"reset_needs_persistence_off": 1},
            ["-r", "-i", "0"],
            255,
            "another client",
            id="persistence mode is in the way",
        ),
    ],
)
def test_a_reset_can_fail_in_every_way_that_is_asked_for(
    host: GpuHost, state: dict[str, Any], arguments: list[str], status: int, text: str
) -> None:
    host.set(0, recovery_action=1, **state)

    result = run(host, "nvidia-smi", *arguments)

    assert (result.returncode, host.get(0, "recovery_action")) == (status, "1")
    assert text in result.stdout


def test_nvidia_smi_can_hang(host: GpuHost) -> None:
    host.set(0, reset_hang=1)
    started = time.monotonic()

    assert run(host, "nvidia-smi", "-r", "-i", "0").returncode == 0
    assert time.monotonic() - started >= 1


def test_nvidia_smi_needs_a_driver(host: GpuHost) -> None:
    host.unload_driver()

    result = run(host, "nvidia-smi")

    assert result.returncode == 9
    assert "couldn't communicate with the NVIDIA driver" in result.stdout


def test_nvidia_smi_switches_persistence_mode_and_lists(host: GpuHost) -> None:
    host.partition(1, "3g.40gb")

    assert run(host, "nvidia-smi", "-pm", "0", "-i", "1").returncode == 0
    assert (host.get(0, "persistence"), host.get(1, "persistence")) == ("1", "0")
    listing = run(host, "nvidia-smi", "-L").stdout
    assert host.uuid(0) in listing
    assert host.read().gpus[1].migs[0].uuid in listing
    assert "Persistence Mode : Disabled" in run(host, "nvidia-smi", "-q", "-i", "1").stdout


def test_a_reset_takes_the_instances_of_a_mig_gpu(host: GpuHost) -> None:
    host.partition(1, "3g.40gb")

    assert run(host, "nvidia-smi", "-r", "-i", "1").returncode == 0
    assert host.read().gpus[1].migs == []


def test_the_shell_tool_changes_what_the_driver_says(host: GpuHost, probe: Probe) -> None:
    assert run(host, "gpu", "set", "0", "util=80", "temp=70").returncode == 0

    assert probe.utilisation(0) == 80
    assert probe.ask("nvmlDeviceGetTemperature(gpu(0), 0)") == 70
    shown = run(host, "gpu", "show").stdout
    assert "temp=70 util=80" in shown
    assert f"pid {probe.pid} is a client" in shown


def test_the_shell_tool_drives_everything_else(host: GpuHost, probe: Probe) -> None:
    for command in (
        "mig 1 1g.10gb 2g.20gb",
        f"proc add 0 {os.getpid()} mem=2048 util=50",
        "lose 1",
        "add total_mib=1024",
    ):
        assert run(host, "gpu", *command.split()).returncode == 0, command

    assert (probe.utilisation(0), probe.pids(0)) == (50, [os.getpid()])
    assert code_of(probe, "gpu(1)") == LOST
    assert probe.ask("nvmlDeviceGetMemoryInfo(gpu(2)).total") == 1024 * MIB
    for command in ("restore 1", f"proc remove 0 {os.getpid()}"):
        assert run(host, "gpu", *command.split()).returncode == 0, command
    assert probe.ask("nvmlDeviceGetName(mig(1, 1))").endswith("MIG 2g.20gb")
    assert run(host, "gpu", "mig", "1", "off").returncode == 0
    assert probe.utilisation(1) == 0
    assert run(host, "gpu", "driver", "off").returncode == 0
    assert code_of(probe, "gpu(0)") == NO_DRIVER


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("set 0 utl=80", "unknown key 'utl' (did you mean 'util'?)"),
        ("set 0 util=101", "util must be a whole number from 0 to 100 or auto, not '101'"),
        ("set 0 temp=hot", "temp must be a whole number from 0 to 200, not 'hot'"),
        ("set 0 temp", "expected key=value, got 'temp'"),
        ("set 5 temp=1", "no GPU 5; there are 2, numbered from 0"),
        ("mig 0 2g", "no MIG profile '2g'; write it like 1g.10gb or 3g.40gb"),
        ("mig 0 4g.40gb 4g.40gb", "4g.40gb 4g.40gb does not fit into 7 slices"),
        ("proc add 0 999999999", "no living process 999999999"),
        ("proc add 0 1 meme=1", "unknown key 'meme' (did you mean 'mem'?)"),
    ],
)
def test_the_shell_tool_says_what_is_wrong_and_changes_nothing(
    host: GpuHost, command: str, message: str
) -> None:
    before = host.state.read_text()

    result = run(host, "gpu", *command.split())

    assert (result.returncode, result.stderr) == (2, f"gpu: {message}\n")
    assert host.state.read_text() == before


def test_the_shell_tool_says_where_a_broken_state_is_broken(host: GpuHost) -> None:
    host.state.write_text(host.state.read_text() + "temp=cold\n")

    result = run(host, "gpu", "show")

    assert result.returncode == 1
    assert f"{host.state}: line " in result.stderr
    assert "temp must be a whole number" in result.stderr


def test_the_shell_tool_makes_a_host_that_a_shell_can_use(tmp_path: Path) -> None:
    tool = Path("tests/peers/gpu/gpu").resolve()
    script = f'eval "$({tool} create {tmp_path}/host --gpus 3)" && gpu set 2 temp=77 && gpu show'

    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

    assert "GPU 2" in shown
    assert "temp=77" in shown


def test_the_state_file_reads_back_as_it_was_written(host: GpuHost) -> None:
    host.partition(1, "1g.10gb", "2g.20gb")
    host.add_process(0, os.getpid(), mib=1, gi=2, ci=0, kind="mps")
    state = host.read()

    assert parse(render(state)) == state


def test_the_readme_names_every_key() -> None:
    readme = Path("tests/peers/gpu/README.md").read_text()

    assert [key for key in GPU_KEYS if f"`{key}`" not in readme] == []


@pytest.mark.docker
def test_a_container_makes_its_gpu_busy_by_running_and_idle_by_ending(
    docker_client: DockerClient, host: GpuHost, probe: Probe
) -> None:
    container = run_gpu_container(docker_client, host, "busy", gpus=(1,), util=80)
    pid = container.attrs["State"]["Pid"]

    eventually(lambda: probe.pids(1) == [pid], within=10, what="the container's process is listed")
    assert (probe.utilisation(0), probe.utilisation(1)) == (0, 80)
    container.kill()
    eventually(lambda: probe.utilisation(1) == 0, within=10, what="the GPU is idle")
    assert probe.pids(1) == []


@pytest.mark.docker
def test_a_container_of_one_host_is_not_seen_by_another(
    docker_client: DockerClient, host: GpuHost, probe: Probe
) -> None:
    with GpuHost(gpus=1) as other, Probe(other) as others:
        run_gpu_container(docker_client, host, "ours")
        eventually(lambda: probe.pids(0), within=10, what="we see it")

        assert others.pids(0) == []
        assert [holder.pid for holder in other.holders(0)] == [others.pid]
        assert len(host.holders(0)) == 2  # the container, and our probe as a client


@pytest.mark.docker
def test_a_container_blocks_a_reset(docker_client: DockerClient, host: GpuHost) -> None:
    container = run_gpu_container(docker_client, host, "holds", gpus=(0, 1))
    eventually(lambda: host.holders(1), within=10, what="the container holds both GPUs")

    refused = run(host, "nvidia-smi", "-r", "-i", "0")
    container.remove(force=True)

    assert refused.returncode == 255
    assert run(host, "nvidia-smi", "-r", "-i", "0").returncode == 0


@pytest.mark.docker
def test_a_container_is_in_the_instance_that_it_was_given(
    docker_client: DockerClient, host: GpuHost, probe: Probe
) -> None:
    migs = host.partition(1, "1g.10gb", "2g.20gb")
    container = run_gpu_container(docker_client, host, "slice", gpus=(migs[1].uuid,))

    def pids(place: int) -> list[int]:
        found = probe.ask(f"nvmlDeviceGetComputeRunningProcesses(mig(1, {place}))")
        return [process["pid"] for process in found]

    pid = container.attrs["State"]["Pid"]
    eventually(lambda: pids(1) == [pid], within=10, what="it is in the second instance")
    assert pids(0) == []


@pytest.mark.docker
def test_an_idle_container_ends_at_sigterm_and_a_stubborn_one_must_be_killed(
    docker_client: DockerClient, host: GpuHost
) -> None:
    containers = {
        task: run_gpu_container(docker_client, host, task, task=task)
        for task in ("idle", "stubborn")
    }
    # Before it opened the node, a task may not have its handler yet.
    eventually(lambda: len(host.holders(0)) == 2, within=10, what="both run")

    for container in containers.values():
        container.stop(timeout=1)

    exits = {task: container.wait()["StatusCode"] for task, container in containers.items()}
    assert exits == {"idle": 143, "stubborn": 137}


@pytest.mark.docker
def test_a_forking_container_has_two_gpu_processes_that_end_together(
    docker_client: DockerClient, host: GpuHost, probe: Probe
) -> None:
    container = run_gpu_container(docker_client, host, "forks", task="forks")
    eventually(lambda: len(probe.pids(0)) == 2, within=10, what="parent and child are listed")

    container.stop(timeout=5)

    eventually(lambda: probe.pids(0) == [], within=10, what="both are gone")


@pytest.mark.docker
def test_a_busy_container_burns_cpu(docker_client: DockerClient, host: GpuHost) -> None:
    container = run_gpu_container(docker_client, host, "burns", task="busy")
    pid = container.attrs["State"]["Pid"]

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    eventually(lambda: ticks() >= 10, within=10, what="a tenth of a second of CPU is used")


@pytest.mark.docker
def test_the_gpu_image_is_made_once(docker_client: DockerClient) -> None:
    tag = build_gpu_image(docker_client)
    made = docker_client.images.get(tag).id

    assert build_gpu_image(docker_client) == tag
    assert docker_client.images.get(tag).id == made
