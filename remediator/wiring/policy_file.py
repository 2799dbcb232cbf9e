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

    def current(self) -> Policy:
        """Return the policy in force, read at first use; ConfigError if it can't be."""
        return self._policy or self.reload()

    def reload(self) -> Policy:
        """Read the file anew; ConfigError leaves the old policy in force."""
        with self._lock:
            self._policy = read_policy(self.path)
            return self._policy
