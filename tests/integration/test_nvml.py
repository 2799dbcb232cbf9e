"""NVML through our own sources, with simulated GPUs behind the real pynvml."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.eventually import eventually, patience
from tests.peers.gpu.host import GpuHost

pytestmark = [pytest.mark.integration, pytest.mark.gpu]

MIB = 1 << 20
PERMISSION, UNKNOWN = 4, 999

ASK = """
import dataclasses, json, sys, threading
from datetime import timedelta
from remediator.errors import SourceError
from remediator.sources.nvml import NvmlSource
from remediator.sources.nvml_xids import XidWatch

source = NvmlSource()
xids = XidWatch(look_every=timedelta(milliseconds=200))
SECOND = timedelta(seconds=1)

def plain(value):
    if isinstance(value, SourceError):
        return {"error": str(value)}
    if dataclasses.is_dataclass(value):
        return {"type": type(value).__name__, **dataclasses.asdict(value)}
    return [plain(v) for v in value] if isinstance(value, tuple) else value

for line in sys.stdin:
    try:
        answer = eval(line)
    except SourceError as error:
        answer = error
    print(json.dumps(plain(answer)), flush=True)
"""


class Driver:
    """Our NvmlSource and XidWatch in a process of their own.

    The stand-in must be there at its start.
    """

    def __init__(self, host: GpuHost) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ASK],
            env={**os.environ, **host.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, expression: str) -> Any:
        """Return what `source.…` or `xids.…` answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def of_gpu(self, question: str, uuid: str) -> Any:
        return self.ask(f"source.{question}({uuid!r})")

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def host() -> Iterator[GpuHost]:
    with GpuHost(gpus=2) as host:
        yield host


@pytest.fixture
def driver(host: GpuHost) -> Iterator[Driver]:
    driver = Driver(host)
    yield driver
    driver.close()


def test_whole_gpus_are_slots(host: GpuHost, driver: Driver) -> None:
    host.set(1, util=80)

    slots = driver.ask("source.inventory()")
    readings = driver.ask("source.readings()")

    assert [(slot["slot"], slot["uuid"], slot["fraction"]) for slot in slots] == [
        ("0", host.uuid(0), 1.0),
        ("1", host.uuid(1), 1.0),
    ]
    assert [reading["utilization_percent"] for reading in readings] == [0, 80]


def test_a_repartition_shows_at_once(host: GpuHost, driver: Driver) -> None:
    driver.ask("source.inventory()")
    small, large = host.partition(1, "1g.10gb", "2g.20gb")

    slots = driver.ask("source.inventory()")[1:]

    assert [(slot["slot"], slot["uuid"], slot["gpu_instance"]) for slot in slots] == [
        ("1.0", small.uuid, small.gi),
        ("1.1", large.uuid, large.gi),
    ]
    assert {slot["parent_uuid"] for slot in slots} == {host.uuid(1)}
    assert [slot["profile"] for slot in slots] == ["1g.10gb", "2g.20gb"]
    assert [slot["fraction"] for slot in slots] == [1 / 7, 2 / 7]
    assert {r["utilization_percent"] for r in driver.ask("source.readings()")[1:]} == {None}
    host.disable_mig(1)
    assert [slot["slot"] for slot in driver.ask("source.inventory()")] == ["0", "1"]


@pytest.mark.parametrize(
    "question", ["nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId"]
)
def test_a_slice_that_does_not_answer_is_not_left_out(
    host: GpuHost, driver: Driver, question: str
) -> None:
    host.partition(1, "1g.10gb", "2g.20gb")
    driver.ask("source.inventory()")
    host.set(1, refuse=f"{question}={UNKNOWN}")

    gpu = driver.ask("source.gpus()")[1]

    assert gpu["lost"]
    assert [slot["slot"] for slot in gpu["slots"]] == ["1.0", "1.1"]


