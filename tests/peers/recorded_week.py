"""A week of a GPU host, and the alerts that Prometheus' own rule engine fired on it.

    python -m tests.peers.recorded_week

writes both into tests/data/backtest, in some minutes: samples of the exporters' families, with
containers that come, work, idle, are restarted and go; a GPU in MIG mode; heat, XIDs and a lost
GPU; counters that start again; failed scrapes, exporters that are down, and two hours of which
Prometheus knows nothing. It is the same week each time.
"""

import gzip
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from remediator.backtest.history import Page
from remediator.backtest.matrix import NAME, pairs_of
from remediator.backtest.sample_file import SampleWriter
from remediator.backtest.store import Series
from tests.peers.rule_engine import Past, Question, ask

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "data" / "backtest"
SAMPLES = FOLDER / "week.jsonl.gz"
ALERTS = FOLDER / "week_alerts.json.gz"
SCRAPE_SECONDS = 30
EVALUATION_SECONDS = 60
WEEK_SECONDS = 7 * 24 * 3600
# In promtool's tests time begins at the epoch; the samples are written as of this Monday.
BEGIN = 1794787200
_MOMENTS = ("_time_seconds", "_until_seconds")
_COUNT = WEEK_SECONDS // SCRAPE_SECONDS
_HOUR = 3600 // SCRAPE_SECONDS
_GPUS = 3
_MIG_GPU = 2
_SEED = 20261119
_DS01 = {"instance": "gpu1:9101", "job": "ds01-exporter"}
_DCGM = {"instance": "gpu1:9400", "job": "dcgm-exporter"}
RULES = ("fault", "heat", "idle", "leak", "runtime")
_USERS = ("anna", "ben", "cleo")

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Week:
    """The values of each series at each scrape: a number, ``_`` for none, ``stale`` for an end."""

    dice: random.Random
    series: dict[Labels, list[str]] = field(default_factory=dict)
    known: dict[tuple[object, ...], list[str]] = field(default_factory=dict)

    def put(self, number: int, metric: str, value: float, **labels: str) -> None:
        """Set the value of one scrape."""
        asked = (metric, *labels.items())
        values = self.known.get(asked)
        if values is None:
            key = pairs_of({NAME: metric, **labels})
            values = self.known[asked] = self.series.setdefault(key, ["_"] * _COUNT)
        values[number] = f"{round(value, 6):g}" if abs(value) < 1e5 else f"{value:.3f}"

    def end_what_ended(self) -> None:
        """Mark every series where its exporter went on without it."""
        ups = {
            (labels["job"], labels["instance"]): values
            for labels, values in ((dict(key), values) for key, values in self.series.items())
            if labels[NAME] == "up"
        }
        for key, values in self.series.items():
            labels = dict(key)
            scrapes = ups[labels["job"], labels["instance"]]
            for number in range(1, _COUNT):
                gone = values[number] == "_" and values[number - 1] not in {"_", "stale"}
                if gone and scrapes[number] != "_":
                    values[number] = "stale"


def make_week() -> Week:
    """Return the week."""
    week = Week(random.Random(_SEED))  # noqa: S311 - not a secret, only the same each time
    outage = range(60 * _HOUR, 62 * _HOUR)
    ds01_down = range(100 * _HOUR, 100 * _HOUR + 17)
    dcgm_down = [*range(30 * _HOUR, 30 * _HOUR + 9), *range(130 * _HOUR, 131 * _HOUR)]
    answers = {}
    for exporter, down in ((_DS01, ds01_down), (_DCGM, dcgm_down)):
        name = exporter["job"]
        answers[name] = []
        for number in range(_COUNT):
            if number in outage:
                continue
            fails = number in down or week.dice.random() < 0.002
            week.put(number, "up", 0 if fails else 1, **exporter)
            if not fails:
                answers[name].append(number)
    _host(week, answers["ds01-exporter"])
    for gpu in range(_GPUS):
        _gpu(week, gpu, answers)
        for slot in (f"{gpu}.0", f"{gpu}.1") if gpu == _MIG_GPU else (str(gpu),):
            _slot(week, gpu, slot, answers)
    week.end_what_ended()
    return week


