"""Slow down who guesses passwords: per address, per name, and for all together.

What is remembered has a fixed size, so that no number of addresses or invented names can make it
grow, or push out what is known of one that matters.
"""

import ipaddress
import secrets
from dataclasses import dataclass

_SLOTS = 4096
_ALL = -1


@dataclass(frozen=True, slots=True)
class Allowance:
    """``most`` tries at once, and one more every ``seconds``."""

    most: int
    seconds: float


# A person mistypes a few times. A name takes more, so that who guesses from one address does not
# keep its owner out elsewhere; all together cost the receiver a tenth of a second each, in which
# it takes no delivery.
PER_ADDRESS = Allowance(8, 20)
PER_NAME = Allowance(24, 20)
FOR_ALL = Allowance(20, 1)


class Throttle:
    """Counts tries in leaking buckets; *now* is a monotonic time in seconds."""

    def __init__(self) -> None:
        self._buckets: dict[int, tuple[float, float]] = {}
        # So that nobody can choose a name that falls into the bucket of another.
        self._key = secrets.token_bytes(16)

    def wait(self, address: str, name: str, now: float) -> float:
        """Count a try; return 0 if it may be made, else how many seconds to wait first."""
        keys = (
            (_ALL, FOR_ALL),
            (self._slot("address", _network(address)), PER_ADDRESS),
            (self._slot("name", name), PER_NAME),
        )
        waits = [self._level(slot, of, now) - of.most + 1 for slot, of in keys]
        longest = max(wait * of.seconds for wait, (_, of) in zip(waits, keys, strict=True))
        if longest > 0:
            return longest
        for slot, allowance in keys:
            self._buckets[slot] = (self._level(slot, allowance, now) + 1, now)
        return 0

    def forget(self, address: str, name: str) -> None:
        """Take back what was counted for a try that has turned out to be right.

        Only this try is taken back from the address: others may guess from there.
        """
        self._buckets.pop(self._slot("name", name), None)
        slot = self._slot("address", _network(address))
        level, at = self._buckets.get(slot, (0.0, 0.0))
        self._buckets[slot] = (max(0.0, level - 1), at)

    def _level(self, slot: int, allowance: Allowance, now: float) -> float:
        level, at = self._buckets.get(slot, (0.0, now))
        return max(0.0, level - max(0.0, now - at) / allowance.seconds)

    def _slot(self, kind: str, name: str) -> int:
        return hash((self._key, kind, name)) % _SLOTS


def _network(address: str) -> str:
    """Return an address, of IPv6 the /64, any address of which its owner may use."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:  # noqa: PLR2004 - the version of the protocol
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))
