"""nvidia-smi, which alone can reset a GPU: NVML has no call for it (its symbols, 535).

It is a program of its own and may hang in the driver, where no signal reaches it: nobody waits for
it longer than he said, also not for its end.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import IO

from remediator.errors import EffectUnknownError, RefusedError, SourceError

# How long one that was killed is waited for.
_REAP_SECONDS = 2
_LONGEST = 200_000


@dataclass(frozen=True, slots=True)
class SmiAnswer:
    """How nvidia-smi ended: its exit status, and what it wrote."""

    status: int
    text: str


class _TooLateError(Exception):
    """It has not ended in time, and was killed or is beyond that."""


class NvidiaSmi:
    """The program *program*, a name or a path."""

    def __init__(self, program: str) -> None:
        self._program = program

    def problem(self) -> str | None:
        """Return why it cannot be run, None if it can."""
        if shutil.which(self._program) is None:
            return f"there is no program {self._program}: set nvidia_smi"
        return None

    def reset(self, uuids: Sequence[str], within: timedelta, locks: Sequence[int]) -> SmiAnswer:
        """Reset GPUs, all together; return what it said, whatever that is.

        EffectUnknownError if it does not end *within* that time, RefusedError if it cannot be run.
        The descriptors *locks* are the program's as well, for as long as it runs.
        """
        try:
            return self._run(["--gpu-reset", "-i", ",".join(uuids)], within, locks)
        except _TooLateError as error:
            raise EffectUnknownError(str(error)) from error

    def set_persistence(self, uuids: Sequence[str], within: timedelta, *, on: bool) -> None:
        """Switch the persistence mode of GPUs; EffectUnknownError unless it says that it did."""
        arguments = ["-pm", "1" if on else "0", "-i", ",".join(uuids)]
        try:
            answer = self._run(arguments, within)
        except _TooLateError as error:
            raise EffectUnknownError(str(error)) from error
        if answer.status != 0:
            word = "on" if on else "off"
            said = answer.text.strip()
            raise EffectUnknownError(f"persistence mode could not be switched {word}: {said}")

    def query(self, uuids: Sequence[str], within: timedelta) -> SmiAnswer:
        """Return all it tells about GPUs; SourceError if it cannot be run or does not end."""
        try:
            return self._run(["-q", "-i", ",".join(uuids)], within)
        except (_TooLateError, RefusedError) as error:
            raise SourceError(str(error)) from error

    def _run(
        self, arguments: Sequence[str], within: timedelta, keep: Sequence[int] = ()
    ) -> SmiAnswer:
        # Into a file: a pipe would break when this process is killed, and end a reset with it.
        with tempfile.TemporaryFile() as output:
            process = self._start(arguments, output, keep)
            try:
                status = process.wait(within.total_seconds())
            except subprocess.TimeoutExpired as error:
                _abandon(process)
                what = f"{self._program} {' '.join(arguments)}"
                message = f"{what} has not ended within {within.total_seconds():g} s"
                raise _TooLateError(message) from error
            output.seek(0)
            return SmiAnswer(status, output.read(_LONGEST).decode(errors="replace"))

    def _start(
        self, arguments: Sequence[str], output: IO[bytes], keep: Sequence[int]
    ) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C"},
                # A group of its own: what is killed is it and its children, and nobody else.
                start_new_session=True,
                pass_fds=tuple(keep),
            )
        except OSError as error:
            raise RefusedError(f"cannot run {self._program}: {error.strerror}") from error


def _abandon(process: "subprocess.Popen[bytes]") -> None:
    """Kill it with its children, and leave it behind if not even that ends it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAP_SECONDS)
