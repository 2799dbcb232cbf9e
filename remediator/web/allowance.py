"""So many in so long: what keeps a page from being used up by one who never stops."""

from collections import deque
from datetime import datetime, timedelta

_MOST_NAMES = 1000


class Allowance:
    """Lets *most* of each name pass in any stretch of *per*; only the newest names are known."""

    def __init__(self, most: int, per: timedelta) -> None:
        self._most = most
        self._per = per
        self._passed: dict[str, deque[datetime]] = {}

    def allows(self, name: str, now: datetime) -> bool:
        """Tell whether one more may pass, which then counts."""
        passed = self._passed.pop(name, deque())
        while passed and not now - self._per < passed[0] <= now:
            passed.popleft()
        is_allowed = len(passed) < self._most
        if is_allowed:
            passed.append(now)
        self._passed[name] = passed
        if len(self._passed) > _MOST_NAMES:
            del self._passed[next(iter(self._passed))]
        return is_allowed
