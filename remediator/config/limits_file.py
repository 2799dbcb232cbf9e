"""The limits in force: the last version of the file that was good.

A broken edit changes nothing; it is logged with every problem, once, and shown by ``is_good``.
"""

import logging
import threading
from pathlib import Path

from remediator.config.limits import read_limits
from remediator.core.limits import LimitsBook
from remediator.errors import ConfigError

log = logging.getLogger(__name__)

# What tells one version of a file from the next: inode, modification time, size.
_Version = tuple[int, int, int] | None


class LimitsFile:
    """Follows one limits file; without a path, the built-in strict limits for ever.

    Making it raises ConfigError if the file cannot be used: a program should not start with
    limits that nobody wrote.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = self._look()
        self._book = LimitsBook() if path is None else read_limits(path)
        self._good = True

    @property
    def book(self) -> LimitsBook:
        """The limits in force."""
        return self._book

    @property
    def is_good(self) -> bool:
        """Whether the file as it is now is what is in force."""
        return self._good

    def refresh(self) -> None:
        """Read the file again if it changed."""
        with self._lock:
            if self._look() != self._version:
                self._reload()

    def reload(self) -> None:
        """Read the file again."""
        with self._lock:
            self._reload()

    def _reload(self) -> None:
        # Looked at before it is read: an edit in between is then seen by the next refresh.
        self._version = self._look()
        if self._path is None:
            return
        try:
            self._book = read_limits(self._path)
        except ConfigError as error:
            self._good = False
            log.error("limits not reloaded, the last good ones stay in force:\n%s", error)  # noqa: TRY400 - expected, no traceback
        else:
            self._good = True
            log.info("limits reloaded from %s", self._path)

    def _look(self) -> _Version:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