def test_the_slices_of_an_a30_are_quarters(host: GpuHost, driver: Driver) -> None:
    index = host.add_gpu(name="NVIDIA A30", mig_slices=4, total_mib=24576)
    host.partition(index, "1g.6gb", "2g.12gb")

    slots = driver.ask("source.inventory()")[2:]

    assert [slot["fraction"] for slot in slots] == [1 / 4, 2 / 4]
    assert [slot["profile"] for slot in slots] == ["1g.6gb", "2g.12gb"]


def test_a_gpu_without_mig_is_whole(host: GpuHost, driver: Driver) -> None:
    host.set(0, mig_capable=0)

    assert [gpu["mig_enabled"] for gpu in driver.ask("source.gpus()")] == [False, False]


def test_parts_of_one_instance_have_their_own_processes(host: GpuHost, driver: Driver) -> None:
    host.enable_mig(0, [(f"MIG-part-{ci}", 2, ci, "1c.2g.20gb", 1) for ci in (0, 1)])
    host.add_process(0, os.getpid(), gi=2, ci=1)

    readings = driver.ask("source.readings()")[:2]

    assert [len(reading["processes"]) for reading in readings] == [0, 1]


def test_processes_and_their_utilisation_are_listed(host: GpuHost, driver: Driver) -> None:
    task = host.start_task(0, util=60)

    def processes() -> Any:
        return driver.ask("source.readings()")[0]["processes"]

    [process] = eventually(processes, 5, "the process is listed")
    assert (process["pid"], process["kind"]) == (task.pid, "compute")
    expression = "[*(source.process_utilization(source.inventory()[0]) or {}).items()]"
    assert driver.ask(expression) == [[task.pid, 60]]
    task.kill()
    task.wait()
    eventually(lambda: processes() == [], 5, "the process is gone")


def test_memory_is_told_without_what_the_driver_reserves(host: GpuHost, driver: Driver) -> None:
    host.set(0, total_mib=1000, reserved_mib=100, used_mib=300)

    reading = driver.ask("source.readings()")[0]

    assert reading["memory_used_bytes"] == 300 * MIB
    assert reading["memory_reserved_bytes"] == 100 * MIB
    assert reading["memory_total_bytes"] == 1000 * MIB


def test_a_lost_gpu_is_a_value_and_hides_no_other(host: GpuHost, driver: Driver) -> None:
    driver.ask("source.gpus()")
    host.lose(0)

    gpus = driver.ask("source.gpus()")
    readings = driver.ask("source.readings()")

    assert [(gpu["uuid"], bool(gpu["lost"])) for gpu in gpus] == [
        (host.uuid(0), True),
        (host.uuid(1), False),
    ]
    assert [reading["type"] for reading in readings] == ["LostReading", "SlotReading"]
    host.restore(0)
    assert [r["type"] for r in driver.ask("source.readings()")] == ["SlotReading", "SlotReading"]


def test_a_gpu_without_which_the_driver_comes_up_again_is_lost_and_not_forgotten(
    host: GpuHost, driver: Driver
) -> None:
    driver.ask("source.gpus()")
    host.unload_driver()
    assert "error" in driver.ask("source.gpus()")
    host.set(0, unlisted=1)
    host.load_driver()

    other, missing = driver.ask("source.gpus()")

    assert (other["uuid"], other["index"], other["lost"]) == (host.uuid(1), 0, None)
    assert (missing["uuid"], missing["slots"]) == (host.uuid(0), [])
    assert "does not list it" in missing["lost"]
    host.set(0, unlisted=0)
    assert [gpu["lost"] for gpu in driver.ask("source.gpus()")] == [None, None]


def test_a_gpu_that_was_lost_from_the_beginning_is_told_too(host: GpuHost, driver: Driver) -> None:
    host.lose(0)

    lost, other = driver.ask("source.gpus()")

    assert (lost["uuid"], lost["index"]) == ("", 0)
    assert lost["lost"]
    assert other["uuid"] == host.uuid(1)


def test_a_gpu_that_is_not_for_us_is_not_lost(host: GpuHost, driver: Driver) -> None:
    host.set(0, refuse=f"nvmlDeviceGetHandleByIndex_v2={PERMISSION}")

    assert [gpu["uuid"] for gpu in driver.ask("source.gpus()")] == [host.uuid(1)]


