"""Which remediations a policy can name, and what each of them takes.

A policy is read without Docker or NVML at hand, so what exists is said here once; the registry
in `remediator.remediations` is compared with it by a test.
"""

import enum
from dataclasses import dataclass


class OptionKind(enum.Enum):
    """What the value of an option may be."""

    BOOLEAN = "true or false"
    GRACE = "a duration or from-limits"


@dataclass(frozen=True, slots=True)
class Offer:
    """One remediation and its options.

    A destructive one takes something away from somebody, so that warnings and budgets apply.
    One that does not act only tells people: there is nothing to escalate when it was done.
    """

    name: str
    destructive: bool
    acts: bool = True
    options: tuple[tuple[str, OptionKind], ...] = ()


CATALOGUE = (
    Offer(
        "stop-container",
        destructive=True,
        options=(("grace", OptionKind.GRACE), ("remove", OptionKind.BOOLEAN)),
    ),
    Offer("notify-only", destructive=False, acts=False),
)
FROM_LIMITS = "from-limits"


def offer_of(name: str) -> Offer:
    """Return what is on offer under *name*; KeyError for an unknown name."""
    return {offer.name: offer for offer in CATALOGUE}[name]
