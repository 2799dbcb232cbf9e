"""Which GPUs hang together by NVLink, from handles of NVML.

Before Ampere a GPU can only be reset together with all that it is linked to, directly or through
others and NVSwitches (nvidia-smi's manual, 535).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pynvml

from remediator.sources.nvml_answers import or_none

_AMPERE = 8


def reset_group(uuid: str, handles: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which of the GPUs in *handles*, by UUID, can only be reset with *uuid*, and it.

    NVMLError where a GPU does not answer.
    """
    old = {own: handle for own, handle in handles.items() if goes_with_others(handle)}
    # A link names what is at its other end by its PCI address: a GPU, or a switch.
    ends = {own: {_bus_id(handle)} | _remote_ends(handle) for own, handle in old.items()}
    group, reached = {uuid}, set(ends[uuid])
    while True:
        more = {own for own, own_ends in ends.items() if own_ends & reached} - group
        if not more:
            return tuple(own for own in handles if own in group)
        group |= more
        reached |= set().union(*(ends[own] for own in more))


def goes_with_others(handle: Any) -> bool:
    """Tell whether it is of a generation that is not reset alone; untold, it may be an old one."""
    capability = or_none(partial(pynvml.nvmlDeviceGetCudaComputeCapability, handle))
    return capability is None or capability[0] < _AMPERE


def _bus_id(handle: Any) -> str:
    return str(pynvml.nvmlDeviceGetPciInfo(handle).busId)


def _remote_ends(handle: Any) -> set[str]:
    ends = set()
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        if or_none(partial(pynvml.nvmlDeviceGetNvLinkState, handle, link)):
            remote = or_none(partial(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link))
            if remote is not None:
                ends.add(str(remote.busId))
    return ends