def test_a_driver_that_goes_and_comes_is_found_again(host: GpuHost, driver: Driver) -> None:
    driver.ask("source.inventory()")
    host.unload_driver()

    assert "NVIDIA driver did not answer" in driver.ask("source.inventory()")["error"]
    host.load_driver()
    assert len(driver.ask("source.inventory()")) == 2


def test_the_drivers_advice_is_told(host: GpuHost, driver: Driver) -> None:
    host.set(0, recovery_action=1, remap_pending=1, remap_correctable=3)

    ill, sound = (driver.of_gpu("health", host.uuid(index)) for index in (0, 1))

    assert (ill["recovery_action"], sound["recovery_action"]) == (1, 0)
    assert ill["rows"] == {"pending": True, "failed": False, "correctable": 3, "uncorrectable": 1}
    assert not ill["memory_is_the_hosts"]


def test_a_cut_up_gpu_tells_no_rows_but_its_advice(host: GpuHost, driver: Driver) -> None:
    host.partition(0, "1g.10gb")
    host.set(0, recovery_action=4, remap_pending=1)

    health = driver.of_gpu("health", host.uuid(0))

    assert (health["recovery_action"], health["rows"]) == (4, None)


def test_a_gpu_that_must_be_reset_still_tells_the_advice(host: GpuHost, driver: Driver) -> None:
    host.set(0, reset_required=1, recovery_action=1)

    assert driver.of_gpu("health", host.uuid(0))["recovery_action"] == 1
    assert driver.of_gpu("gauges", host.uuid(0))["temperature_celsius"] is None


GAUGES = {
    "temperature_celsius": 71,
    "memory_temperature_celsius": 83,
    "power_watts": 250.5,
    "energy_millijoules": 5_000_000_000_000,
    "sm_clock_mhz": 1980,
    "memory_clock_mhz": 2619,
    "double_bit_errors": 2,
    "double_bit_errors_ever": 7,
}


def show_all(host: GpuHost) -> None:
    host.set(
        0,
        temp=71,
        memory_temp=83,
        power_mw=250_500,
        energy_mj=5_000_000_000_000,
        sm_mhz=1980,
        mem_mhz=2619,
        ecc_dbe=2,
        ecc_dbe_before=5,
    )


def gauges(host: GpuHost, driver: Driver) -> dict[str, Any]:
    told: dict[str, Any] = driver.of_gpu("gauges", host.uuid(0))
    assert told.pop("type") == "GpuGauges"
    return told


def test_the_instruments_are_read(host: GpuHost, driver: Driver) -> None:
    show_all(host)

    assert gauges(host, driver) == GAUGES


REFUSALS = [
    ("nvmlDeviceGetTemperature", ["temperature_celsius"]),
    ("nvmlDeviceGetPowerUsage", ["power_watts"]),
    ("nvmlDeviceGetTotalEnergyConsumption", ["energy_millijoules"]),
    ("nvmlDeviceGetClockInfo", ["sm_clock_mhz", "memory_clock_mhz"]),
    ("nvmlDeviceGetTotalEccErrors", ["double_bit_errors", "double_bit_errors_ever"]),
    ("nvmlDeviceGetFieldValues", ["memory_temperature_celsius"]),
]


@pytest.mark.parametrize("code", [PERMISSION, UNKNOWN])
@pytest.mark.parametrize(("function", "missing"), REFUSALS)
def test_what_is_refused_is_absent_and_the_rest_is_told(
    host: GpuHost, driver: Driver, function: str, missing: list[str], code: int
) -> None:
    show_all(host)
    host.set(0, refuse=f"{function}={code}")

    told = gauges(host, driver)

    assert [name for name, value in told.items() if value is None] == missing
    assert {name: v for name, v in told.items() if v is not None}.items() <= GAUGES.items()


def test_a_sensor_that_is_not_there_says_nothing(host: GpuHost, driver: Driver) -> None:
    assert gauges(host, driver)["memory_temperature_celsius"] is None
    host.set(0, memory_temp=0)
    assert gauges(host, driver)["memory_temperature_celsius"] is None


