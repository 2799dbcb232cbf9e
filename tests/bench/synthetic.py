"""Many GPU hosts in one process: pages of the exporters' families with values of every kind.

    python -m tests.bench.synthetic GPUS FILE

Each host has 8 GPUs, every fourth of them cut into three MIG devices, and a container on each slot.
It listens on two free ports: for the DS01 exporter's families, and for dcgm-exporter's; FILE gets
the ports by job, as JSON. Which families there are is read from the exporter's own list, so that
none is missing here.
"""

import json
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from remediator.exporter import families
from remediator.exporter.families import Family
from remediator.exporter.rendering import FilledFamily
from remediator.exporter.server import ExporterServer
from tests.peers.ports import LOOPBACK

DS01_JOB = "ds01-exporter"
DCGM_JOB = "dcgm-exporter"
GPUS_PER_HOST = 8
_MIG_EVERY = 4
_PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb")
_CONTAINERS_PER_USER = 4
_GIB = 2**30
_BORN = time.time() - 6 * 3600
# What only an instance of a GPU in MIG mode has.
_MIG_ONLY = frozenset({"ds01_mig_slot_info"})
# Families that are there for what is wrong, and so have no rows here; all jobs but ours, too.
_NOTHING_WRONG = frozenset(
    {
        "ds01_gpu_orphan_process",
        "ds01_unmanaged_gpu_container",
        "ds01_container_finished_time_seconds",
    }
)


@dataclass(frozen=True, slots=True)
class Thing:
    """A host, user, GPU, slot or container: its labels, and how busy it is (0-1)."""

    kind: str
    labels: Mapping[str, str]
    load: float = 0.0
    noise: random.Random = field(default_factory=random.Random)


def things_of(host: int) -> Iterator[Thing]:
    """Yield all there is on a host; the same ones each time."""
    dice = random.Random(host)  # noqa: S311 - not a secret, only the same each time
    yield Thing("host", {"collector": "usage", "status": "running", "source": "docker"})
    for gpu in range(GPUS_PER_HOST):
        physical = {
            "gpu": str(gpu),
            "UUID": f"GPU-{host:04}-{gpu}",
            "gpu_uuid": f"GPU-{host:04}-{gpu}",
            "slot": str(gpu),
            "mig_enabled": "true" if gpu % _MIG_EVERY == 0 else "false",
            "modelName": "NVIDIA A100-SXM4-80GB",
            "Hostname": f"host-{host}",
            "device": f"nvidia{gpu}",
            "pci_bus_id": f"00000000:{gpu:02X}:00.0",
        }
        yield Thing("gpu", physical)
        for position, instance in enumerate((3, 5, 7) if gpu % _MIG_EVERY == 0 else ("",)):
            yield from _slot(host, gpu, position, str(instance), physical, dice)


def _slot(
    host: int, gpu: int, position: int, instance: str, physical: dict[str, str], dice: random.Random
) -> Iterator[Thing]:
    number = f"{host:04}{gpu}{position}"
    load = dice.choice((0.0, 0.0, 0.3, 0.9, 0.95))
    slot = f"{gpu}.{position}" if instance else str(gpu)
    labels = {
        **physical,
        "slot": slot,
        "gpu_slot": slot,
        "GPU_I_ID": instance,
        "gpu_i_id": instance,
        "GPU_I_PROFILE": _PROFILES[position] if instance else "",
        "profile": _PROFILES[position] if instance else "full",
        "mig_uuid": f"MIG-{number}",
        "container_id": (number * 64)[:64],
        "container": f"container-{number}",
        "user": f"user{int(number) // _CONTAINERS_PER_USER}",
        "user_source": "label",
        "interface": "docker" if position else "atomic",
        "container_type": "docker",
        "group": "researcher",
        "exempt": "false",
        "pid": number,
        "start_ticks": number,
        "comm": "python",
        "action": "idle_kill",
    }
    yield Thing("slot", labels, load, dice)
    if position == 0 and gpu % 2 == 0:
        yield Thing("user", labels, load, dice)


def kind_of(family: Family) -> str:
    """Return what a family's rows are about."""
    labels = set(family.labels)
    if labels & {"container_id", "container", "gpu_slot", "GPU_I_ID", "mig_uuid"}:
        return "slot"
    if labels & {"UUID", "gpu_uuid"}:
        return "gpu"
    return "user" if labels & {"user", "group"} else "host"


