"""The disk that DS01 keeps its state on."""

import os
from dataclasses import dataclass
from pathlib import Path

from remediator.errors import SourceError


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """A file system in bytes; ``free`` is what anybody but root can still have."""

    total: int
    used: int
    free: int


class StateFolder:
    """The folder at *path*, which need not exist; asking may hang with its file server."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def space(self) -> DiskSpace | None:
        """Return the room on the folder's file system; None if there is no such folder."""
        try:
            found = os.statvfs(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"cannot look at {self._path}: {error.strerror}") from error
        block = found.f_frsize
        return DiskSpace(
            total=found.f_blocks * block,
            used=(found.f_blocks - found.f_bfree) * block,
            free=found.f_bavail * block,
        )
