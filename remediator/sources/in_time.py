"""Ask what may never answer: a hung driver, a dead file server, a directory of users.

Such a call cannot be taken back. It stays in a thread of its own, and who asked goes on; until it
ends, nobody else gets stuck on the same thing.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLateError
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from remediator.core.containers import ContainerFacts, ContainerSummary
from remediator.core.gpus import Gpu, GpuGauges, GpuHealth, GpuSlot, PowerLimits, Reading
from remediator.core.holders import Holder
from remediator.errors import SourceError
from remediator.sources.accounts import Accounts
from remediator.sources.docker_engine import DockerSource
from remediator.sources.holders import HolderSource
from remediator.sources.nvml import NvmlSource
from remediator.sources.proc import ProcSource
from remediator.sources.shared_answer import SharedAnswer

T = TypeVar("T")

_THREADS = 8


class InTime:
    """Waits for an answer no longer than *timeout*; *whom* names what is asked."""

    def __init__(self, whom: str, timeout: timedelta) -> None:
        self._whom = whom
        self._seconds = timeout.total_seconds()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="in-time")
        self._lock = threading.Lock()
        self._hanging: dict[str, Future[Any]] = {}

    def ask(self, key: str, question: Callable[[], T]) -> T:
        """Return what *question* returns, or raise what it raises; SourceError if it hangs.

        While a question about *key* hangs, no further one about it is begun.
        """
        with self._lock:
            self._hanging = {k: f for k, f in self._hanging.items() if not f.done()}
            if key in self._hanging:
                raise SourceError(f"{self._whom} still does not answer")
            answer = self._pool.submit(question)
        try:
            return answer.result(self._seconds)
        except TooLateError as error:
            if not answer.cancel():
                with self._lock:
                    self._hanging[key] = answer
            message = f"{self._whom} did not answer within {self._seconds:g} s"
            raise SourceError(message) from error


class DriverInTime:
    """`NvmlSource`, for those who cannot wait for a driver that hangs."""

    def __init__(self, driver: NvmlSource, timeout: timedelta) -> None:
        self._driver = driver
        self._in_time = InTime("the NVIDIA driver", timeout)
        # What many look at in the same moment; the driver answers one question at a time.
        self._readings = SharedAnswer(lambda: self._in_time.ask("", driver.readings))

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU."""
        return self._in_time.ask("", self._driver.gpus)

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        """Return what a GPU's instruments show."""
        return self._in_time.ask("", lambda: self._driver.gauges(gpu_uuid))

    def power_limits(self, gpu_uuid: str) -> PowerLimits | None:
        """Return a GPU's power limits."""
        return self._in_time.ask("", lambda: self._driver.power_limits(gpu_uuid))

    def inventory(self) -> tuple[GpuSlot, ...]:
        """Return every slot."""
        return self._in_time.ask("", self._driver.inventory)

    def readings(self) -> tuple[Reading, ...]:
        """Return what every slot is doing."""
        return self._readings.get()

    def health(self, gpu_uuid: str) -> GpuHealth:
        """Return what the driver thinks of a GPU."""
        return self._in_time.ask("", lambda: self._driver.health(gpu_uuid))

    def reset_group(self, gpu_uuid: str) -> tuple[str, ...]:
        """Return the GPUs that can only be reset together with this one, and it."""
        return self._in_time.ask("", lambda: self._driver.reset_group(gpu_uuid))

    def is_persistent(self, gpu_uuid: str) -> bool | None:
        """Return whether the driver keeps the GPU ready while nobody uses it."""
        return self._in_time.ask("", lambda: self._driver.is_persistent(gpu_uuid))

    def closed(self, why: str, within: timedelta) -> AbstractContextManager[None]:
        """Close the driver and keep it closed; that has its own time limit."""
        return self._driver.closed(why, within)

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        """Return recent utilisation by pid."""
        return self._in_time.ask("", lambda: self._driver.process_utilization(slot))


class EngineInTime:
    """`DockerSource`, whose look at a keep-alive file may end at a dead file server."""

    def __init__(self, engine: DockerSource, timeout: timedelta) -> None:
        self._engine = engine
        self._in_time = InTime("the file system of the container", timeout)

    def list(self) -> tuple[ContainerSummary, ...]:
        """Return all containers; Docker's own timeout bounds it."""
        return self._engine.list()

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return what is known of one container; Docker's own timeout bounds it."""
        return self._engine.inspect(container_id)

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        """Return modification and change time of the keep-alive file."""
        return self._in_time.ask(facts.id, lambda: self._engine.keep_alive_at(facts))


class CommandsInTime:
    """Command lines of `ProcSource`: a process that hangs in a driver may hold its memory's lock.

    Only people are told of them, so one that does not come is left out.
    """

    def __init__(self, processes: ProcSource, timeout: timedelta) -> None:
        self._processes = processes
        self._in_time = InTime("the kernel", timeout)

    def command(self, pid: int) -> str | None:
        """Return a process's command line, None where it cannot be had."""
        try:
            return self._in_time.ask(str(pid), lambda: self._processes.command(pid))
        except SourceError:
            return None


class HoldersInTime:
    """`HolderSource`, which asks the driver, and for the memory of every process."""

    def __init__(self, holders: HolderSource, timeout: timedelta) -> None:
        self._holders = holders
        self._in_time = InTime("whoever tells who holds a GPU", timeout)

    def holders(self, gpu_uuid: str, minor: int | None = None) -> tuple[Holder, ...]:
        """Return who holds a physical GPU."""
        return self._in_time.ask(gpu_uuid, lambda: self._holders.holders(gpu_uuid, minor))

    def at_device(self, minor: int) -> tuple[Holder, ...]:
        """Return who has ``/dev/nvidiaN`` open or mapped."""
        return self._in_time.ask(str(minor), lambda: self._holders.at_device(minor))


class AccountsInTime:
    """`Accounts`, whose directory may be behind a network; who cannot be found does not exist."""

    def __init__(self, accounts: Accounts, timeout: timedelta) -> None:
        self._accounts = accounts
        self._in_time = InTime("the directory of users", timeout)

    def exists(self, name: str) -> bool:
        """Tell whether there is an account *name*."""
        try:
            return self._in_time.ask(name, lambda: self._accounts.exists(name))
        except SourceError:
            return False

    def name_of_uid(self, uid: int) -> str | None:
        """Return the name of account number *uid*, or None."""
        try:
            return self._in_time.ask(str(uid), lambda: self._accounts.name_of_uid(uid))
        except SourceError:
            return None
