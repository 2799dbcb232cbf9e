"""Wake the worker when something has been stored: a datagram without content on a local socket.

It only saves waiting. A bell that is not heard (no worker, a full queue) loses nothing, since
the worker looks into the inbox by itself every now and then.
"""

import contextlib
import os
import select
import socket
import stat
from datetime import timedelta
from pathlib import Path
from typing import Self

FILE = "wake.sock"
_MOST_RINGS = 100


def ring(folder: Path) -> None:
    """Wake the worker that listens in *folder*, if one does."""
    with Rope(folder) as rope:
        rope.ring()


class Rope:
    """The other end, for who rings often; safe to share between threads, not between processes."""

    def __init__(self, folder: Path) -> None:
        self._path = os.fspath(folder / FILE)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ring(self) -> None:
        """Wake the worker that listens there now, if one does."""
        with contextlib.suppress(OSError):
            self._socket.sendto(b"\0", self._path)


class Bell:
    """The worker's end: waits until somebody rings."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(os.fspath(self._path))
        _let_ring(self._path)

    def wait(self, within: timedelta) -> bool:
        """Return True as soon as it rings, False when *within* has passed."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, within.total_seconds()))
        if not ready:
            return False
        # Everybody on this machine can ring, and no one may keep the worker listening.
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MOST_RINGS):
                self._socket.recv(1)
        return True

    def ring(self) -> None:
        """Ring it from inside the worker itself."""
        ring(self._path.parent)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _let_ring(path: Path) -> None:
    """Let everybody write to the socket at *path*, and to nothing else.

    The folder is the receiver's, who could put a link in its place at any moment.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            Path(f"/proc/self/fd/{descriptor}").chmod(0o622)
    finally:
        os.close(descriptor)
