"""Know which containers are kept by an extension, from the worker's journal.

Looked at in a thread of its own, and read only when the journal has changed: a scrape takes what
is there. Without a journal, or without the right to read it, there are no extensions to be known;
the worker, which wrote them, does not stop anything all the same.
"""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from remediator.clock import Clock
from remediator.errors import JournalError
from remediator.journal.extensions import Run
from remediator.journal.journal import FILE, Journal

log = logging.getLogger(__name__)

_EVERY = timedelta(seconds=1)
# A commit has its place in the log before it is on the disk, and only then can it be read: what has
# changed lately is read again.
_SETTLES_NS = 5_000_000_000
_Version = tuple[tuple[int, int, int] | None, ...]


class Kept:
    """Follows the extensions in the journal of one *folder*."""

    def __init__(self, folder: Path, clock: Clock, every: timedelta = _EVERY) -> None:
        self._folder = folder
        self._clock = clock
        self._every = every.total_seconds()
        self._version: _Version = ()
        self._known: Mapping[Run, datetime] = {}
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kept", daemon=True)

    @property
    def until(self) -> Mapping[Run, datetime]:
        """Until when each run is kept, as the same object while nothing changes."""
        return self._known

    def start(self) -> None:
        """Begin to look; once before this returns."""
        self.look()
        self._thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """Stop looking."""
        self._stopping.set()
        self._thread.join(within.total_seconds())

    def look(self) -> None:
        """Read the journal again if it has changed."""
        version = tuple(_version_of(self._folder / name) for name in (FILE, f"{FILE}-wal"))
        if version == self._version:
            return
        known = self._read() if version[0] is not None else {}
        if known is None:
            return
        newest = max((stamp[1] for stamp in version if stamp is not None), default=0)
        if time.time_ns() - newest > _SETTLES_NS:
            self._version = version
        if known != self._known:
            self._known = known

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self.look()

    def _read(self) -> Mapping[Run, datetime] | None:
        """Return what is kept now, None if the journal does not tell: what was known stays."""
        try:
            with closing(Journal.for_reading(self._folder)) as journal:
                known = journal.extensions.in_force(self._clock.now())
        except JournalError as error:
            if str(error) != self._trouble:
                log.warning("extensions are not shown: %s", error)
            self._trouble = str(error)
            return None
        self._trouble = ""
        return known


def _version_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
