"""How far a database had come, kept beside it: SQLite cannot tell that its newest rows are gone.

A flipped bit in the write-ahead log ends it there: at the next opening what follows is dropped,
and an integrity check is content. The mark is written after each commit and not synced: it outlives
the program at once, and the machine a moment later, which can only hide a loss, never invent one.
"""

import logging
import os
from pathlib import Path

from remediator.database import Database

log = logging.getLogger(__name__)

_LENGTH = 128


class HighWaterMark:
    """The highest number that was ever given in *table*, for one *identity* of a database."""

    def __init__(self, path: Path, identity: str) -> None:
        self._identity = identity
        self._begin = f"{identity} ".encode()
        self._file = -1
        # A link that somebody else has put there is not ours to write through.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o640)

    def read(self) -> int:
        """Return the mark; 0 if there is none, or only that of another database in this place."""
        identity, number = self._found()
        return number if identity == self._identity else 0

    def is_of_another(self) -> bool:
        """Tell whether another database stood in this place, in which something was written."""
        identity, number = self._found()
        return identity != self._identity and number > 0

    def _found(self) -> tuple[str, int]:
        words = os.pread(self._file, _LENGTH, 0).decode("ascii", "replace").split()
        if len(words) != len(("identity", "number")) or not words[1].isdecimal():
            return "", 0
        return words[0], int(words[1])

    def write(self, number: int) -> None:
        """Keep *number*; a file system that refuses costs the check, not the row."""
        try:
            os.pwrite(self._file, b"%b%020d\n" % (self._begin, number), 0)
        except OSError as error:
            log.debug("the high-water mark is not kept: %s", error)

    def close(self) -> None:
        """Close the file; once, since its number may be another file's by then."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __del__(self) -> None:
        self.close()


def given(database: Database) -> int:
    """Return how many numbers all tables of a database have ever given."""
    row = database.row("SELECT coalesce(sum(seq), 0) AS given FROM sqlite_sequence")
    return int(row["given"]) if row else 0
