"""Tell whether the files of a database are still those that were opened.

The write-ahead log is asked for nothing but where it is. Whoever asks for a file's times, as `stat`
does, makes Linux (6.13 and later) note the very moment of its next change, and a synced commit then
costs a quarter more.
"""

import os
from pathlib import Path


class DatabaseFiles:
    """The database at a path and its log, as they were when this was made."""

    def __init__(self, path: Path) -> None:
        self._descriptor = -1
        self._path = str(path)
        self._log = f"{path}-wal"
        self._file = _file_at(self._path)
        self._descriptor = _descriptor_of(self._log)
        # Where it leads to follows the file, and says so when it has no name any more.
        self._link = f"/proc/self/fd/{self._descriptor}"
        self._log_path = self._led_to()

    def are_in_place(self) -> bool:
        """Tell whether their paths still lead to them."""
        if self._file is None or _file_at(self._path) != self._file:
            return False
        if self._log_path is None:
            return not os.path.lexists(self._log)
        return self._led_to() == self._log_path

    def close(self) -> None:
        """Let go of them; once, since the descriptor's number may be another file's by then."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def _led_to(self) -> str | None:
        try:
            return os.readlink(self._link)
        except OSError:
            return None


def _descriptor_of(path: str) -> int:
    """Return a descriptor that only names the file; -1 if there is none.

    To close one that can read would end the locks that SQLite holds on the file.
    """
    try:
        return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1


def _file_at(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
