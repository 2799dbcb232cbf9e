from dataclasses import replace

import pytest

from remediator.core.dcgm import GpuFigures, judge, moving, same_xids
from remediator.core.observation import Verdict
from tests.builders import SECOND

STILL = GpuFigures(5000.0, 60.0, 35.0, 0)
GROWN = replace(STILL, energy_millijoules=6000.0)
NOTHING = GpuFigures(xid=0)


@pytest.mark.parametrize(
    ("before", "now", "moves"),
    [
        pytest.param(STILL, STILL, False, id="nothing"),
        pytest.param(STILL, GROWN, True, id="energy"),
        pytest.param(STILL, replace(STILL, power_watts=61.0), True, id="power"),
        pytest.param(STILL, replace(STILL, temperature_celsius=36.0), True, id="temperature"),
        pytest.param(STILL, replace(STILL, xid=79), False, id="an XID is no measurement"),
        pytest.param(STILL, replace(STILL, power_watts=None), False, id="a value that is gone"),
        pytest.param(replace(STILL, power_watts=None), STILL, False, id="a value that is new"),
    ],
)
def test_a_gpu_moves_when_a_measured_value_is_another(
    before: GpuFigures, now: GpuFigures, moves: bool
) -> None:
    assert (moving({"GPU-0": before}, {"GPU-0": now}) is not None) is moves


def test_gpus_that_come_and_go_do_not_move() -> None:
    assert moving({"GPU-0": STILL}, {"GPU-1": GROWN}) is None


@pytest.mark.parametrize(
    ("page", "driver", "verdict"),
    [
        pytest.param((STILL, GROWN), (STILL, GROWN), Verdict.DISAGREES, id="both move"),
        pytest.param((STILL, GROWN), (STILL, STILL), Verdict.DISAGREES, id="the page alone moves"),
        pytest.param((STILL, STILL), (STILL, GROWN), Verdict.AGREES, id="the driver alone moves"),
        pytest.param((STILL, STILL), (STILL, STILL), Verdict.SILENT, id="nothing moves"),
        pytest.param((NOTHING, NOTHING), (STILL, STILL), Verdict.AGREES, id="no values at all"),
        pytest.param((NOTHING, STILL), (STILL, GROWN), Verdict.AGREES, id="the first values"),
    ],
)
def test_dcgm_is_judged_beside_the_driver(
    page: tuple[GpuFigures, GpuFigures],
    driver: tuple[GpuFigures, GpuFigures],
    verdict: Verdict,
) -> None:
    pages = {"GPU-0": page[0]}, {"GPU-0": page[1]}
    drivers = {"GPU-0": driver[0]}, {"GPU-0": driver[1]}

    assert judge(pages, drivers, 40 * SECOND)[0] is verdict


def test_one_gpu_that_moves_is_proof_that_dcgm_measures() -> None:
    pages = {"GPU-0": STILL, "GPU-1": STILL}, {"GPU-0": STILL, "GPU-1": GROWN}
    drivers = {"GPU-0": STILL}, {"GPU-0": GROWN}

    assert judge(pages, drivers, SECOND) == (
        Verdict.DISAGREES,
        "its values are fresh: energy (mJ) of GPU-1 went from 5000 to 6000",
    )


def test_an_empty_page_beside_a_driver_with_gpus_is_a_fault() -> None:
    verdict, says = judge(({}, {}), ({"GPU-0": STILL}, {"GPU-0": STILL}), SECOND)

    assert verdict is Verdict.AGREES
    assert says == "it answers without one measured value, and the driver has 1 GPUs"


@pytest.mark.parametrize(
    ("before", "now", "left"),
    [
        ({"GPU-0": 79}, {"GPU-0": replace(STILL, xid=79)}, "XID 79 of GPU-0"),
        ({"GPU-0": 79}, {"GPU-0": STILL}, ""),
        ({"GPU-0": 79}, {"GPU-0": replace(STILL, xid=31)}, ""),
        ({"GPU-0": 79}, {}, ""),
        ({}, {"GPU-0": replace(STILL, xid=79)}, ""),
    ],
    ids=["kept", "cleared", "a new one", "no page", "none before"],
)
def test_an_xid_from_before_is_told_from_a_new_one(
    before: dict[str, int], now: dict[str, GpuFigures], left: str
) -> None:
    assert same_xids(before, now) == left
