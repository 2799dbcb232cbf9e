"""Set a GPU's power limit through NVML.

NVML has no timeouts, and a call into a broken driver may hang for ever. So each is made by a small
program of its own, which can be ended: nothing happens later that nobody expects any more, and
this process does not become a client of the GPU, which would stand in the way of a reset.
"""

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import NoReturn

import pynvml

from remediator.errors import (
    EffectUnknownError,
    RefusedError,
    RemediationError,
    TargetGoneError,
)

# How long an ended program may take to be gone; one that hangs in the kernel never is.
_REAP_SECONDS = 1.0
# The errors that mean that nothing was changed, whenever they come.
_REFUSALS = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    }
)
# What the program's exit status says, and what that leaves behind.
_REFUSED, _GONE, _UNKNOWN = 10, 11, 12
_ERRORS: Mapping[int, type[RemediationError]] = {
    _REFUSED: RefusedError,
    _GONE: TargetGoneError,
    _UNKNOWN: EffectUnknownError,
}


class PowerActuator:
    """The power limits of this machine's GPUs; root may set them.

    *environment* is that of the program which calls the driver, this process's own if not given.
    """

    def __init__(self, timeout: timedelta, environment: Mapping[str, str] | None = None) -> None:
        self._seconds = timeout.total_seconds()
        self._environment = environment

    def set_limit(self, gpu_uuid: str, milliwatts: int) -> None:
        """Set the power limit of a GPU; it lasts until it is set anew or the driver is reloaded."""
        try:
            # Isolated (-I): a root's program must not find its modules in the current folder.
            program = subprocess.Popen(
                [sys.executable, "-I", "-m", __name__, gpu_uuid, str(milliwatts)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=self._environment,
            )
        except OSError as error:
            raise RefusedError(f"{sys.executable} cannot be run: {error}") from error
        with contextlib.closing(program.stdout) if program.stdout else contextlib.nullcontext():
            self._wait(program, gpu_uuid)
            said = program.stdout.read().strip() if program.stdout else ""
        if program.returncode:
            kind = _ERRORS.get(program.returncode, EffectUnknownError)
            last = said.splitlines()[-1] if said else f"exit status {program.returncode}"
            raise kind(f"the power limit of GPU {gpu_uuid} was not set: {last}")

    def _wait(self, program: subprocess.Popen[str], gpu_uuid: str) -> None:
        try:
            program.wait(self._seconds)
        except subprocess.TimeoutExpired as error:
            program.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(_REAP_SECONDS)
            message = f"the NVIDIA driver did not set the power limit of GPU {gpu_uuid} in time"
            raise EffectUnknownError(message) from error


def _set(gpu_uuid: str, milliwatts: int) -> None:
    """Set it in this process, or end it with what went wrong."""
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid)
    except pynvml.NVMLError as error:
        # So far nothing was asked for.
        _end(_GONE if error.value == pynvml.NVML_ERROR_NOT_FOUND else _REFUSED, error)
    try:
        pynvml.nvmlDeviceSetPowerManagementLimit(handle, milliwatts)
    except pynvml.NVMLError as error:
        _end(_REFUSED if error.value in _REFUSALS else _UNKNOWN, error)


def _end(status: int, error: pynvml.NVMLError) -> NoReturn:
    sys.stdout.write(f"{error}\n")
    sys.exit(status)


if __name__ == "__main__":
    _set(sys.argv[1], int(sys.argv[2]))
