"""How much of the GPUs some containers hold together: one answer for users and for the host."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from remediator.core.gpus import GpuSlot
from remediator.exporter.view import Resident


@dataclass(frozen=True, slots=True)
class Allocation:
    """The slots held, each once, and how many GPUs more of which nobody knows which they are.

    Docker writes nowhere which GPUs it chose for ``--gpus 2``; only processes on them show it.
    """

    slots: frozenset[GpuSlot]
    elsewhere: int

    @property
    def count(self) -> int:
        """The number of slots."""
        return len(self.slots) + self.elsewhere

    @property
    def equivalents(self) -> float:
        """The compute of so many whole GPUs."""
        # An exact sum: it must not change because the order of a set did.
        return math.fsum(slot.fraction for slot in self.slots) + self.elsewhere


def allocation_of(residents: Iterable[Resident]) -> Allocation:
    """Return what those of *residents* hold that run, infrastructure aside."""
    slots: set[GpuSlot] = set()
    elsewhere = 0
    for resident in residents:
        if resident.holds_gpus:
            slots.update(resident.slots)
            if not resident.facts.claims.is_known:
                elsewhere += max((resident.facts.claims.count or 0) - len(resident.slots), 0)
    return Allocation(frozenset(slots), elsewhere)
