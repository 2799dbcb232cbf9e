"""When the driver wants a GPU to be reset, and what nvidia-smi's answer to a reset means.

The recovery actions are those of NVML's field 230. Exit statuses and words of nvidia-smi are from
its manual and strings (535); 255 stands for anything, so the words go first.
"""

import enum
import re

from remediator.core.gpus import GpuHealth

_WORDS = {
    0: "nothing",
    1: "a reset",
    2: "a reboot of the host",
    3: "to end its peer-to-peer traffic",
    4: "to drain it and a reset",
    5: "to recover the IMEX domain",
    6: "a reset over the bus",
    7: "a reboot of the whole system",
}
_RESETS = frozenset({1, 4, 6})
_REBOOTS = frozenset({2, 7})


class Advice(enum.Enum):
    """What the driver wants to be done about a GPU; UNTOLD where it gives no advice at all."""

    NOTHING = "nothing"
    RESET = "reset"
    REBOOT = "reboot"
    OTHER = "other"
    UNTOLD = "untold"


def advice_of(health: GpuHealth) -> Advice:
    """Return the driver's advice, however it is given."""
    action = health.recovery_action
    if action in _REBOOTS:
        return Advice.REBOOT
    if action in _RESETS or (health.reset_required and action in {None, 0}):
        return Advice.RESET
    if action is None:
        return Advice.UNTOLD
    return Advice.NOTHING if action == 0 else Advice.OTHER


def in_words(health: GpuHealth) -> str:
    """Return the driver's advice as it completes "the driver advises ..."."""
    action = health.recovery_action
    if health.reset_required and action in {None, 0}:
        return "nothing, but the GPU works again only after a reset"
    if action is None:
        return "nothing that it could tell"
    return f"{_WORDS.get(action, 'something new')} (recovery action {action})"


class ResetAnswer(enum.Enum):
    """What nvidia-smi said to a reset; the values complete "it was not reset: ..."."""

    DONE = "it was"
    IN_USE = "something still uses it"
    LINKED = "it can only be reset together with GPUs it is linked to"
    PRIMARY = "it is the primary GPU, which shows the console"
    VIRTUAL = "it is given to virtual machines"
    MODE_PENDING = "a change of its operation mode waits for a reboot"
    FABRIC = "the state of the NVLink fabric is not known"
    NOT_SUPPORTED = "it cannot be reset"
    NO_PERMISSION = "nvidia-smi must be run by root"
    NO_SUCH_GPU = "nvidia-smi does not know it"
    NO_DRIVER = "nvidia-smi does not reach the driver"
    NO_LIBRARY = "nvidia-smi lacks its library"
    MISMATCH = "driver and library are of different versions"
    LOST = "it has fallen off the bus, reboot the host"
    NEEDS_REBOOT = "the reset did not complete, reboot the host"
    UNCLEAR = "nvidia-smi failed with words that say nothing we know"

    @property
    def has_changed_nothing(self) -> bool:
        """Whether the GPU is surely as it was."""
        return self not in {
            ResetAnswer.DONE,
            ResetAnswer.LOST,
            ResetAnswer.NEEDS_REBOOT,
            ResetAnswer.UNCLEAR,
        }


# The first that is found counts: "did not complete" stands beside other words.
_BY_WORDS = (
    (r"did not complete|reboot", ResetAnswer.NEEDS_REBOOT),
    (r"gpu is lost|fallen off the bus", ResetAnswer.LOST),
    (r"append ind(ex|ic)|reset criteri", ResetAnswer.LINKED),
    (r"in use\b", ResetAnswer.IN_USE),
    (r"primary gpu", ResetAnswer.PRIMARY),
    (r"vgpu", ResetAnswer.VIRTUAL),
    (r"\bgom\b|operation mode", ResetAnswer.MODE_PENDING),
    (r"fabric", ResetAnswer.FABRIC),
    (r"version mismatch", ResetAnswer.MISMATCH),
    (r"not supported", ResetAnswer.NOT_SUPPORTED),
    (r"no devices were found", ResetAnswer.NO_SUCH_GPU),
    (r"insufficient permission", ResetAnswer.NO_PERMISSION),
)
_BY_STATUS = {
    3: ResetAnswer.NOT_SUPPORTED,
    4: ResetAnswer.NO_PERMISSION,
    6: ResetAnswer.NO_SUCH_GPU,
    9: ResetAnswer.NO_DRIVER,
    12: ResetAnswer.NO_LIBRARY,
    15: ResetAnswer.LOST,
}


def answer_of(status: int, text: str) -> ResetAnswer:
    """Return what exit status and output of ``nvidia-smi --gpu-reset`` mean together.

    A status that means one thing goes first; then the words, also beside a status of 0.
    """
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    for words, answer in _BY_WORDS:
        if re.search(words, text, re.IGNORECASE):
            return answer
    return ResetAnswer.DONE if status == 0 else ResetAnswer.UNCLEAR
