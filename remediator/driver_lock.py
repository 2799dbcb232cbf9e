"""The lock by which a reset asks the other programs of this host to let the driver go.

Whoever uses the NVIDIA driver is a client of every GPU, and clients block resets. A reset takes
this lock; the DS01 exporter, a process of its own, looks at it all the time and closes the driver
while it is taken. The kernel frees it when the last of those that have it ends, however it ends.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from remediator.errors import RefusedError

log = logging.getLogger(__name__)

_NAME = "driver.lock"
_POLL_SECONDS = 0.1


class DriverLock:
    """The lock in *folder*, the worker's state_dir; made by the first who takes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._is_ours = False

    @contextlib.contextmanager
    def taken(self, within: timedelta) -> Iterator[int]:
        """Have the lock alone for the time of the block; RefusedError if another reset has it.

        Yields its descriptor, for the program that resets: should this process be killed, the
        others stay away until that program has ended as well. The end of the block frees it
        whoever still has the descriptor.
        """
        try:
            lock = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise RefusedError(f"cannot lock {self._path}: {error.strerror}") from error
        try:
            deadline = time.monotonic() + within.total_seconds()
            while not _lock(lock, fcntl.LOCK_EX):
                if time.monotonic() >= deadline:
                    raise RefusedError("another reset on this host has not ended yet")
                time.sleep(_POLL_SECONDS)
            self._is_ours = True
            yield lock
        finally:
            self._is_ours = False
            # Not by closing alone: a program that hangs in the driver may have it for ever.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def is_taken(self) -> bool:
        """Tell whether somebody else resets: another program, or another `DriverLock`.

        Not that we knew where the lock is missing or hidden.
        """
        if self._is_ours:
            return False
        try:
            lock = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("whether a GPU is being reset is not known: %s", error)
            return False
        try:
            return not _lock(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)


def _lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
