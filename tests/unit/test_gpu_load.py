"""`remediator load`: whose GPU is left alone, and how the share of time at work is kept.

What torch and cupy do on a GPU is not tested anywhere: there is none.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from remediator.core.gpus import Gpu, GpuProcess, GpuSlot, LostReading, Reading, SlotReading
from remediator.gpu_load import Loaded, Pace, keep_busy, who_else, why_not
from tests.unit.test_cli import remediator

SLOT = GpuSlot(0, "0", "GPU-a", "GPU-a")
GPU = Gpu(0, "GPU-a", "A100", "0000:01:00.0", mig_enabled=False, slots=(SLOT,))
FREE = SlotReading(SLOT, 0.0, 0, 1, ())
OTHERS = replace(FREE, slot=GpuSlot(1, "1", "GPU-b", "GPU-b"), utilization_percent=90.0)
OWN = 42


@dataclass
class HandTime:
    """Time that passes by work, a hundredth of a second a piece, and by waiting."""

    at: float = 1000.0
    pieces: int = 0
    waits: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits.append(seconds)
        self.at += seconds

    def work(self) -> None:
        self.pieces += 1
        self.at += 0.01


def loaded(
    time: HandTime, percent: int, seconds: float, somebody: Callable[[], str | None]
) -> Loaded:
    pace = Pace(time.now, time.wait)
    return keep_busy(time, percent, timedelta(seconds=seconds), pace, somebody)


@pytest.mark.parametrize("percent", [1, 10, 35, 50, 99, 100])
def test_it_is_at_work_for_the_share_that_was_asked_for(percent: int) -> None:
    time = HandTime()

    done = loaded(time, percent, 60, lambda: None)

    # A piece is a tenth of a period and is not broken off.
    assert done.busy_seconds / done.seconds == pytest.approx(percent / 100, abs=0.1001)
    assert done.busy_seconds >= 0.6 * percent - 0.01
    assert done.busy_seconds == pytest.approx(0.01 * time.pieces)


def test_it_never_waits_when_it_is_to_be_at_work_all_the_time() -> None:
    time = HandTime()

    loaded(time, 100, 5, lambda: None)

    assert max(time.waits, default=0) < 0.01


@pytest.mark.parametrize("seconds", [0.05, 1, 7.03])
def test_it_ends_in_time(seconds: float) -> None:
    done = loaded(HandTime(), 50, seconds, lambda: None)

    assert seconds - 1e-6 <= done.seconds <= seconds + 0.02
    assert done.interrupted is None


def test_it_ends_within_a_second_or_so_once_somebody_comes() -> None:
    time = HandTime()

    done = loaded(time, 50, 60, lambda: "process 7" if time.at > 1010 else None)

    assert done.interrupted == "process 7"
    assert 10 < done.seconds < 11.2


@pytest.mark.parametrize(
    ("gpu", "readings", "reason"),
    [
        pytest.param(GPU, [FREE, OTHERS], None, id="only another GPU is busy"),
        pytest.param(
            GPU,
            [replace(FREE, processes=(GpuProcess(7, None, "compute"),))],
            "somebody uses it: process 7",
            id="a process that does nothing",
        ),
        pytest.param(
            GPU,
            [replace(FREE, utilization_percent=3.0)],
            "somebody uses it: it is 3 % busy",
            id="busy by nobody who is listed",
        ),
        pytest.param(
            GPU,
            [replace(FREE, utilization_percent=None)],
            "the driver does not tell how busy it is",
            id="not told",
        ),
        pytest.param(GPU, [OTHERS], "the driver says nothing about it", id="no reading"),
        pytest.param(
            GPU,
            [LostReading(SLOT, "it fell off")],
            "the driver cannot talk to it: it fell off",
            id="lost on the way",
        ),
        pytest.param(
            replace(GPU, lost="gone"), [], "the driver cannot talk to it: gone", id="lost"
        ),
        pytest.param(
            replace(GPU, mig_enabled=True),
            [FREE],
            "it is in MIG mode, where the driver does not tell how busy it is",
            id="MIG",
        ),
    ],
)
def test_a_gpu_that_may_be_somebodys_is_left_alone(
    gpu: Gpu, readings: list[Reading], reason: str | None
) -> None:
    assert why_not(gpu, readings, OWN) == reason


def test_our_own_process_and_our_own_work_are_nobody_else() -> None:
    ours = replace(FREE, utilization_percent=98.0, processes=(GpuProcess(OWN, 1, "compute"),))
    both = replace(ours, processes=(*ours.processes, GpuProcess(7, 1, "graphics")))

    assert who_else(GPU, [ours, OTHERS], OWN) is None
    assert who_else(GPU, [both], OWN) == "somebody uses it: process 7"


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in ("torch", "cupy")),
    reason="torch or cupy is installed here",
)
def test_without_a_library_it_says_what_to_type() -> None:
    done = remediator(["load"])

    assert done.code == 2
    assert done.out == ""
    for package in ("torch", "cupy-cuda12x"):
        assert f"  {sys.executable} -m pip install {package}\n" in done.err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--percent", "0"),
        ("--percent", "101"),
        ("--percent", "fifty"),
        ("--seconds", "0"),
        ("--seconds", "86401"),
        ("--seconds", "1.5"),
        ("--seconds", "9" * 99),
        ("--gpu", "-1"),
        ("--gpu", "٣"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: tuple[str, str]) -> None:
    done = remediator(["load", *wrong])

    assert done.code == 2
    assert wrong[0] in done.err
