"""The real pynvml in a process of its own, answering one expression after the other.

    with Probe(host) as probe:
        probe.ask("nvmlDeviceGetTemperature(gpu(0), 0)")

As any client of the driver it holds the GPUs until it is closed, and so is in a reset's way.
"""

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from tests.peers.gpu.host import GpuHost

# Structures become dictionaries. `gpu(n)` and `mig(n, m)` are handles, looked up at each use.
_CHILD = """
import ctypes, json, sys
from pynvml import *

def gpu(index):
    return nvmlDeviceGetHandleByIndex(index)

def mig(index, place):
    return nvmlDeviceGetMigDeviceHandleByIndex(gpu(index), place)

def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, ctypes.Structure):
        return {name: plain(getattr(value, name)) for name, *_ in value._fields_
                if not isinstance(getattr(value, name), (ctypes.Union, ctypes._Pointer))}
    if hasattr(value, "__dict__") and not isinstance(value, ctypes._SimpleCData):
        return {name: plain(item) for name, item in vars(value).items()}
    return getattr(value, "value", value)

for line in sys.stdin:
    try:
        answer = {"value": plain(eval(line))}
    except NVMLError as error:
        answer = {"code": error.value, "text": str(error)}
    print(json.dumps(answer), flush=True)
"""


class DriverError(Exception):
    """What pynvml raised: `code` is NVML's number."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Probe:
    """One client of the driver of *host*; initialised at the start unless told otherwise."""

    def __init__(self, host: GpuHost, *, initialise: bool = True) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            env={**os.environ, **host.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if initialise:
            self.ask("nvmlInit()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The client's process."""
        return self._process.pid

    def ask(self, expression: str) -> Any:
        """Return what *expression* gives, as plain values; raise DriverError for an NVMLError."""
        pipes = self._process.stdin, self._process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise RuntimeError("the probe has no pipes")
        pipes[0].write(expression + "\n")
        pipes[0].flush()
        line = pipes[1].readline()
        if not line:
            raise RuntimeError(f"the probe ended at {expression}; see its stderr")
        answer = json.loads(line)
        if "code" in answer:
            raise DriverError(answer["code"], answer["text"])
        return answer["value"]

    def pids(self, gpu: int) -> list[int]:
        """Return the pids of the compute processes of a GPU."""
        found = self.ask(f"nvmlDeviceGetComputeRunningProcesses(gpu({gpu}))")
        return [process["pid"] for process in found]

    def utilisation(self, gpu: int) -> int:
        """Return how busy a GPU is, percent."""
        return int(self.ask(f"nvmlDeviceGetUtilizationRates(gpu({gpu}))")["gpu"])

    def close(self) -> None:
        """End the client."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()
        self._process.wait()
