"""The limits in force: the last version of the limits file, and those beside it, that was good.

A broken edit changes nothing; it is logged with every problem, once, and shown by ``is_good``.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from remediator.config.limits import EXEMPTIONS_FILE, MEMBERS_FOLDER, OVERRIDES_FILE, read_limits
from remediator.config.members import SUFFIX
from remediator.core.limits import LimitsBook
from remediator.errors import ConfigError, Problem

log = logging.getLogger(__name__)

# How often files that change while they are read are read anew at once.
_TRIES = 3
# An editor may empty or move a file away for a moment before it writes it anew.
_SETTLE = timedelta(seconds=1)

# What tells one version of the files from the next: of each that is there its inode, times of
# modification and change, and size. Only the change time tells a change of permissions.
_Version = dict[str, tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True)
class _InForce:
    book: LimitsBook
    is_good: bool = True


class _UnsettledError(ConfigError):
    """The files are being edited right now."""


class LimitsFile:
    """Follows one limits file and those beside it; without a path, the strict limits for ever.

    Making it raises ConfigError if they cannot be used: a program should not start with limits
    that nobody wrote. *read* makes a book of the path; a file that is suddenly empty or gone is
    believed to be so after *settle*, and until then the limits are not good.
    """

    def __init__(
        self,
        path: Path | None,
        read: Callable[[Path], LimitsBook] = read_limits,
        settle: timedelta = _SETTLE,
    ) -> None:
        self._path = path
        self._read = read
        self._settle = settle.total_seconds()
        self._lock = threading.Lock()
        self._version: _Version = {}
        self._lost_at: float | None = None
        self._in_force = _InForce(LimitsBook() if path is None else self._read_settled(path))
        self._tell_void(())

    @property
    def book(self) -> LimitsBook:
        """The limits in force, all from one reading of the files."""
        return self._in_force.book

    @property
    def is_good(self) -> bool:
        """Whether the files as they are now are what is in force."""
        return self._in_force.is_good

    @property
    def void_exemptions(self) -> int:
        """How many entries of the exemptions in force make no sense."""
        return len(self.book.void_exemptions)

    def refresh(self) -> None:
        """Read the files again if one of them changed, came or went."""
        if self._path is None:
            return
        with self._lock:
            if self._lost_at is not None or _look(self._path) != self._version:
                self._reload(self._path)

    def reload(self) -> None:
        """Read the files again."""
        if self._path is None:
            return
        with self._lock:
            self._reload(self._path)

    def _reload(self, path: Path) -> None:
        last = self._in_force.book
        try:
            self._in_force = _InForce(self._read_settled(path))
        except _UnsettledError as error:
            self._in_force = _InForce(last, is_good=False)
            log.debug("limits not reloaded yet: %s", error)
        except ConfigError as error:
            self._in_force = _InForce(last, is_good=False)
            log.error("limits not reloaded, the last good ones stay in force:\n%s", error)  # noqa: TRY400 - expected, no traceback
        else:
            log.info("limits reloaded from %s", path)
            self._tell_void(last.void_exemptions)

    def _read_settled(self, path: Path) -> LimitsBook:
        """Return a book of files that did not change meanwhile, so that it is no mix of two."""
        for _ in range(_TRIES):
            version = _look(path)
            self._lost_at = self._lost_since(version)
            if self._lost_at is not None and time.monotonic() - self._lost_at < self._settle:
                break
            # Looked at before it is read: a later edit is then seen by the next refresh.
            self._version, self._lost_at = version, None
            try:
                book = self._read(path)
            except ConfigError:
                if _look(path) == version:
                    raise
            else:
                if _look(path) == version:
                    return book
        message = "this file or one beside it is being changed; it is read again soon"
        raise _UnsettledError([Problem(str(path), 1, 1, "", message)])

    def _lost_since(self, version: _Version) -> float | None:
        """Return since when the content of a file that had some is not there, None if it is."""
        sizes = {file: size for file, (*_, size) in version.items()}
        for file, (*_, size) in self._version.items():
            if size > 0 and not sizes.get(file):
                return time.monotonic() if self._lost_at is None else self._lost_at
        return None

    def _tell_void(self, told: tuple[str, ...]) -> None:
        void = self.book.void_exemptions
        if void and void != told:
            log.warning(
                "exemptions that are void until they are mended: %s; all others hold:\n%s",
                len(void),
                "\n".join(void),
            )


def _look(path: Path) -> _Version:
    folder = path.parent
    groups = folder / MEMBERS_FOLDER
    try:
        names = [name for name in os.listdir(groups) if name.endswith(SUFFIX)]
    except OSError:
        names = []
    members = [os.path.join(groups, name) for name in names]
    files = [str(path), str(folder / OVERRIDES_FILE), str(folder / EXEMPTIONS_FILE), *members]
    return {file: version for file in files if (version := _version_of(file)) is not None}


def _version_of(file: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
