"""Make the file of a database, and tell whether its files are still those that were opened."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

# No file system's clock is coarser: a folder that has rested for longer shows any change after it.
_COARSEST_NS = 2_000_000_000

_File = tuple[int, int]


def make(path: Path, mode: int) -> None:
    """Make the file if it is missing; its group is the folder's, whose members may look.

    What SQLite puts beside it has the same owner and rights.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        return
    try:
        group = path.parent.stat().st_gid
        # Who is not in that group may not give it a file, and then nobody of it has to look.
        with contextlib.suppress(PermissionError):
            if os.fstat(file).st_gid != group:
                os.fchown(file, -1, group)
    finally:
        os.close(file)


class DatabaseFiles:
    """The database at a path and its log, as they were when this was made.

    While nothing in their folder was made, removed or renamed, they are not looked at themselves.
    That is quicker, and whoever asks for the times of the log, as `stat` does, makes Linux (6.13
    and later) note the very moment of its next change, which makes a commit a quarter dearer.
    """

    def __init__(self, path: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        # As text, which is looked up in half the time.
        self._folder = str(path.parent)
        self._paths = (str(path), f"{path}-wal")
        self._files = self._found()
        self._rested: tuple[int, int, int] | None = None

    def are_in_place(self) -> bool:
        """Tell whether their paths still lead to them."""
        try:
            found = os.stat(self._folder)
        except OSError:
            return False
        # Not the time that a copy which keeps times would set.
        folder = (found.st_dev, found.st_ino, found.st_ctime_ns)
        if folder == self._rested:
            return True
        if self._files[0] is None or self._found() != self._files:
            return False
        # Of a link to another folder this one tells nothing.
        is_here = not os.path.islink(self._paths[0])
        has_rested = self._now_ns() - folder[2] > _COARSEST_NS
        self._rested = folder if is_here and has_rested else None
        return True

    def _found(self) -> tuple[_File | None, _File | None]:
        return _file_at(self._paths[0]), _file_at(self._paths[1])


def _file_at(path: str) -> _File | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
