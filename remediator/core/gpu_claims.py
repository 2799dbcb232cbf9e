"""Which GPUs a container was given, from what Docker knows of it.

Four places can say so, and the claim is their union: device requests (``--gpus``, CDI),
``NVIDIA_VISIBLE_DEVICES``, device nodes, and DS01's labels. Only containers with GPU access are
ever stopped, so what is *not* access matters as much:

* ``void``, ``none`` and an empty value give nothing.
* CUDA images carry ``NVIDIA_VISIBLE_DEVICES=all`` in themselves. Under a runtime other than
  NVIDIA's that does nothing, and with ``--gpus`` Docker overrides it, so a value that merely comes
  from the image counts only where it takes effect.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remediator.core.gpus import GpuSlot

_VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_NOTHING = frozenset({"", "void", "none"})
_NODE = re.compile(r"/dev/nvidia(\d+)")
_INDEX = re.compile(r"\d{1,4}", re.ASCII)
_MIG_INDEX = re.compile(r"(\d{1,4})[:.](\d{1,4})", re.ASCII)
_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]{1,100}", re.ASCII)
# What DS01's allocator writes: UUIDs, or slots such as 0, 0:1 and 0.1.
_ID_LABELS = ("ds01.gpu.uuid", "ds01.gpu.uuids", "ds01.gpu.slots", "ds01.gpu_slot")
# The time of the allocation: access, but not to which GPU.
_ALLOCATED_LABEL = "ds01.gpu.allocated"


@dataclass(frozen=True, slots=True)
class GpuClaims:
    """The GPUs a container may use.

    ``ids`` holds indexes (``0``), MIG positions (``1:0``), UUIDs of GPUs and MIG devices, and
    device nodes (``/dev/nvidia0``). ``count`` is how many Docker was to choose: which ones it
    chose is written nowhere, only NVML's processes show it.
    """

    all: bool = False
    count: int | None = None
    ids: tuple[str, ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether there is GPU access at all."""
        return self.all or bool(self.count) or bool(self.ids)

    @property
    def access_type(self) -> str:
        """How access was given: all, specific, count, or none."""
        if self.all:
            return "all"
        if self.ids:
            return "specific"
        return "count" if self.count else "none"

    @property
    def is_known(self) -> bool:
        """Whether it can be said which GPUs these are; false for a mere count."""
        return self.all or bool(self.ids) or not self.count


def claims_of(inspect: Mapping[str, Any], image_env: Sequence[str] | None = ()) -> GpuClaims:
    """Return the claims in Docker's *inspect* answer.

    *image_env* is the environment of the image, which the container's includes; None when it is
    not known any more, so that an ``all`` may have come from it.
    """
    host = inspect.get("HostConfig") or {}
    config = inspect.get("Config") or {}
    labels = config.get("Labels") or {}
    requested = _requested(host.get("DeviceRequests") or ())
    visible = _visible(config.get("Env") or ())
    if requested.is_gpu or "nvidia" not in str(host.get("Runtime") or ""):
        visible = _without_the_images(visible, image_env)
    nodes = _nodes(host.get("Devices") or ())
    labelled = [i for name in _ID_LABELS for i in _split(str(labels.get(name) or ""))]
    ids = _ids([*requested.ids, *visible, *nodes, *labelled])
    everything = requested.all or "all" in visible or "all" in labelled
    count = requested.count
    if count is None and not ids and labels.get(_ALLOCATED_LABEL):
        count = 1
    return GpuClaims(all=everything, count=count, ids=ids)