def _host(week: Week, answered: list[int]) -> None:
    for number in answered:
        week.put(number, "ds01_exporter_info", 1, **_DS01)
        week.put(number, "ds01_inventory_age_seconds", 1, **_DS01)
        week.put(
            number,
            "ds01_gpu_demand_ratio",
            0.9 if number // _HOUR % 24 in range(9, 18) else 0.5,
            **_DS01,
        )
        for name in ("gpus", "containers", "gpu-health"):
            week.put(
                number,
                "ds01_collector_success",
                float(not (number // 40 % 97 == 5 and name == "gpus")),
                collector=name,
                **_DS01,
            )
        if 40 * _HOUR < number < 40 * _HOUR + 60 or number % 700 < 3:
            week.put(
                number,
                "ds01_gpu_orphan_process",
                1,
                UUID="GPU-1",
                GPU_I_ID="",
                pid="4711",
                start_ticks=str(number // 5000),
                user="ben",
                comm="python",
                **_DS01,
            )


def _gpu(week: Week, gpu: int, answers: dict[str, list[int]]) -> None:
    uuid, dice = f"GPU-{gpu}", week.dice
    device = {"gpu": str(gpu), "UUID": uuid, "device": f"nvidia{gpu}", "modelName": "A100"}
    temperature, xid, action, leak = 50.0, 0, 0, 0
    lost = range(140 * _HOUR, 141 * _HOUR) if gpu == 0 else range(0)
    for number in answers["dcgm-exporter"]:
        hot = gpu == 1 and number // _HOUR % 30 in (20, 21)
        temperature += ((92 if hot else 55) - temperature) * 0.05 + dice.uniform(-0.2, 0.2)
        if dice.random() < 0.0006:
            xid = dice.choice((0, 13, 43, 48, 79, 94, 119))
        week.put(
            number,
            "DCGM_FI_DEV_GPU_TEMP",
            round(temperature),
            **device,
            **_DCGM,
        )
        week.put(number, "DCGM_FI_DEV_XID_ERRORS", xid, **device, **_DCGM)
        week.put(
            number,
            "DCGM_FI_DEV_FB_USED",
            79000 if number // _HOUR % 50 == 33 else 4000,
            GPU_I_ID="",
            **device,
            **_DCGM,
        )
        week.put(
            number,
            "DCGM_FI_DEV_FB_FREE",
            1000 if number // _HOUR % 50 == 33 else 76000,
            GPU_I_ID="",
            **device,
            **_DCGM,
        )
    for number in answers["ds01-exporter"]:
        if number in lost:
            continue
        if dice.random() < 0.0005:
            action = dice.choice((0, 0, 1, 2, 3))
        if dice.random() < 0.0005:
            leak = dice.choice((0, 0, 2**30))
        mig = "true" if gpu == _MIG_GPU else "false"
        week.put(number, "ds01_gpu_info", 1, gpu=str(gpu), UUID=uuid, **_DS01)
        week.put(
            number,
            "ds01_gpu_slot_info",
            1,
            gpu=str(gpu),
            gpu_uuid=uuid,
            slot=str(gpu),
            mig_enabled=mig,
            **_DS01,
        )
        week.put(number, "ds01_gpu_recovery_action", action, UUID=uuid, **_DS01)
        week.put(number, "ds01_gpu_memory_unaccounted_bytes", leak, UUID=uuid, **_DS01)
        week.put(
            number,
            "ds01_gpu_row_remap_pending",
            float(gpu == 1 and number > 150 * _HOUR),
            UUID=uuid,
            **_DS01,
        )


@dataclass(slots=True)
class _Container:
    """One run of one container on a slot."""

    id: str
    user: str
    exempt: bool
    created: int
    started: int
    ends: int
    stopped: int
    keeps: bool
    busy: bool = True
    changes: int = 0
    cpu: float = 0.0
    network: float = 0.0


def _slot(week: Week, gpu: int, slot: str, answers: dict[str, list[int]]) -> None:
    dice = week.dice
    instance = str(3 + int(slot[-1])) if "." in slot else ""
    containers = list(_containers(dice, slot))
    scraped = [set(answers["ds01-exporter"]), set(answers["dcgm-exporter"])]
    for number in range(_COUNT):
        busy = False
        for one in containers:
            if one.created <= number < one.stopped:
                busy = _live(one, number, dice) or busy
                if number in scraped[0]:
                    _report(
                        week,
                        one,
                        number,
                        {
                            "gpu": str(gpu),
                            "gpu_slot": slot,
                            "UUID": f"GPU-{gpu}",
                            "GPU_I_ID": instance,
                        },
                    )
        if number in scraped[1]:
            labels = {
                "gpu": str(gpu),
                "UUID": f"GPU-{gpu}",
                "device": f"nvidia{gpu}",
                "GPU_I_ID": instance,
            }
            level = 0.6 + number // 20 % 4 / 10 if busy else 0.01 * (number // 50 % 3)
            blank = dice.random() < 0.003
            if instance:
                week.put(
                    number,
                    "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
                    1.4e14 if blank else round(level, 3),
                    **labels,
                    **_DCGM,
                )
            else:
                week.put(
                    number,
                    "DCGM_FI_DEV_GPU_UTIL",
                    9.2e18 if blank else round(100 * level),
                    **labels,
                    **_DCGM,
                )


def _containers(dice: random.Random, slot: str) -> Iterator[_Container]:
    created, count = dice.randrange(0, 4 * _HOUR), 0
    while created < _COUNT:
        count += 1
        never = dice.random() < 0.08
        started = created + (10**9 if never else dice.randrange(1, 4))
        ends = created + (_HOUR if never else dice.randrange(2 * _HOUR, 40 * _HOUR))
        stopped = ends + dice.choice((0, 0, _HOUR // 2, _HOUR))
        name = f"{slot.replace('.', 'a')}{count:02}"
        user = dice.choice(_USERS)
        yield _Container(
            (name * 64)[:64],
            user,
            dice.random() < 0.1,
            created,
            started,
            ends,
            stopped,
            dice.random() < 0.2,
        )
        created = stopped + dice.randrange(5, 5 * _HOUR)


def _live(one: _Container, number: int, dice: random.Random) -> bool:
    """Go on by one scrape; return whether it works."""
    if not one.started <= number < one.ends:
        return False
    if number >= one.changes:
        one.busy = not one.busy
        one.changes = number + dice.choice((10, 40, 2 * _HOUR, 3 * _HOUR, 6 * _HOUR))
    if dice.random() < 0.0004:
        one.started, one.cpu, one.network = number, 0.0, 0.0
    one.cpu += SCRAPE_SECONDS * (0.9 if one.busy else 0.002)
    one.network += SCRAPE_SECONDS * (40_000.0 if one.busy else 3.0)
    return one.busy


def _report(week: Week, one: _Container, number: int, slot: dict[str, str]) -> None:
    own = {"container_id": one.id, **_DS01}
    known = {
        "container": f"job-{one.id[:4]}",
        "user": one.user,
        "interface": "docker",
        "container_type": "docker",
        "exempt": str(one.exempt).lower(),
    }
    running = one.started <= number < one.ends
    facts = {
        "running": float(running),
        "created_time_seconds": one.created * SCRAPE_SECONDS,
        "created_timeout_seconds": 1800,
        "hold_seconds": 900,
    }
    if one.started <= number:
        facts["started_time_seconds"] = one.started * SCRAPE_SECONDS
    if number >= one.ends and one.started < one.ends:
        facts["finished_time_seconds"] = one.ends * SCRAPE_SECONDS
    if not one.exempt:
        facts |= {"idle_timeout_seconds": 3600, "grace_seconds": 1800, "max_runtime_seconds": 86400}
    if one.keeps and number // _HOUR % 9 < 3:
        facts["keep_alive_until_seconds"] = (number // _HOUR + 1) * 3600
    if running:
        facts |= {
            "cpu_usage_seconds_total": one.cpu,
            "network_receive_bytes_total": one.network,
            "network_transmit_bytes_total": one.network,
        }
    facts |= {
        "gpu_idle_percent_threshold": 5,
        "cpu_idle_percent_threshold": 2,
        "network_idle_bytes_threshold": 1048576,
    }
    for name, value in facts.items():
        week.put(number, f"ds01_container_{name}", value, **own)
    week.put(number, "ds01_container_info", 1, **known, **own)
    week.put(number, "ds01_container_gpu", 1, **slot, **own)
    if running:
        share = 0.25 if slot["GPU_I_ID"] else 1
        week.put(
            number,
            "ds01_gpu_equivalents",
            share,
            gpu_slot=slot["gpu_slot"],
            user=one.user,
            interface="docker",
            profile="",
            **_DS01,
        )


def pages_of(week: Week) -> Iterator[Page]:
    """Yield the week, six hours a page."""
    length = 6 * _HOUR
    for begin in range(0, _COUNT, length):
        found: dict[str, list[Series]] = {}
        for key, values in week.series.items():
            there = [n for n in range(begin, begin + length) if values[n] != "_"]
            if there:
                found.setdefault(dict(key)[NAME], []).append(_series(key, values, there))
        ends = [(BEGIN + number * SCRAPE_SECONDS) * 1000 for number in (begin, begin + length)]
        yield Page(*ends, found)


def _series(key: Labels, values: list[str], there: list[int]) -> Series:
    """Return a part of a series; what is a moment is later by `BEGIN` than promtool has it."""
    stale = np.array([values[n] == "stale" for n in there])
    numbers = np.array([np.nan if values[n] == "stale" else float(values[n]) for n in there])
    if dict(key)[NAME].endswith(_MOMENTS):
        numbers += BEGIN
    times = (np.array(there, np.int64) * SCRAPE_SECONDS + BEGIN) * 1000
    return Series(key, times, numbers, stale)


def rule_files() -> list[Path]:
    """Return the shipped rules about containers and GPUs, in the order of their evaluation."""
    return [ROOT / "alert_rules" / f"{name}.yml" for name in RULES]


def fired_by_prometheus(week: Week, until: int, folder: Path) -> dict[str, list[list[int]]]:
    """Return from when to when (seconds, the end left out) each alert fired, by its labels."""
    moments = range(0, until, EVALUATION_SECONDS)
    series = {
        _written(key): values[: until // SCRAPE_SECONDS] for key, values in week.series.items()
    }
    series = {key: values for key, values in series.items() if set(values) != {"_"}}
    past = Past(series, SCRAPE_SECONDS, EVALUATION_SECONDS)
    questions = [Question('ALERTS{alertstate="firing"}', moment) for moment in moments]
    answers = ask(folder, rule_files(), past, questions)
    found: dict[str, list[list[int]]] = {}
    for moment, answer in zip(moments, answers, strict=True):
        for labels in answer or ():
            own = {name: value for name, value in labels if name not in {NAME, "alertstate"}}
            stretches = found.setdefault(json.dumps(own, sort_keys=True), [])
            if stretches and stretches[-1][1] == moment:
                stretches[-1][1] = moment + EVALUATION_SECONDS
            else:
                stretches.append([moment, moment + EVALUATION_SECONDS])
    return found


def _written(key: Labels) -> str:
    labels = dict(key)
    name = labels.pop(NAME)
    return (
        name
        + "{"
        + ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
        + "}"
    )


def main() -> None:
    """Write the week and its alerts."""
    week = make_week()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with SampleWriter(SAMPLES, {}) as writer:
        for page in pages_of(week):
            writer.write(page)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fired = fired_by_prometheus(week, WEEK_SECONDS, Path(folder))
    with gzip.open(ALERTS, "wt", encoding="utf-8") as file:
        json.dump(fired, file, indent=0, sort_keys=True)
    count = sum(map(len, fired.values()))
    sys.stdout.write(
        f"{len(week.series)} series, {count} firings, {time.monotonic() - begun:.0f} s\n"
    )


if __name__ == "__main__":
    main()
