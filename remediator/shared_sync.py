"""One wait for the disk for all commits that are waiting for it.

SQLite syncs each commit before the next one may begin: threads that have nothing to do with each
other then wait for one another's disk writes. Here a commit is in the log when the next begins, and
each waits only until a sync that began after it has ended.
"""

import os
import threading
from collections.abc import Callable


class SharedSync:
    """The syncs of one log; *path* is that of SQLite's write-ahead log.

    *count* is asked at each commit, and *durable* told what it said of the newest commit that is
    on the disk.
    """

    def __init__(self, path: str, count: Callable[[], int], durable: Callable[[int], None]) -> None:
        # SQLite has no locks on this file that closing it here could break.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._count = count
        self._durable = durable
        self._lock = threading.Lock()
        self._newest = (0, count())
        self._synced = 0
        self._failed = ""

    def committed(self) -> int:
        """Return the number of the commit that was just made, before anybody makes another."""
        self._newest = (self._newest[0] + 1, self._count())
        return self._newest[0]

    def wait(self, commit: int) -> None:
        """Return once *commit* is on the disk; OSError, from then on for all, if that failed."""
        with self._lock:
            # Who had the lock before has synced all that was committed by then.
            if self._synced >= commit:
                return
            if self._failed:
                # Linux tells of it once: another sync would be told that all is well.
                raise OSError(self._failed)
            newest, counted = self._newest
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._failed = str(error)
                raise
            self._synced = newest
            self._durable(counted)

    def close(self) -> None:
        """Close the file; whoever waits still is waited for."""
        with self._lock:
            file, self._file = self._file, -1
            if file >= 0:
                os.close(file)