def has(family: Family, thing: Thing) -> bool:
    """Whether a thing of the family's kind has a row of it."""
    return family.name not in _MIG_ONLY or bool(thing.labels["GPU_I_ID"])


def all_families() -> list[Family]:
    """Return every family of the exporter that has rows on a healthy host."""
    found = [family for family in vars(families).values() if isinstance(family, Family)]
    return [family for family in found if family.name not in _NOTHING_WRONG]


def value_of(name: str, thing: Thing, now: float) -> float:
    """Return a value such as a healthy host has."""
    for words, value in _VALUES:
        if any(word in name for word in words):
            return value(thing, now)
    return 1.0


def _wobbling(thing: Thing, scale: float) -> float:
    return scale * min(max(thing.load + thing.noise.uniform(-0.04, 0.04) * (thing.load > 0), 0), 1)


_VALUES: tuple[tuple[tuple[str, ...], Callable[[Thing, float], float]], ...] = (
    (("FI_DEV_GPU_UTIL",), lambda thing, _: round(_wobbling(thing, 100))),
    (("GR_ENGINE_ACTIVE",), lambda thing, _: _wobbling(thing, 1)),
    (("TEMP",), lambda thing, _: 35 + 40 * thing.load),
    (("POWER_USAGE",), lambda thing, _: 60 + 340 * thing.load),
    (("FB_USED",), lambda thing, _: 4000 + 30000 * thing.load),
    (("FB_FREE",), lambda thing, _: 77000 - 30000 * thing.load),
    (("CLOCK",), lambda *_: 1410),
    (("ENERGY",), lambda thing, now: (60 + 340 * thing.load) * 1000 * (now - _BORN)),
    (
        ("DCGM_", "lost", "recovery", "remap", "unaccounted", "unmapped", "void", "unmanaged"),
        lambda *_: 0,
    ),
    (("created_time", "started_time"), lambda *_: _BORN),
    (("created_timeout", "idle_timeout", "grace", "hold_seconds"), lambda *_: 1800),
    (("max_runtime",), lambda *_: 172800),
    (("keep_alive",), lambda *_: _BORN),
    (("gpu_idle_percent",), lambda *_: 5),
    (("cpu_idle_percent",), lambda *_: 2),
    (("network_idle_bytes",), lambda *_: 2**20),
    (("cpu_usage_seconds",), lambda thing, now: (0.005 + 2 * thing.load) * (now - _BORN)),
    (("network",), lambda thing, now: (10 + 1e6 * thing.load) * (now - _BORN)),
    (("limit_bytes",), lambda *_: 64 * _GIB),
    (("bytes",), lambda thing, _: _GIB * (1 + 20 * thing.load)),
    (("age_seconds", "duration"), lambda *_: 0.5),
    (("demand", "threshold", "reduction"), lambda *_: 0.5),
)


def page_of(host: int, *, dcgm: bool) -> Callable[[], Iterable[FilledFamily]]:
    """Return what one exporter of a host serves."""
    things = list(things_of(host))
    served = [(f, kind_of(f)) for f in all_families() if f.name.startswith("DCGM_") == dcgm]

    def page() -> Iterator[FilledFamily]:
        now = time.time()
        for family, kind in served:
            rows = {
                tuple(thing.labels.get(label, "") for label in family.labels): thing
                for thing in things
                if thing.kind == kind and has(family, thing)
            }
            yield family.of((key, value_of(family.name, thing, now)) for key, thing in rows.items())

    return page


def main() -> None:
    """Serve until it is killed."""
    gpus, path = int(sys.argv[1]), Path(sys.argv[2])
    hosts = range(math.ceil(gpus / GPUS_PER_HOST))
    ports = {
        job: [_serve(host, dcgm=job == DCGM_JOB) for host in hosts] for job in (DS01_JOB, DCGM_JOB)
    }
    # By rename: whoever waits for the file must find it whole.
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(ports))
    fresh.rename(path)
    threading.Event().wait()


def _serve(host: int, *, dcgm: bool) -> int:
    server = ExporterServer(LOOPBACK, 0, page_of(host, dcgm=dcgm))
    server.start()
    return server.port


if __name__ == "__main__":
    main()
