"""Answer questions to our `NvmlSource` over a pipe.

The stand-in driver has to be there when a process starts, so the source under test lives in one
of its own. Each question is a pickled method name with arguments, each answer a pickled value or
the error that was raised.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from remediator.core.gpus import Gpu, GpuGauges, GpuHealth, GpuSlot, PowerLimits, Reading
from remediator.errors import SourceError, TargetGoneError
from remediator.sources.nvml import NvmlSource
from tests.peers.gpu.host import GpuHost


class RemoteDriver:
    """`NvmlSource` in a process that sees *host*."""

    def __init__(self, host: GpuHost) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={**os.environ, **host.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """The process that asks the driver, and so holds the GPUs."""
        return self._process.pid

    def gpus(self) -> tuple[Gpu, ...]:
        found: tuple[Gpu, ...] = self._ask("gpus")
        return found

    def reading(self, slot: GpuSlot) -> Reading:
        found: Reading = self._ask("reading", slot)
        return found

    def health(self, gpu_uuid: str) -> GpuHealth:
        found: GpuHealth = self._ask("health", gpu_uuid)
        return found

    def reset_group(self, gpu_uuid: str) -> tuple[str, ...]:
        found: tuple[str, ...] = self._ask("reset_group", gpu_uuid)
        return found

    def is_persistent(self, gpu_uuid: str) -> bool | None:
        found: bool | None = self._ask("is_persistent", gpu_uuid)
        return found

    @contextlib.contextmanager
    def closed(self, why: str, within: timedelta) -> Iterator[None]:
        self._ask("close_for", why, within)
        try:
            yield
        finally:
            self._ask("open_again")

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        found: GpuGauges = self._ask("gauges", gpu_uuid)
        return found

    def power_limits(self, gpu_uuid: str) -> PowerLimits | None:
        found: PowerLimits | None = self._ask("power_limits", gpu_uuid)
        return found

    def engine_active(self, slot: GpuSlot) -> float | None:
        found: float | None = self._ask("engine_active", slot)
        return found

    def inventory(self) -> tuple[GpuSlot, ...]:
        found: tuple[GpuSlot, ...] = self._ask("inventory")
        return found

    def readings(self) -> tuple[Reading, ...]:
        found: tuple[Reading, ...] = self._ask("readings")
        return found

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        found: Mapping[int, float] | None = self._ask("process_utilization", slot)
        return found

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, method: str, *arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump((method, arguments), self._process.stdin)
        self._process.stdin.flush()
        answer = pickle.load(self._process.stdout)  # noqa: S301 - our own process
        if isinstance(answer, SourceError | TargetGoneError):
            raise answer
        return answer


class _Served(NvmlSource):
    """A source whose block begins with one message and ends with another."""

    def __init__(self) -> None:
        super().__init__()
        self._block = contextlib.ExitStack()

    def close_for(self, why: str, within: timedelta) -> None:
        self._block.enter_context(self.closed(why, within))

    def open_again(self) -> None:
        self._block.close()


def _serve() -> None:
    source = _Served()
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own process
        except EOFError:
            return
        try:
            answer = getattr(source, method)(*arguments)
        except (SourceError, TargetGoneError) as error:
            answer = error
        pickle.dump(answer, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
