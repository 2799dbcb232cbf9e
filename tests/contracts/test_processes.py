"""What the hands on processes promise, kept by the kernel and by the fake alike."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

import pytest

from remediator.actuators.processes import ProcessActuator
from remediator.core.targets import Process
from remediator.errors import RefusedError, TargetGoneError
from remediator.remediations.kill_orphan import Hands
from remediator.sources.proc import ProcSource
from tests.builders import SECOND
from tests.fakes import FakeDriver, FakeKernel
from tests.fakes_processes import FakeProcesses
from tests.peers.pids import spawn_as

KTHREADD = 2
NOW = timedelta()
_SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.{0}); print(); time.sleep(99)"


class Rig(Protocol):
    """A machine with processes, and what can happen to them."""

    @property
    def hands(self) -> Hands: ...
    def start(self, *, stubborn: bool = False, ours: bool = False) -> Process: ...
    def end(self, target: Process) -> None: ...
    def become_zombie(self, target: Process) -> None: ...
    def reuse(self, target: Process) -> Process: ...
    def lives(self, target: Process) -> bool: ...
    def target(self, pid: int) -> Process: ...


class RealRig:
    def __init__(self) -> None:
        self._kernel = ProcSource()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self.hands = ProcessActuator(self._kernel)

    def start(self, *, stubborn: bool = False, ours: bool = False) -> Process:
        program = _SLEEPER.format("SIG_IGN" if stubborn else "SIG_DFL")
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=not ours
        )
        assert child.stdout is not None
        child.stdout.readline()  # now the signal is handled as it should be
        child.stdout.close()
        self._children[child.pid] = child
        return self.target(child.pid)

    def end(self, target: Process) -> None:
        self._children[target.pid].kill()
        self._children[target.pid].wait()

    def become_zombie(self, target: Process) -> None:
        self._children[target.pid].kill()
        os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT)

    def reuse(self, target: Process) -> Process:
        self.end(target)
        self._children[target.pid] = spawn_as(target.pid, after=target.start_ticks)
        return self.target(target.pid)

    def lives(self, target: Process) -> bool:
        return not self._kernel.has_ended(target.pid) and target == self.target(target.pid)

    def target(self, pid: int) -> Process:
        return Process(pid, self._kernel.start_ticks(pid) or 0, self._kernel.boot_id())

    def close(self) -> None:
        for child in self._children.values():
            child.kill()
            child.wait()


class FakeRig:
    def __init__(self) -> None:
        self._kernel = FakeKernel()
        self.hands = FakeProcesses(self._kernel, FakeDriver())
        self._pids = iter(range(4000, 5000))
        self._kernel.put(KTHREADD, None).comm = "kthreadd"
        for pid in (os.getpid(), os.getppid()):
            self._kernel.put(pid, None)
            self.hands.own.add(pid)

    def start(self, *, stubborn: bool = False, ours: bool = False) -> Process:
        pid = next(self._pids)
        self._kernel.put(pid, None)
        if stubborn:
            self.hands.ignores.add(pid)
        if ours:
            self.hands.own.add(pid)
        return self.target(pid)

    def end(self, target: Process) -> None:
        self._kernel.forget(target.pid)

    def become_zombie(self, target: Process) -> None:
        self._kernel.processes[target.pid].state = "Z"

    def reuse(self, target: Process) -> Process:
        self._kernel.put(target.pid, None).start_ticks = target.start_ticks + 7
        return self.target(target.pid)

    def lives(self, target: Process) -> bool:
        return target.pid in self._kernel.processes and target == self.target(target.pid)

    def target(self, pid: int) -> Process:
        found = self._kernel.processes.get(pid)
        return Process(pid, found.start_ticks if found else 0, self._kernel.boot_id())


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.integration)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    real = RealRig()
    yield real
    real.close()


def nothing() -> None:
    """Let a signal pass."""


def forbidden() -> None:
    raise RefusedError("it is somebody's")


def test_a_process_that_honours_the_signal_ends(rig: Rig) -> None:
    target = rig.start()

    with rig.hands.hold(target) as process:
        assert not process.ends_within(NOW)
        process.send(signal.SIGTERM, nothing)
        assert process.ends_within(5 * SECOND)
    assert rig.hands.has_ended(target)


def test_one_that_ignores_it_ends_by_force(rig: Rig) -> None:
    target = rig.start(stubborn=True)

    with rig.hands.hold(target) as process:
        process.send(signal.SIGTERM, nothing)
        assert not process.ends_within(timedelta(milliseconds=200))
        assert not rig.hands.has_ended(target)
        process.send(signal.SIGKILL, nothing)
        assert process.ends_within(5 * SECOND)


def test_what_the_check_forbids_is_not_sent(rig: Rig) -> None:
    target = rig.start()

    with rig.hands.hold(target) as process, pytest.raises(RefusedError, match="somebody's"):
        process.send(signal.SIGKILL, forbidden)
    with rig.hands.hold(target) as process:
        assert not process.ends_within(timedelta(milliseconds=100))


@pytest.mark.parametrize("pid", [1, 0, -1, -4711])
def test_numbers_that_mean_everybody_are_refused(rig: Rig, pid: int) -> None:
    target = Process(pid, 0, rig.target(os.getpid()).boot_id)

    with pytest.raises(RefusedError, match="never"), rig.hands.hold(target):
        pass
    with pytest.raises(RefusedError, match="never"):
        rig.hands.has_ended(target)


@pytest.mark.parametrize("pid", [os.getpid(), os.getppid()], ids=["ourselves", "our parent"])
def test_we_ourselves_are_refused(rig: Rig, pid: int) -> None:
    with pytest.raises(RefusedError, match="ours"), rig.hands.hold(rig.target(pid)):
        pass


def test_what_runs_beside_us_is_refused(rig: Rig) -> None:
    target = rig.start(ours=True)

    with pytest.raises(RefusedError, match="ours"), rig.hands.hold(target):
        pass
    assert rig.lives(target)


def test_a_part_of_the_kernel_is_refused(rig: Rig) -> None:
    with pytest.raises(RefusedError, match="kernel"), rig.hands.hold(rig.target(KTHREADD)):
        pass


def test_a_process_that_has_ended_is_gone(rig: Rig) -> None:
    target = rig.start()
    rig.end(target)

    with pytest.raises(TargetGoneError), rig.hands.hold(target):
        pass
    assert rig.hands.has_ended(target)


def test_a_zombie_has_ended(rig: Rig) -> None:
    target = rig.start()
    assert not rig.hands.has_ended(target)

    rig.become_zombie(target)

    assert rig.hands.has_ended(target)


def test_one_that_ends_while_it_is_held_is_gone(rig: Rig) -> None:
    target = rig.start()

    with rig.hands.hold(target) as process:
        rig.end(target)
        assert process.ends_within(NOW)
        with pytest.raises(TargetGoneError):
            process.send(signal.SIGTERM, nothing)


@pytest.mark.parametrize("ticks", [-1, 1])
def test_with_other_start_ticks_it_is_another(rig: Rig, ticks: int) -> None:
    target = rig.start()
    other = Process(target.pid, target.start_ticks + ticks, target.boot_id)

    with pytest.raises(TargetGoneError), rig.hands.hold(other):
        pass
    assert rig.hands.has_ended(other)
    assert rig.lives(target)


def test_one_of_an_earlier_boot_is_gone(rig: Rig) -> None:
    target = rig.start()
    other = Process(target.pid, target.start_ticks, "another boot")

    with pytest.raises(TargetGoneError), rig.hands.hold(other):
        pass
    assert rig.hands.has_ended(other)


def test_a_pid_that_is_used_again_while_it_is_held_is_not_hit(rig: Rig) -> None:
    target = rig.start()

    with rig.hands.hold(target) as process:
        stranger = rig.reuse(target)
        assert stranger.pid == target.pid
        with pytest.raises(TargetGoneError):
            process.send(signal.SIGKILL, nothing)
    assert rig.hands.has_ended(target)
    assert rig.lives(stranger)
    with rig.hands.hold(stranger) as other:
        assert not other.ends_within(timedelta(milliseconds=100))
