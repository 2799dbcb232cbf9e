"""Keep what was found out about a failure in a file, for the person who has to look into it."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

_MOST_BYTES = 256 * 1024


class EvidenceFolder:
    """The folder ``evidence`` in *state_dir*, for its owner and group only."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "evidence"

    def write(self, name: str, text: str) -> Path | None:
        """Write a new file and return its path; None if it cannot be, which must stop nothing.

        *name* becomes part of the file's name, what cannot be in one is replaced. A text that is
        too long is cut.
        """
        safe = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "_" for c in name)
        path = self._folder / f"{safe[:100]}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z.txt"
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            with os.fdopen(file, "wb") as opened:
                opened.write(text.encode(errors="replace")[:_MOST_BYTES])
        except OSError as error:
            log.error("evidence cannot be kept in %s: %s", path, error)  # noqa: TRY400
            return None
        return path
