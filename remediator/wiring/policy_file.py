"""Keep the policy of a file in memory, and take a new one only when all of it is good."""

import threading
from pathlib import Path

from remediator.config.policy import read_policy
from remediator.core.policy import Policy


class PolicyFile:
    """The policy in force; a bad file never replaces a good policy."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._policy: Policy | None = None
        self._read_at: tuple[int, int, int] | None = None

    def current(self) -> Policy:
        """Return the policy in force, read at first use; ConfigError if it can't be."""
        return self._policy or self.reload()

    def newest(self) -> Policy:
        """Return the policy as the file is now, read only if it has changed; or ConfigError."""
        read_at = _version(self.path)
        if read_at is None or read_at != self._read_at or self._policy is None:
            self._read_at = None
            self.reload()
            self._read_at = read_at
        return self.current()

    def reload(self) -> Policy:
        """Read the file anew; ConfigError leaves the old policy in force."""
        with self._lock:
            self._policy = read_policy(self.path)
            return self._policy


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