@pytest.fixture
def older() -> Iterator[tuple[GpuHost, Driver]]:
    """Return a host whose driver does not know much yet."""
    missing = (
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetRemappedRows",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMigMode",
        "nvmlGpmMigSampleGet",
        "nvmlEventSetCreate",
    )
    with GpuHost(gpus=1, without=missing) as host:
        driver = Driver(host)
        yield host, driver
        driver.close()


def test_an_older_driver_lacks_functions_and_answers_the_others(
    older: tuple[GpuHost, Driver],
) -> None:
    host, driver = older
    show_all(host)
    host.set(0, used_mib=300, reserved_mib=100, util=40)
    host.add_process(0, os.getpid())

    reading = driver.ask("source.readings()")[0]
    health = driver.of_gpu("health", host.uuid(0))

    assert (reading["utilization_percent"], reading["memory_used_bytes"]) == (40, 400 * MIB)
    assert reading["memory_reserved_bytes"] is None
    assert [process["pid"] for process in reading["processes"]] == [os.getpid()]
    assert (health["recovery_action"], health["rows"]) == (None, None)
    absent = {"energy_millijoules": None, "memory_temperature_celsius": None}
    assert gauges(host, driver) == {**GAUGES, **absent}
    assert driver.ask("xids.start()") is None
    assert driver.ask("xids.release(5 * SECOND)") is True
    assert driver.ask("{**xids.last()}") == {}


SLICE = "source.engine_active(source.inventory()[1])"


def test_gpm_compares_two_samples_of_a_mig_device(host: GpuHost, driver: Driver) -> None:
    busy, idle = host.partition(1, "1g.10gb", "2g.20gb")
    host.set(1, gpm=1)
    task = host.start_task(1, util=80, NVIDIA_VISIBLE_DEVICES=busy.uuid)
    assert driver.ask(SLICE) is None

    eventually(lambda: driver.ask(SLICE) == 0.8, 5, "it is as busy as its process")
    other = "source.engine_active(source.inventory()[2])"
    eventually(lambda: driver.ask(other) == 0.0, 5, "the other one is idle")
    task.kill()
    task.wait()
    eventually(lambda: driver.ask(SLICE) == 0.0, 5, "it is idle")
    assert idle.uuid != busy.uuid


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param({"gpm": 0}, id="before Hopper"),
        pytest.param({"gpm": 1, "refuse": f"nvmlGpmMigSampleGet={PERMISSION}"}, id="not allowed"),
        pytest.param({"gpm": 1, "reset_required": 1}, id="must be reset"),
    ],
)
def test_a_mig_device_without_gpm_has_no_value_and_is_never_idle(
    host: GpuHost, driver: Driver, faults: dict[str, Any]
) -> None:
    host.partition(1, "1g.10gb")
    host.set(1, **faults)

    assert [driver.ask(SLICE) for _ in range(3)] == [None, None, None]


def test_a_new_instance_starts_without_the_samples_of_the_old_one(
    host: GpuHost, driver: Driver
) -> None:
    host.set(1, gpm=1, util=50)
    host.partition(1, "1g.10gb")
    driver.ask(SLICE)
    eventually(lambda: driver.ask(SLICE) == 0.5, 5, "two samples were compared")

    host.partition(1, "1g.10gb")

    assert driver.ask(SLICE) is None
    eventually(lambda: driver.ask(SLICE) == 0.5, 5, "two samples were compared")


def test_once_released_it_is_no_client_of_the_gpu(host: GpuHost, driver: Driver) -> None:
    driver.ask("source.inventory()")
    assert driver.pid in {holder.pid for holder in host.holders(0)}

    assert driver.ask("source.release()") is True

    assert driver.pid not in {holder.pid for holder in host.holders(0)}
    assert len(driver.ask("source.inventory()")) == 2


def test_a_release_does_not_wait_for_a_driver_that_hangs(host: GpuHost, driver: Driver) -> None:
    driver.ask("source.inventory()")
    host.set(0, hang=60)
    driver.ask("threading.Thread(target=source.readings, daemon=True).start()")
    began = time.monotonic()

    def is_released() -> Any:
        return driver.ask("source.release(SECOND / 10)")

    eventually(lambda: is_released() is False, 5, "it is held up")
    assert time.monotonic() - began < 10 * patience()
    host.set(0, hang=0)
    eventually(lambda: is_released() is True, 10, "it is let go")


