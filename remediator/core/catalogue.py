"""Which remediations a policy can name, and what each of them takes.

A policy is read without Docker or NVML at hand, so what exists is said here once; the registry
in `remediator.remediations` is compared with it by a test.
"""

import enum
from dataclasses import dataclass


class OptionKind(enum.Enum):
    """What the value of an option may be."""

    BOOLEAN = "true or false"
    DURATION = "a duration such as 10s"
    GRACE = "a duration or from-limits"
    PERCENT = "a percentage from 1% to 100%"
    UNIT = "the full name of a systemd unit"


class Kind(enum.Enum):
    """What a remediation acts on; all rungs of a ladder act on the same."""

    CONTAINER = "a container"
    PROCESS = "a process"
    GPU = "a GPU"
    SERVICE = "a service"
    ANYTHING = "anything"


class Lane(enum.Enum):
    """What only one attempt on the host may use at a time, whatever its target."""

    GPU_SERVICES = "the services around the GPUs"


@dataclass(frozen=True, slots=True)
class Offer:
    """One remediation and its options.

    A destructive one takes something away from somebody, so that warnings and budgets apply.
    One that does not act only tells people: there is nothing to escalate when it was done. A
    lasting one is put back when nothing asks for it any more. ``required`` options have no
    default. ``done`` completes the sentence "it was ...".
    """

    name: str
    kind: Kind
    destructive: bool
    done: str
    acts: bool = True
    options: tuple[tuple[str, OptionKind], ...] = ()
    required: tuple[str, ...] = ()
    lane: Lane | None = None
    lasting: bool = False


CATALOGUE = (
    Offer(
        "stop-container",
        Kind.CONTAINER,
        destructive=True,
        done="stopped",
        options=(("grace", OptionKind.GRACE), ("remove", OptionKind.BOOLEAN)),
    ),
    Offer("remove-container", Kind.CONTAINER, destructive=True, done="removed"),
    Offer(
        "kill-orphan",
        Kind.PROCESS,
        destructive=True,
        done="ended",
        options=(("wait", OptionKind.DURATION),),
    ),
    Offer("reset-gpu", Kind.GPU, destructive=True, done="reset", lane=Lane.GPU_SERVICES),
    Offer(
        "restart-dcgm",
        Kind.SERVICE,
        destructive=False,
        done="restarted",
        lane=Lane.GPU_SERVICES,
    ),
    Offer(
        "restart-service",
        Kind.SERVICE,
        destructive=False,
        done="restarted",
        options=(("unit", OptionKind.UNIT),),
        required=("unit",),
        lane=Lane.GPU_SERVICES,
    ),
    Offer(
        "cap-power",
        Kind.GPU,
        destructive=False,
        done="limited in its power",
        options=(("limit", OptionKind.PERCENT),),
        required=("limit",),
        lasting=True,
    ),
    Offer("notify-only", Kind.ANYTHING, destructive=False, done="told about", acts=False),
)
FROM_LIMITS = "from-limits"
_OFFERS = {offer.name: offer for offer in CATALOGUE}


def offer_of(name: str) -> Offer:
    """Return what is on offer under *name*; KeyError for an unknown name."""
    return _OFFERS[name]
