"""One quiesce at a time on one machine, whoever does it.

The lock is a file that the kernel frees when its holder ends, however that happens.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from remediator.errors import RefusedError

FILE = "quiesce.lock"
_LONGEST = 300
_LOOKS, _LOOK_SECONDS = 5, 0.02


class QuiesceLock:
    """The lock of one state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._file: int | None = None

    @contextlib.contextmanager
    def held(self, why: str) -> Iterator[None]:
        """Hold it; RefusedError if somebody else does, with what they are about."""
        file = self._open()
        try:
            _take(file)
            os.truncate(file, 0)
            os.pwrite(file, f"{why[: _LONGEST - 30]} (process {os.getpid()})\n".encode(), 0)
            self._file = file
            try:
                yield
            finally:
                self._file = None
                # Also for a child that has been given the file, and outlives its use.
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            os.close(file)

    def fileno(self) -> int:
        """Return the open file while the lock is held here.

        A child that is given it holds the lock on: if its parent is killed, nothing is restored
        before the child has ended.
        """
        if self._file is None:
            raise ValueError("the lock is not held")
        return self._file

    def holder(self) -> str | None:
        """Return what whoever holds it is about, None if nobody does."""
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _said(file)
        finally:
            os.close(file)
        return None

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise RefusedError(f"{self._path}: {error.strerror}") from error


def _take(file: int) -> None:
    """Lock *file*, or raise RefusedError; whoever only looks holds it for a moment."""
    for _ in range(_LOOKS):
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOOK_SECONDS)
    raise RefusedError(f"another quiesce is under way: {_said(file)}")


def _said(file: int) -> str:
    return os.pread(file, _LONGEST, 0).decode(errors="replace").strip()
