"""What whoever runs nvidia-smi promises, kept over the stand-in program and in memory alike."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from remediator.actuators.nvidia_smi import NvidiaSmi
from remediator.core.gpus import GpuHealth
from remediator.core.resets import ResetAnswer, answer_of
from remediator.errors import EffectUnknownError, RefusedError, SourceError
from remediator.remediations.reset_try import Smi
from tests.eventually import eventually, patience
from tests.fakes import FakeDriver, a_gpu
from tests.fakes_reset import FakeSmi
from tests.peers.gpu.host import GpuHost

LONG = timedelta(seconds=20)
SHORT = timedelta(seconds=1)


class Rig(Protocol):
    """nvidia-smi of a host with two GPUs."""

    @property
    def smi(self) -> Smi: ...
    def uuid(self, gpu: int) -> str: ...
    def fall_ill(self, gpu: int) -> None: ...
    def is_ill(self, gpu: int) -> bool: ...
    def is_persistent(self, gpu: int) -> bool: ...
    def count_persistence(self) -> None: ...
    def hang(self) -> None: ...


class RealRig:
    def __init__(self, host: GpuHost, folder: Path) -> None:
        self._host = host
        # As on a real host, where the program finds the driver without being told.
        program = folder / "nvidia-smi"
        variables = f'export FAKE_NVML_STATE="{host.state}"'
        path = f'export PATH="{Path(sys.executable).parent}:$PATH"'
        program.write_text(
            f'#!/bin/sh\n{variables}\n{path}\nexec "{host.folder}/bin/nvidia-smi" "$@"\n'
        )
        program.chmod(0o755)
        self.smi = NvidiaSmi(str(program))

    def uuid(self, gpu: int) -> str:
        return self._host.uuid(gpu)

    def fall_ill(self, gpu: int) -> None:
        self._host.set(gpu, recovery_action=1, reset_required=1)

    def is_ill(self, gpu: int) -> bool:
        return self._host.get(gpu, "recovery_action") != "0"

    def is_persistent(self, gpu: int) -> bool:
        return self._host.get(gpu, "persistence") == "1"

    def count_persistence(self) -> None:
        self._host.set(0, reset_needs_persistence_off=1)

    def hang(self) -> None:
        self._host.set(0, hang=30)


class FakeRig:
    def __init__(self) -> None:
        self._driver = FakeDriver()
        for index in range(2):
            self._driver.add(a_gpu(index))
        self.smi = FakeSmi(self._driver)

    def uuid(self, gpu: int) -> str:
        return f"GPU-{gpu}"

    def fall_ill(self, gpu: int) -> None:
        self._driver.health_of[f"GPU-{gpu}"] = GpuHealth(recovery_action=1)

    def is_ill(self, gpu: int) -> bool:
        return self._driver.health(f"GPU-{gpu}").recovery_action != 0

    def is_persistent(self, gpu: int) -> bool:
        return bool(self._driver.is_persistent(f"GPU-{gpu}"))

    def count_persistence(self) -> None:
        self.smi.counts_persistence = True

    def hang(self) -> None:
        self.smi.hangs = True


@pytest.fixture(
    params=["fake", pytest.param("real", marks=[pytest.mark.integration, pytest.mark.gpu])]
)
def rig(request: pytest.FixtureRequest, folder: Path) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    with GpuHost(gpus=2) as host:
        yield RealRig(host, folder)


def test_a_reset_cures_the_gpus_that_are_named_and_no_other(rig: Rig) -> None:
    rig.fall_ill(0)
    rig.fall_ill(1)

    answer = rig.smi.reset([rig.uuid(0)], LONG, ())

    assert rig.smi.problem() is None
    assert answer_of(answer.status, answer.text) is ResetAnswer.DONE
    assert not rig.is_ill(0)
    assert rig.is_ill(1)


def test_several_are_reset_by_one_command(rig: Rig) -> None:
    rig.fall_ill(0)
    rig.fall_ill(1)

    answer = rig.smi.reset([rig.uuid(0), rig.uuid(1)], LONG, ())

    assert answer.status == 0
    assert not rig.is_ill(0)
    assert not rig.is_ill(1)


def test_a_gpu_that_is_not_there_is_said_to_be_so(rig: Rig) -> None:
    answer = rig.smi.reset(["GPU-nowhere"], LONG, ())

    assert answer_of(answer.status, answer.text) is ResetAnswer.NO_SUCH_GPU
    assert rig.smi.query(["GPU-nowhere"], LONG).status == 6
    with pytest.raises(EffectUnknownError, match="No devices"):
        rig.smi.set_persistence(["GPU-nowhere"], LONG, on=False)


def test_persistence_mode_may_count_as_a_user_until_it_is_off(rig: Rig) -> None:
    rig.fall_ill(0)
    rig.count_persistence()
    answer = rig.smi.reset([rig.uuid(0)], LONG, ())
    assert answer_of(answer.status, answer.text) is ResetAnswer.IN_USE
    assert rig.is_ill(0)

    rig.smi.set_persistence([rig.uuid(0)], LONG, on=False)
    assert not rig.is_persistent(0)
    assert rig.smi.reset([rig.uuid(0)], LONG, ()).status == 0
    rig.smi.set_persistence([rig.uuid(0)], LONG, on=True)

    assert rig.is_persistent(0)
    assert rig.is_persistent(1)


def test_a_query_tells_of_the_gpus_that_are_named(rig: Rig) -> None:
    answer = rig.smi.query([rig.uuid(0)], LONG)

    assert answer.status == 0
    assert rig.uuid(0) in answer.text
    assert rig.uuid(1) not in answer.text


def test_one_that_hangs_is_given_up(rig: Rig) -> None:
    rig.fall_ill(0)
    rig.hang()
    began = time.monotonic()

    with pytest.raises(EffectUnknownError, match="has not ended"):
        rig.smi.reset([rig.uuid(0)], SHORT, ())
    with pytest.raises(SourceError, match="has not ended"):
        rig.smi.query([rig.uuid(0)], SHORT)
    with pytest.raises(EffectUnknownError):
        rig.smi.set_persistence([rig.uuid(0)], SHORT, on=False)

    assert time.monotonic() - began < 15 * patience()


def test_a_program_that_is_not_there_is_a_problem_and_changes_nothing() -> None:
    smi = NvidiaSmi("/nonexistent/nvidia-smi")

    assert "set nvidia_smi" in (smi.problem() or "")
    with pytest.raises(RefusedError):
        smi.reset(["GPU-0"], LONG, ())
    with pytest.raises(SourceError):
        smi.query(["GPU-0"], LONG)


def test_what_is_given_up_is_killed_with_its_children(folder: Path) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {folder}/pid\nwait\n")
    program.chmod(0o755)

    with pytest.raises(EffectUnknownError):
        NvidiaSmi(str(program)).reset(["GPU-0"], SHORT, ())

    child = int((folder / "pid").read_text())
    eventually(lambda: _has_ended(child), 5, "the child has ended")


def test_what_it_writes_does_not_end_it_when_its_reader_has_died(folder: Path) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho begun\nsleep 1\necho done && touch {folder}/done\n")
    program.chmod(0o755)
    reader = (
        "from datetime import timedelta; from remediator.actuators.nvidia_smi import NvidiaSmi;"
        f"NvidiaSmi('{program}').reset(['GPU-0'], timedelta(seconds=9), ())"
    )
    process = subprocess.Popen([sys.executable, "-c", reader])
    eventually(lambda: _children_of(process.pid), 5, "it has begun")

    process.kill()
    process.wait()

    eventually((folder / "done").exists, 5, "it has come to its end")


def test_the_program_has_the_locks_for_as_long_as_it_runs(folder: Path) -> None:
    program = folder / "nvidia-smi"
    program.write_text('#!/bin/sh\nreadlink /proc/self/fd/"$LOCK"\nls /proc/$$/fd\n')
    program.chmod(0o755)
    lock = os.open(folder, os.O_RDONLY)

    answer = NvidiaSmi(str(program)).reset(["GPU-0"], LONG, (lock,))

    os.close(lock)
    assert str(lock) in answer.text.split()


def _has_ended(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def _children_of(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
