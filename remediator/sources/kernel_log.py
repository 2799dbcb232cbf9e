"""What the kernel's log still holds about the NVIDIA driver."""

import contextlib
import os
from pathlib import Path

from remediator.errors import SourceError

_DRIVER = "NVRM"
_RECORD_BYTES = 8192


class KernelLog:
    """The kernel's ring buffer, as root may read it."""

    def __init__(self, path: Path = Path("/dev/kmsg")) -> None:
        self._path = path

    def driver_lines(self, most: int) -> tuple[str, ...]:
        """Return the last *most* messages of the NVIDIA driver; SourceError if none may be read."""
        try:
            log = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror}") from error
        lines: list[str] = []
        try:
            # Each read is one record; where they end, the next would wait.
            with contextlib.suppress(BlockingIOError):
                while record := _record(log):
                    lines += [text for text in record.splitlines() if _DRIVER in text]
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror}") from error
        finally:
            os.close(log)
        return tuple(lines[-most:])


def _record(log: int) -> str:
    try:
        return os.read(log, _RECORD_BYTES).decode(errors="replace")
    except BrokenPipeError:
        # Older records were overwritten meanwhile: it goes on with those that are left.
        return "\n"
