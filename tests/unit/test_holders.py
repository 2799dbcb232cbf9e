"""Holders of a GPU in a made-up /proc: what can hide one, and what must not be taken for one."""

import os
from pathlib import Path

import pytest

from remediator.core.gpus import GpuProcess, Reading, SlotReading
from remediator.core.holders import Holder, Via, describe
from remediator.errors import SourceError
from remediator.sources.holders import HolderSource
from remediator.sources.proc import ProcSource
from tests.fakes import FakeUsers, a_gpu, a_mig_device
from tests.peers.missing import require_root

ID = "4c05e644aff0ea386c1b79593b5ecf3b9ed5342f7b4033dd4d3dd34058477bb8"
PID = 4711


class Driver:
    """A driver that lists pids on GPU 0, whether they live or not."""

    def __init__(self) -> None:
        self.listed: list[tuple[int, ...]] = [()]
        self.slot = a_gpu(0)

    def readings(self) -> tuple[Reading, ...]:
        pids = self.listed[0] if len(self.listed) == 1 else self.listed.pop(0)
        processes = tuple(GpuProcess(pid, None, "mps") for pid in pids)
        return (SlotReading(self.slot, 0.0, 0, 1, processes),)


class Machine:
    """A /proc in a folder; its device nodes are copies of /dev/null."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.nodes = folder / "dev"
        self.nodes.mkdir()
        self.driver = Driver()
        users = FakeUsers({"alice": 1001})
        self.source = HolderSource(self.driver, ProcSource(self.proc), users, self.proc)

    def process(self, pid: int = PID, *, state: str = "S", maps: str = "", **files: str) -> None:
        fields = " ".join([state, *["1"] * 18, "70"])
        texts = {
            "stat": f"{pid} (python) {fields}\n",
            "status": "Uid:\t1001\t1001\t1001\t1001\n",
            "comm": "python\n",
            "cmdline": "python\0train.py\0",
            "cgroup": f"0::/docker/{ID}\n",
            "maps": maps,
            **files,
        }
        (self.proc / str(pid) / "fd").mkdir(parents=True)
        for name, text in texts.items():
            (self.proc / str(pid) / name).write_text(text)

    def open(self, path: str | Path, pid: int = PID) -> None:
        folder = self.proc / str(pid) / "fd"
        (folder / str(len(list(folder.iterdir())))).symlink_to(path)

    def node(self, name: str) -> Path:
        require_root("making device nodes")
        os.mknod(self.nodes / name, 0o20666, os.makedev(1, 3))
        return self.nodes / name


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_whoever_has_the_device_open_is_a_holder(machine: Machine) -> None:
    machine.process()
    machine.open("socket:[1]")
    machine.open(machine.node("nvidia0"))

    [holder] = machine.source.at_device(0)

    assert holder == Holder(
        PID, 70, "python", "python train.py", 1001, "alice", ID, frozenset({Via.OPEN})
    )
    assert describe(holder, {ID: "train"}) == (
        f"pid {PID} python train.py, container 4c05e644aff0 (train), alice,"
        " only has the device open"
    )
    assert machine.source.at_device(1) == ()


def test_a_device_that_is_only_mapped_is_held(machine: Machine) -> None:
    line = "7f00-7f01 rw-s 00000000 00:05 123   /dev/nvidia0\n"
    machine.process(maps=f"7e00-7e01 r-xp 00000000 08:01 9   /lib/libnvidia0.so\n{line}")

    [holder] = machine.source.at_device(0)

    assert holder.via == {Via.MAPPED}
    assert not holder.is_on_gpu


@pytest.mark.parametrize("name", ["nvidiactl", "nvidia-uvm", "nvidia01", "nvidia10", "xnvidia0"])
def test_other_devices_are_none_of_one_gpu(machine: Machine, name: str) -> None:
    machine.process()
    machine.open(machine.node(name))

    assert machine.source.at_device(0) == ()


def test_a_file_that_is_only_called_so_is_no_device(machine: Machine) -> None:
    machine.process()
    (machine.nodes / "nvidia0").write_text("notes")
    machine.open(machine.nodes / "nvidia0")

    assert machine.source.at_device(0) == ()


def test_mig_devices_are_held_with_their_gpu(machine: Machine) -> None:
    machine.driver.slot = a_mig_device(0)
    machine.driver.listed = [(PID,)]
    machine.process()

    [holder] = machine.source.holders("GPU-0")

    assert holder.via == {Via.MPS}
    assert describe(holder) == f"pid {PID} python train.py, container 4c05e644aff0, alice"


def test_a_zombie_holds_nothing(machine: Machine) -> None:
    machine.driver.listed = [(PID,)]
    machine.process(state="Z")

    assert machine.source.holders("GPU-0") == ()


def test_one_that_ended_since_it_was_listed_holds_nothing(machine: Machine) -> None:
    machine.driver.listed = [(PID,), ()]
    machine.proc.mkdir()

    assert machine.source.holders("GPU-0") == ()


def test_one_that_the_driver_lists_and_nobody_sees_is_not_left_out(machine: Machine) -> None:
    machine.driver.listed = [(PID,)]
    machine.proc.mkdir()

    with pytest.raises(SourceError, match=f"pid {PID} .* which /proc has not"):
        machine.source.holders("GPU-0")


def test_a_process_that_cannot_be_looked_into_may_be_a_holder(machine: Machine) -> None:
    machine.process()
    folder = machine.proc / str(PID) / "fd"
    folder.rmdir()
    folder.write_text("this is no folder")

    with pytest.raises(SourceError, match="cannot tell who has /dev/nvidia0 open"):
        machine.source.at_device(0)


def test_without_a_proc_nothing_can_be_told(machine: Machine) -> None:
    with pytest.raises(SourceError, match="No such file"):
        machine.source.at_device(0)


def test_what_a_holder_calls_itself_is_cleaned() -> None:
    holder = Holder(
        PID, 70, "x", "a\x1b[31m\nb" + "c" * 500, 1001, "al\nice", None, frozenset({Via.COMPUTE})
    )

    told = describe(holder)

    assert "\x1b" not in told
    assert "\n" not in told
    assert len(told) < 150
