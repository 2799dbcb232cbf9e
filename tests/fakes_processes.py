"""What ends processes, in memory over `FakeKernel` and `FakeDriver`."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from remediator.core.targets import Process
from remediator.errors import RefusedError, SourceError, TargetGoneError
from tests.fakes import FakeDriver, FakeKernel


class FakeProcesses:
    """Ends processes of `FakeKernel`; ``signals`` lists what was sent to whom.

    ``ignores`` are the pids that ignore SIGTERM, ``stuck`` those that hear no signal at all, and
    ``own`` those that we belong to. ``while_waiting`` happens in each wait, before anything ends.
    """

    def __init__(self, kernel: FakeKernel, driver: FakeDriver) -> None:
        self._kernel = kernel
        self._driver = driver
        self.signals: list[tuple[int, signal.Signals]] = []
        self.waits: list[timedelta] = []
        self.ignores: set[int] = set()
        self.stuck: set[int] = set()
        self.own: set[int] = set()
        self.while_waiting: Callable[[], None] = lambda: None
        self.before_signal: Callable[[], None] = lambda: None

    @contextmanager
    def hold(self, target: Process) -> Iterator["FakeHeld"]:
        if target.pid <= 1:
            raise RefusedError(f"process {target.pid} is never signalled")
        self.check_identity(target)
        if self._kernel.is_kernel_thread(target.pid):
            raise RefusedError(f"process {target.pid} is a part of the kernel")
        if target.pid in self.own:
            raise RefusedError(f"process {target.pid} is one of ours")
        yield FakeHeld(self, target)

    def has_ended(self, target: Process) -> bool:
        if target.pid <= 1:
            raise RefusedError(f"process {target.pid} is never looked at")
        try:
            self.check_identity(target)
        except TargetGoneError:
            return True
        return self._kernel.has_ended(target.pid)

    def check_identity(self, target: Process) -> None:
        try:
            ticks = self._kernel.start_ticks(target.pid)
            is_boot = self._kernel.boot_id() == target.boot_id
        except SourceError as error:
            raise RefusedError(f"process {target.pid} cannot be looked at: {error}") from error
        if not is_boot or ticks != target.start_ticks:
            raise TargetGoneError(f"process {target.pid} has ended")

    def deliver(self, target: Process, number: signal.Signals) -> None:
        self.before_signal()
        if self.has_ended(target):
            raise TargetGoneError(f"process {target.pid} has ended")
        self.signals.append((target.pid, number))
        pid = target.pid
        if pid in self.stuck:
            self._kernel.processes[pid].state = "D"
        elif number is signal.SIGKILL or pid not in self.ignores:
            self._kernel.forget(pid)
            self._driver.forget(pid)


class FakeHeld:
    """One process that is held."""

    def __init__(self, processes: FakeProcesses, target: Process) -> None:
        self._processes = processes
        self._target = target

    def send(self, number: signal.Signals, check: Callable[[], object]) -> None:
        check()
        self._processes.deliver(self._target, number)

    def ends_within(self, time: timedelta) -> bool:
        self._processes.waits.append(time)
        self._processes.while_waiting()
        return self._processes.has_ended(self._target)
