"""What a reset needs, in memory: nvidia-smi, the services around the GPUs, who holds a GPU.

`FakeSmi` obeys the contract of `tests/contracts/test_nvidia_smi.py`, which the real program that
runs nvidia-smi obeys as well.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from remediator.actuators.nvidia_smi import SmiAnswer
from remediator.core.gpus import GpuHealth
from remediator.core.holders import Holder, Via
from remediator.errors import EffectUnknownError, RefusedError, SourceError
from tests.fakes import FakeDriver, FakeHost, FakeKernel

IN_USE = "The following GPUs could not be reset:\n  GPU 00000000:01:00.0: In use by another client"


class FakeSmi:
    """nvidia-smi of *driver*'s GPUs; ``resets`` lists what it was told to reset.

    ``answer`` is what it says to a reset instead of doing it; it hangs while ``hangs``, and lacks
    while ``missing``. A GPU whose persistence mode ``counts_persistence`` refuses while it is on.
    """

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver
        self.resets: list[tuple[str, ...]] = []
        self.persistence: list[tuple[tuple[str, ...], bool]] = []
        self.answer: SmiAnswer | None = None
        self.cures = True
        self.hangs = False
        self.missing = False
        self.counts_persistence = False
        self.query_status = 0
        self.before_reset: Callable[[], None] = lambda: None
        self.locks: tuple[int, ...] = ()

    def problem(self) -> str | None:
        return "there is no program nvidia-smi: set nvidia_smi" if self.missing else None

    def reset(self, uuids: Sequence[str], within: timedelta, locks: Sequence[int]) -> SmiAnswer:
        if self.missing:
            raise RefusedError("cannot run nvidia-smi")
        self.before_reset()
        self.locks = tuple(locks)
        self.resets.append(tuple(uuids))
        if self.hangs:
            raise EffectUnknownError(
                f"nvidia-smi has not ended within {within.total_seconds():g} s"
            )
        if self.answer is not None:
            return self.answer
        if any(uuid not in self._known() for uuid in uuids):
            return SmiAnswer(6, "No devices were found")
        if self.counts_persistence and any(self._driver.persistent.get(u, True) for u in uuids):
            return SmiAnswer(255, IN_USE)
        if self.cures:
            self._driver.health_of |= dict.fromkeys(uuids, GpuHealth(recovery_action=0))
        return SmiAnswer(0, "GPU 00000000:01:00.0 was successfully reset.\nAll done.")

    def set_persistence(self, uuids: Sequence[str], within: timedelta, *, on: bool) -> None:
        if self.missing:
            raise RefusedError("cannot run nvidia-smi")
        if self.hangs:
            raise EffectUnknownError("nvidia-smi has not ended")
        if any(uuid not in self._known() for uuid in uuids):
            raise EffectUnknownError(
                "persistence mode could not be switched: No devices were found"
            )
        self.persistence.append((tuple(uuids), on))
        self._driver.persistent |= dict.fromkeys(uuids, on)

    def query(self, uuids: Sequence[str], within: timedelta) -> SmiAnswer:
        if self.missing or self.hangs:
            raise SourceError("nvidia-smi has not ended")
        if any(uuid not in self._known() for uuid in uuids):
            return SmiAnswer(6, "No devices were found")
        told = "\n".join(f"    GPU UUID : {uuid}" for uuid in uuids)
        return SmiAnswer(self.query_status, f"NVSMI LOG\n{told}")

    def _known(self) -> set[str]:
        # The program is another process: it asks the driver also while we keep off.
        return set(self._driver.uuids())


class FakeGpuServices:
    """The services around the GPUs, those of ``running`` running.

    ``dead`` is the end of the process: what is stopped then stays so, until `recover`.
    """

    def __init__(self, *running: str) -> None:
        self.running = set(running)
        self._stopped: tuple[str, ...] = ()
        self.refuses = ""
        self.stays_down = False
        self.dead = False
        self.silent = ""
        self.on_stop: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def quiesced(self, why: str, within: timedelta) -> Iterator[tuple[str, ...]]:
        assert why
        if self.refuses:
            raise RefusedError(self.refuses)
        self._stopped = tuple(sorted(self.running))
        self.running.clear()
        self.on_stop()
        try:
            yield self._stopped
        finally:
            if not self.dead:
                self._restore()
        if self._stopped:
            raise EffectUnknownError(f"not running again: {', '.join(self._stopped)}")

    def held_by(self) -> int:
        return 99

    def unrestored(self) -> tuple[str, ...]:
        if self.silent:
            raise SourceError(self.silent)
        return self._stopped

    def states(self, units: Sequence[str]) -> Mapping[str, object]:
        if self.silent:
            raise SourceError(self.silent)
        return {unit: "active" if unit in self.running else "inactive" for unit in units}

    def recover(self) -> None:
        """Let the next life of the process restore what the last one stopped."""
        self.dead = False
        self._restore()

    def _restore(self) -> None:
        if not self.stays_down:
            self.running |= set(self._stopped)
            self._stopped = ()


class FakeHolders:
    """Who holds a GPU: what the driver lists, and who has the device open (``opened``)."""

    def __init__(self, driver: FakeDriver, kernel: FakeKernel) -> None:
        self._driver = driver
        self._kernel = kernel
        self.opened: dict[int, list[int]] = {}
        self.silent = ""

    def holders(self, gpu_uuid: str, minor: int | None = None) -> tuple[Holder, ...]:
        listed = self._driver.pids_on(gpu_uuid)
        held = () if minor is None else self.at_device(minor)
        known = {holder.pid for holder in held}
        return (*held, *(self._holder(pid, Via.COMPUTE) for pid in listed if pid not in known))

    def at_device(self, minor: int) -> tuple[Holder, ...]:
        if self.silent:
            raise SourceError(self.silent)
        return tuple(self._holder(pid, Via.OPEN) for pid in self.opened.get(minor, ()))

    def _holder(self, pid: int, via: Via) -> Holder:
        process = self._kernel.processes[pid]
        return Holder(
            pid=pid,
            start_ticks=process.start_ticks,
            comm=process.comm or "",
            command=process.command,
            uid=process.uid,
            user={0: "root", 1001: "alice"}.get(process.uid, str(process.uid)),
            container_id=process.container_id,
            via=frozenset({via}),
        )


class FakeKernelLog:
    """The kernel's log, which may not be readable."""

    def __init__(self) -> None:
        self.lines: tuple[str, ...] = ("NVRM: Xid (PCI:0000:01:00): 119, GSP timeout",)
        self.silent = ""

    def driver_lines(self, most: int) -> Sequence[str]:
        if self.silent:
            raise SourceError(self.silent)
        return self.lines[-most:]


class FakeFolder:
    """Where evidence is kept; a full disk keeps nothing."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.is_full = False

    def write(self, name: str, text: str) -> Path | None:
        if self.is_full:
            return None
        self.texts.append(text)
        return Path("/state/evidence") / f"{name}.txt"


class FakeLock:
    """What keeps other programs off the driver; ``taken_by_others`` while another reset runs."""

    def __init__(self) -> None:
        self.is_held = False
        self.taken_by_others = False
        self.on_look: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def taken(self, within: timedelta) -> Iterator[int]:
        if self.taken_by_others:
            raise RefusedError("another reset on this host has not ended yet")
        self.is_held = True
        try:
            yield 98
        finally:
            self.is_held = False

    def is_taken(self) -> bool:
        self.on_look()
        return self.taken_by_others


def a_holder(host: FakeHost, **facts: object) -> int:
    """Start a process of the host with *facts*; return its pid."""
    pid = host.a_process()
    for name, value in facts.items():
        setattr(host.kernel.processes[pid], name, value)
    return pid


def an_own_holder(host: FakeHost) -> int:
    """Let this very process be one of the host's; return its pid."""
    host.kernel.put(os.getpid(), None)
    return os.getpid()