def resolve(claims: GpuClaims, slots: Iterable[GpuSlot]) -> tuple[GpuSlot, ...]:
    """Return those of *slots*, which are all the host has now, that *claims* name.

    A physical GPU in MIG mode stands for all its MIG devices, as it does for NVIDIA's runtime,
    unless some of them are named: whoever gets one gets the GPU's device node with it. A mere
    count names none: ask `GpuClaims.is_known`.
    """
    here = tuple(slots)
    if claims.all:
        return here
    wanted = frozenset(claims.ids)
    exact = {slot for slot in here if wanted & _own_names(slot)}
    cut_up = {slot.gpu for slot in exact if slot.gpu_instance is not None}
    return tuple(
        slot
        for slot in here
        if slot in exact or (slot.gpu not in cut_up and wanted & _names_of_gpu(slot))
    )


def unresolved(claims: GpuClaims, slots: Iterable[GpuSlot]) -> tuple[str, ...]:
    """Return the ids in *claims* that name none of *slots*: of these GPUs nothing can be said."""
    known = {name for slot in slots for name in _own_names(slot) | _names_of_gpu(slot)}
    return tuple(claim for claim in claims.ids if claim not in known)


def _own_names(slot: GpuSlot) -> frozenset[str]:
    names = {slot.uuid, slot.slot.replace(".", ":")}
    if slot.gpu_instance is not None:
        # The form of drivers before R470.
        names.add(f"MIG-{slot.parent_uuid}/{slot.gpu_instance}/{slot.compute_instance or 0}")
    return frozenset(names)


def _names_of_gpu(slot: GpuSlot) -> frozenset[str]:
    minor = slot.gpu if slot.minor is None else slot.minor
    return frozenset({str(slot.gpu), slot.parent_uuid, f"/dev/nvidia{minor}"})


def _requested(requests: Iterable[Mapping[str, Any]]) -> GpuClaims:
    everything, count, ids = False, 0, list[str]()
    for request in requests:
        named = [str(i) for i in request.get("DeviceIDs") or ()]
        if request.get("Driver") == "cdi":
            # CDI requests carry no capabilities; other vendors' devices are not GPUs of ours.
            ids += [i.partition("=")[2] for i in named if i.startswith("nvidia.com/")]
        elif _asks_for_gpu(request):
            number = int(request.get("Count") or 0)
            ids += named
            everything = everything or number < 0
            count += max(number, 0)
    everything = everything or "all" in ids
    return GpuClaims(all=everything, count=count or None, ids=tuple(i for i in ids if i != "all"))


def _asks_for_gpu(request: Mapping[str, Any]) -> bool:
    sets = request.get("Capabilities") or ()
    return request.get("Driver") == "nvidia" or any("gpu" in one for one in sets)


def _visible(env: Iterable[str]) -> list[str]:
    values = [e.partition("=")[2] for e in env if str(e).startswith(f"{_VISIBLE}=")]
    # The last one wins, as in the process's environment.
    return _split(values[-1]) if values else []


def _without_the_images(visible: list[str], image_env: Sequence[str] | None) -> list[str]:
    if image_env is None:
        return [i for i in visible if i != "all"]
    return [] if visible == _visible(image_env) else visible


def _nodes(devices: Iterable[Mapping[str, Any]]) -> list[str]:
    nodes = []
    for device in devices:
        for side in ("PathOnHost", "PathInContainer"):
            if _NODE.fullmatch(str(device.get(side) or "")):
                nodes.append(str(device[side]))
                break
    return nodes


def _split(text: str) -> list[str]:
    parts = [part.rpartition("=")[2] for part in re.split(r"[,\s]+", text.strip())]
    return [part for part in parts if part.lower() not in _NOTHING]


def _ids(found: Iterable[str]) -> tuple[str, ...]:
    """Return what can name a GPU, in one spelling, each once; anything else is dropped."""
    ids: dict[str, None] = {}
    for text in found:
        position = _MIG_INDEX.fullmatch(text)
        if position:
            ids[f"{int(position[1])}:{int(position[2])}"] = None
        elif _INDEX.fullmatch(text):
            ids[str(int(text))] = None
        elif _UUID.fullmatch(text) or _NODE.fullmatch(text):
            ids[text] = None
    return tuple(ids)
