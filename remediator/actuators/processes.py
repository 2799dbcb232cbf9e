"""Send signals to processes, each named so exactly that no other is ever hit.

A pid is used again by whoever comes next. So a process is first held by a pidfd, which stays its
own for ever, and only then looked at: what was looked at is what the signal goes to (pidfd_open(2),
pidfd_send_signal(2)).
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Protocol

from remediator.core.targets import Process
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError


class Identities(Protocol):
    """What tells one process from a later one with the same pid."""

    def start_ticks(self, pid: int) -> int | None:
        """Return when it started, in clock ticks after boot; None if it is gone."""
        ...

    def boot_id(self) -> str:
        """Return the id of the running boot."""
        ...

    def is_kernel_thread(self, pid: int) -> bool:
        """Tell whether it is a part of the kernel."""
        ...


class HeldProcess:
    """One process that is held: it may end, but nobody else can take its place."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid = pid
        self._descriptor = descriptor

    def send(self, number: signal.Signals, check: Callable[[], object]) -> None:
        """Send a signal right after *check*, which raises whatever speaks against it."""
        check()
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError as error:
            raise TargetGoneError(f"process {self._pid} has ended") from error
        except PermissionError as error:
            message = f"the kernel refused {number.name} to process {self._pid}: {error.strerror}"
            raise RefusedError(message) from error
        except OSError as error:
            message = f"{number.name} to process {self._pid} failed: {error.strerror}"
            raise EffectUnknownError(message) from error

    def ends_within(self, time: timedelta) -> bool:
        """Wait until all its threads have ended, at most for *time*; tell whether they have."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(max(time.total_seconds(), 0.0) * 1000))


class ProcessActuator:
    """The processes of this machine; needs root for those of other users."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    @contextlib.contextmanager
    def hold(self, target: Process) -> Iterator[HeldProcess]:
        """Hold exactly *target* for as long as the block runs.

        TargetGoneError if it has ended, or its pid is another one's by now; RefusedError for what
        is never signalled: pid 1 and below, the kernel, and ourselves with all that we belong to.
        """
        # kill(0) and kill(-1) mean everybody; a pid of 0 is what Docker says of what never ran.
        if target.pid <= 1:
            raise RefusedError(f"process {target.pid} is never signalled")
        descriptor = _open(target.pid)
        try:
            self._check(target)
            yield HeldProcess(target.pid, descriptor)
        finally:
            os.close(descriptor)

    def has_ended(self, target: Process) -> bool:
        """Tell whether exactly *target* has ended; RefusedError if that cannot be looked at."""
        if target.pid <= 1:
            raise RefusedError(f"process {target.pid} is never looked at")
        try:
            descriptor = _open(target.pid)
        except TargetGoneError:
            return True
        try:
            self._check_identity(target)
            return HeldProcess(target.pid, descriptor).ends_within(timedelta())
        except TargetGoneError:
            return True
        finally:
            os.close(descriptor)

    def _check(self, target: Process) -> None:
        self._check_identity(target)
        try:
            if self._identities.is_kernel_thread(target.pid):
                raise RefusedError(f"process {target.pid} is a part of the kernel")
            if _is_one_of_us(target.pid):
                raise RefusedError(f"process {target.pid} is one of ours")
        except ProcessLookupError as error:
            raise TargetGoneError(f"process {target.pid} has ended") from error
        except (SourceError, OSError) as error:
            raise RefusedError(f"process {target.pid} cannot be looked at: {error}") from error

    def _check_identity(self, target: Process) -> None:
        """Raise TargetGoneError unless the process that has the pid now is *target*."""
        try:
            boot = self._identities.boot_id()
            ticks = self._identities.start_ticks(target.pid)
        except SourceError as error:
            raise RefusedError(f"process {target.pid} cannot be looked at: {error}") from error
        if boot != target.boot_id:
            raise TargetGoneError(f"process {target.pid} was one of an earlier boot")
        if ticks is None:
            raise TargetGoneError(f"process {target.pid} has ended")
        if ticks != target.start_ticks:
            raise TargetGoneError(f"process {target.pid} has ended, another one has its number")


def _open(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (ProcessLookupError, OverflowError) as error:
        raise TargetGoneError(f"process {pid} has ended") from error
    except OSError as error:
        # ENOENT and EINVAL: the number is that of a thread, which is no process.
        raise RefusedError(f"the kernel does not let us hold {pid}: {error.strerror}") from error


def _is_one_of_us(pid: int) -> bool:
    """Tell whether it is this program, its parent, or of its process group or session."""
    return (
        pid in {os.getpid(), os.getppid()}
        or os.getpgid(pid) == os.getpgid(0)
        or os.getsid(pid) == os.getsid(0)
    )
