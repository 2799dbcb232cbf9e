"""The GPUs with their containers, owners, use and idle clocks, from Prometheus's samples."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from remediator.core.notices import clean
from remediator.web.prometheus import Sample
from remediator.web.shapes import Gpu, GpuContainer

_LONGEST = 200
_SLOT, _MIG = "ds01_gpu_slot_info", "ds01_mig_slot_info"
_INFO, _USES = "ds01_container_info", "ds01_container_gpu"
_RUNNING, _KEPT = "ds01_container_running", "ds01_container_keep_alive_until_seconds"
_IDLE, _LIMIT = "ds01:container_idle_seconds", "ds01:container_idle_limit_seconds"
_BUSY = "ds01:slot_utilization_percent"
_TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
_USED, _FREE = "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"
NAMES = (
    *(_SLOT, _MIG, _INFO, _USES, _RUNNING, _KEPT, _IDLE, _LIMIT, _BUSY),
    *(_TEMPERATURE, _USED, _FREE),
)

# A GPU or MIG device as every exporter names it: the physical GPU's UUID, and the GPU instance.
Key = tuple[str, str]


class _Readings:
    """The samples, each kind where it is looked for."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self.slots: dict[Key, tuple[str, str]] = {}
        self.containers: dict[str, Sample] = {}
        self.uses: dict[Key, set[str]] = {}
        self._of_container: dict[tuple[str, str], float] = {}
        self._of_slot: dict[tuple[str, Key], float] = {}
        samples = list(samples)
        self._place_slots(samples)
        for sample in samples:
            self._place(sample)

    def of_container(self, name: str, container: str) -> float | None:
        """Return a container's value of one metric."""
        return self._of_container.get((name, container))

    def of_slot(self, name: str, key: Key, highest: float) -> float | None:
        """Return a slot's value of one metric, if that can be one at all.

        DCGM says "no data" by numbers beyond everything.
        """
        value = self._of_slot.get((name, key))
        return value if value is not None and 0 <= value <= highest else None

    def _place_slots(self, samples: list[Sample]) -> None:
        uuids: dict[tuple[str, str], str] = {}
        for sample in samples:
            labels = sample.labels
            if sample.name == _SLOT:
                where = labels.get("instance", "")
                uuids[where, labels.get("gpu", "")] = labels.get("gpu_uuid", "")
                if labels.get("mig_enabled", "").lower() not in {"true", "1"}:
                    key = (labels.get("gpu_uuid", ""), "")
                    self.slots[key] = (where, labels.get("slot", ""))
        for sample in samples:
            labels = sample.labels
            if sample.name == _MIG:
                where = labels.get("instance", "")
                uuid = uuids.get((where, labels.get("gpu", "")), "")
                self.slots[uuid, labels.get("gpu_i_id", "")] = (where, labels.get("slot", ""))

    def _place(self, sample: Sample) -> None:
        labels, name = sample.labels, sample.name
        container = labels.get("container_id", "")
        key = (labels.get("UUID", ""), labels.get("GPU_I_ID", ""))
        if name == _INFO:
            self.containers[container] = sample
        elif name == _USES:
            self.uses.setdefault(key, set()).add(container)
            # One that no list has, as when MIG has just been changed, is shown all the same.
            self.slots.setdefault(key, (labels.get("instance", ""), labels.get("gpu_slot", "")))
        elif container:
            self._of_container[name, container] = sample.value
        elif not math.isnan(sample.value):
            # Of two exporters the one that sees more counts.
            known = self._of_slot.get((name, key), sample.value)
            self._of_slot[name, key] = max(known, sample.value)


def gpus_from(samples: Iterable[Sample]) -> tuple[Gpu, ...]:
    """Return every GPU slot that the samples tell of, in the order of hosts and slots."""
    readings = _Readings(samples)
    gpus = [_gpu(readings, key, where, slot) for key, (where, slot) in readings.slots.items()]
    return tuple(sorted(gpus, key=lambda gpu: (gpu.instance, _order(gpu.slot), gpu.uuid)))


def _gpu(readings: _Readings, key: Key, where: str, slot: str) -> Gpu:
    uuid, _ = key
    used, free = (readings.of_slot(name, key, 1e9) for name in (_USED, _FREE))
    found = (_container(readings, one) for one in readings.uses.get(key, ()))
    return Gpu(
        instance=_c(where),
        slot=_c(slot),
        uuid=_c(uuid),
        utilization_percent=readings.of_slot(_BUSY, key, 100),
        # A MIG device is as hot as its GPU.
        temperature_celsius=readings.of_slot(_TEMPERATURE, (uuid, ""), 200),
        memory_used_mib=used,
        memory_total_mib=None if used is None or free is None else used + free,
        containers=tuple(sorted(found, key=lambda one: (one.name, one.id))),
    )


def _container(readings: _Readings, container: str) -> GpuContainer:
    info = readings.containers.get(container)
    labels = info.labels if info else {}
    return GpuContainer(
        id=_c(container),
        name=_c(labels.get("container") or container[:12]),
        owner=_c(labels.get("user") or "unknown"),
        running=readings.of_container(_RUNNING, container) == 1,
        idle_seconds=readings.of_container(_IDLE, container),
        idle_limit_seconds=readings.of_container(_LIMIT, container),
        keep_alive_until=_when(readings.of_container(_KEPT, container)),
        exempt=_c(labels.get("exempt", "")) or None,
    )


def _order(slot: str) -> tuple[tuple[int, str], ...]:
    """Return how to sort a slot: ``10`` comes after ``2``, and ``1.0`` after ``1``."""
    return tuple((int(part) if part.isdecimal() else -1, part) for part in slot.split("."))


def _when(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _c(text: str) -> str:
    return clean(text, _LONGEST)
