"""Ask what may never answer: a hung driver, a dead file server.

Such a call cannot be taken back. It stays in a thread of its own, and who asked goes on.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLateError
from datetime import datetime, timedelta
from typing import TypeVar

from remediator.core.containers import ContainerFacts
from remediator.core.gpus import GpuSlot, Reading
from remediator.errors import SourceError
from remediator.sources.docker_engine import DockerSource
from remediator.sources.nvml import NvmlSource

T = TypeVar("T")


class InTime:
    """Waits for an answer no longer than *timeout*; *threads* calls may hang before all do."""

    def __init__(self, whom: str, timeout: timedelta, threads: int = 1) -> None:
        self._whom = whom
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="in-time")

    def ask(self, question: Callable[[], T]) -> T:
        """Return what *question* returns or raise what it raises; SourceError if it hangs."""
        answer = self._pool.submit(question)
        try:
            return answer.result(self._timeout.total_seconds())
        except TooLateError as error:
            answer.cancel()
            seconds = self._timeout.total_seconds()
            raise SourceError(f"{self._whom} did not answer within {seconds:g} s") from error


class DriverInTime:
    """`NvmlSource`, for those who cannot wait for a driver that hangs."""

    def __init__(self, driver: NvmlSource, timeout: timedelta) -> None:
        self._driver = driver
        self._in_time = InTime("the NVIDIA driver", timeout)

    def inventory(self) -> tuple[GpuSlot, ...]:
        """Return every slot."""
        return self._in_time.ask(self._driver.inventory)

    def readings(self) -> tuple[Reading, ...]:
        """Return what every slot is doing."""
        return self._in_time.ask(self._driver.readings)

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        """Return recent utilisation by pid."""
        return self._in_time.ask(lambda: self._driver.process_utilization(slot))


class EngineInTime:
    """`DockerSource`, whose look at a keep-alive file may end at a dead file server."""

    def __init__(self, engine: DockerSource, timeout: timedelta) -> None:
        self._engine = engine
        self._in_time = InTime("the file system of the container", timeout, threads=4)

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return what is known of one container; Docker's own timeout bounds it."""
        return self._engine.inspect(container_id)

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        """Return modification and change time of the keep-alive file."""
        return self._in_time.ask(lambda: self._engine.keep_alive_at(facts))
