"""Two days of a few containers on one host, as a file of samples for tests of the backtest."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

BEGIN = 1794787200  # Monday, 2026-11-16
STEP = 30
HOUR = 3600 // STEP
_DS01 = {"instance": "gpu1:9101", "job": "ds01-exporter"}
_DCGM = {"instance": "gpu1:9400", "job": "dcgm-exporter"}


@dataclass(frozen=True, slots=True)
class Told:
    """A container: it works in the hours *busy*, from its start at 0 until it *ends*, in hours."""

    name: str
    busy: Iterable[range] = ()
    ends: float = 24
    user: str = "anna"
    exempt: bool = False
    keep_alive_until: float | None = None
    shares_slot_of: str | None = None


def write_story(path: Path, containers: Iterable[Told], hours: int = 24) -> Path:
    """Write the samples of *containers* to *path*, an hour a page."""
    told = list(containers)
    with path.open("w", encoding="utf-8") as file:
        for hour in range(hours):
            numbers = range(hour * HOUR, (hour + 1) * HOUR)
            for metric, values in _page(told, numbers):
                stamps = [(BEGIN + number * STEP) * 1000 for number in values]
                line = {"metric": metric, "values": [*values.values()], "timestamps": stamps}
                file.write(json.dumps(line) + "\n")
    return path


def _page(
    told: Iterable[Told], numbers: range
) -> Iterable[tuple[Mapping[str, str], Mapping[int, float]]]:
    for exporter in (_DS01, _DCGM):
        yield {"__name__": "up", **exporter}, dict.fromkeys(numbers, 1)
    for name in ("exporter_info", "inventory_age_seconds"):
        yield {"__name__": f"ds01_{name}", **_DS01}, dict.fromkeys(numbers, 1)
    for number, one in enumerate(told):
        yield from _container(number, one, numbers)


def _container(
    gpu: int, one: Told, numbers: range
) -> Iterable[tuple[Mapping[str, str], Mapping[int, float]]]:
    there = [number for number in numbers if number < one.ends * HOUR]
    if not there:
        return
    slot = one.shares_slot_of or one.name
    uuid, own = f"GPU-{slot}", {"container_id": one.name * 8, **_DS01}
    busy = {n: any(n / HOUR >= r.start and n / HOUR < r.stop for r in one.busy) for n in there}
    worked = {n: _worked(one, n) for n in there}
    if one.shares_slot_of is None:
        yield (
            {"__name__": "DCGM_FI_DEV_GPU_UTIL", "gpu": str(gpu), "UUID": uuid, **_DCGM},
            {n: 90 * busy[n] for n in there},
        )
    yield (
        {"__name__": "ds01_container_gpu", "gpu_slot": slot, "UUID": uuid, **own},
        dict.fromkeys(there, 1),
    )
    info = {
        "container": one.name,
        "user": one.user,
        "interface": "docker",
        "container_type": "docker",
    }
    exempt = str(one.exempt).lower()
    yield (
        {"__name__": "ds01_container_info", "exempt": exempt, **info, **own},
        dict.fromkeys(there, 1),
    )
    constants = {
        "running": 1,
        "started_time_seconds": BEGIN,
        "grace_seconds": 1800,
        "idle_timeout_seconds": 3600,
        "max_runtime_seconds": 20 * 3600,
        "gpu_idle_percent_threshold": 5,
        "cpu_idle_percent_threshold": 2,
        "network_idle_bytes_threshold": 2**20,
    }
    if one.keep_alive_until is not None:
        constants["keep_alive_until_seconds"] = BEGIN + round(one.keep_alive_until * 3600)
    for name, value in constants.items():
        yield {"__name__": f"ds01_container_{name}", **own}, dict.fromkeys(there, value)
    for name in ("cpu_usage_seconds", "network_receive_bytes", "network_transmit_bytes"):
        yield {"__name__": f"ds01_container_{name}_total", **own}, worked


def _worked(one: Told, number: int) -> float:
    """Return a counter that rises while the container works."""
    hours = number / HOUR
    spent = sum(max(0.0, min(hours, stretch.stop) - stretch.start) for stretch in one.busy)
    return round(spent * 3600 * 1e5, 3)