LAST = "{**xids.last()}"


def hears(host: GpuHost, driver: Driver, gpu: int, code: int) -> bool:
    """Let an XID happen; tell whether it was heard by now."""
    host.set(gpu, xid=code)
    return bool(driver.ask(LAST)[host.uuid(gpu)] == code)


def test_xids_are_heard_as_they_happen_each_for_its_gpu(host: GpuHost, driver: Driver) -> None:
    host.set(0, xid=31)
    driver.ask("xids.start()")
    none = {host.uuid(0): 0, host.uuid(1): 0}
    eventually(lambda: driver.ask(LAST) == none, 5, "what was before is not known")

    host.set(1, xid=79)
    eventually(lambda: driver.ask(LAST) == none | {host.uuid(1): 79}, 5, "it is heard")
    host.set(1, xid=43)
    eventually(lambda: driver.ask(LAST) == none | {host.uuid(1): 43}, 5, "the last one counts")
    driver.ask("xids.stop()")


def test_the_xid_with_which_a_gpu_was_lost_is_heard_and_kept(host: GpuHost, driver: Driver) -> None:
    driver.ask("xids.start()")
    eventually(lambda: len(driver.ask(LAST)) == 2, 5, "it listens")

    host.set(0, xid=79, lost=1)

    eventually(lambda: driver.ask(LAST)[host.uuid(0)] == 79, 5, "it is heard")
    eventually(lambda: hears(host, driver, 1, 31), 5, "so is the other")
    host.restore(0)
    eventually(lambda: hears(host, driver, 0, 45), 5, "and it again")


def test_listening_survives_a_driver_that_goes_and_comes(host: GpuHost, driver: Driver) -> None:
    host.unload_driver()
    driver.ask("xids.start()")
    assert driver.ask(LAST) == {}

    host.load_driver()
    eventually(lambda: len(driver.ask(LAST)) == 2, 5, "it listens")
    host.set(0, xid=31)
    eventually(lambda: driver.ask(LAST)[host.uuid(0)] == 31, 5, "it is heard")
    host.unload_driver()
    host.load_driver()
    eventually(lambda: hears(host, driver, 0, 45), 5, "it listens again")


def test_a_released_listener_is_no_client_and_hears_again_once_resumed(
    host: GpuHost, driver: Driver
) -> None:
    driver.ask("xids.start()")
    eventually(lambda: len(driver.ask(LAST)) == 2, 5, "it listens")
    host.set(0, xid=31)
    eventually(lambda: driver.ask(LAST)[host.uuid(0)] == 31, 5, "it is heard")

    assert driver.ask("xids.release(5 * SECOND)") is True

    assert driver.pid not in {holder.pid for holder in host.holders(0)}
    assert driver.ask(LAST)[host.uuid(0)] == 31
    driver.ask("xids.resume()")
    eventually(lambda: hears(host, driver, 1, 45), 5, "it listens again")
    driver.ask("xids.stop()")
    assert driver.pid not in {holder.pid for holder in host.holders(0)}


def test_a_gpu_whose_events_are_refused_is_absent(host: GpuHost, driver: Driver) -> None:
    host.set(0, refuse="nvmlDeviceRegisterEvents=3")

    driver.ask("xids.start()")

    eventually(lambda: driver.ask(LAST) == {host.uuid(1): 0}, 5, "the other one is heard")


def test_a_machine_without_a_driver_says_so() -> None:
    command = "from remediator.sources.nvml import NvmlSource; NvmlSource().inventory()"
    bare = {k: v for k, v in os.environ.items() if k not in {"LD_LIBRARY_PATH", "FAKE_NVML_STATE"}}

    ended = subprocess.run(
        [sys.executable, "-c", command], env=bare, capture_output=True, text=True, check=False
    )

    assert "SourceError: the NVIDIA driver did not answer" in ended.stderr
