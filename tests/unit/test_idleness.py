from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.idleness import Activity, SlotUse, judge_idle
from remediator.core.limits import Limits
from remediator.core.observation import Verdict

LIMITS = Limits(gpu_idle_percent=5.0, cpu_idle_percent=2.0, network_idle_bytes=1024.0 * 1024)
AGREES, DISAGREES, SILENT = Verdict.AGREES, Verdict.DISAGREES, Verdict.SILENT


def a_slot(
    own: int = 1,
    other: int = 0,
    utilization: float | None = 0.0,
    own_utilization: float | None = None,
    lost: str | None = None,
) -> SlotUse:
    return SlotUse("0", own, other, utilization, own_utilization, lost)


def an_activity(
    *slots: SlotUse,
    measured_for: timedelta | None = timedelta(seconds=2),
    cpu: float | None = 0.0,
    network: float | None = 0.0,
    host_network: bool = False,
) -> Activity:
    return Activity(slots, measured_for, cpu, network, host_network)


def test_idle_is_what_is_quiet_in_every_way() -> None:
    judgement = judge_idle(an_activity(a_slot(utilization=4.9), cpu=1.99, network=2048), LIMITS)

    assert judgement.verdict is AGREES
    assert judgement.says == (
        "GPU 0 is 5 % used by 1 of its processes; CPU 2.0 % of a core over 2.0 s;"
        " network 2 KiB per 5 min"
    )
    assert judgement.facts == {
        "cpu_percent": 1.99,
        "network_bytes_per_5m": 2048,
        "gpu_0_utilization_percent": 4.9,
        "gpu_0_own_processes": 1,
        "gpu_0_other_processes": 0,
    }


@pytest.mark.parametrize(
    ("slot", "verdict", "says"),
    [
        pytest.param(a_slot(utilization=5.0), DISAGREES, "5 % used", id="exactly the threshold"),
        pytest.param(a_slot(utilization=4.99), AGREES, "", id="just below"),
        pytest.param(a_slot(utilization=None), SILENT, "utilisation of", id="nobody can tell"),
        pytest.param(
            a_slot(utilization=None, own_utilization=1.0), AGREES, "", id="its own is all there is"
        ),
        pytest.param(
            a_slot(utilization=3.0, own_utilization=99.0), AGREES, "", id="alone: the slot's counts"
        ),
        pytest.param(
            a_slot(other=1, utilization=99.0, own_utilization=1.0), AGREES, "", id="others use it"
        ),
        pytest.param(
            a_slot(other=1, utilization=1.0, own_utilization=9.0),
            DISAGREES,
            "9 % used",
            id="shared, and its share is busy",
        ),
        pytest.param(
            a_slot(other=1, utilization=1.0), SILENT, "its share of", id="shared, its share unknown"
        ),
        pytest.param(a_slot(own=0, utilization=0.0), AGREES, "", id="no process of its own"),
        pytest.param(
            a_slot(own=0, other=2, utilization=99.0), AGREES, "", id="busy with others' work"
        ),
        pytest.param(
            a_slot(own=0, utilization=50.0), SILENT, "cannot be seen", id="busy with nobody's work"
        ),
        pytest.param(
            a_slot(own=0, utilization=None), AGREES, "", id="no process, utilisation unknown"
        ),
        pytest.param(a_slot(lost="Xid 79"), SILENT, "Xid 79", id="lost"),
    ],
)
def test_a_slot_is_judged(slot: SlotUse, verdict: Verdict, says: str) -> None:
    judgement = judge_idle(an_activity(slot), LIMITS)

    assert judgement.verdict is verdict
    assert says in judgement.says


@pytest.mark.parametrize(
    ("activity", "verdict", "says"),
    [
        pytest.param(an_activity(), AGREES, "CPU 0.0 % of a core over 2.0 s", id="all is quiet"),
        pytest.param(an_activity(cpu=2.0), DISAGREES, "idle is below 2 %", id="CPU at the limit"),
        pytest.param(an_activity(cpu=None), SILENT, "use of the CPU", id="CPU unknown"),
        pytest.param(an_activity(measured_for=None), SILENT, "use of the CPU", id="measured never"),
        pytest.param(
            an_activity(network=1048576), DISAGREES, "idle is below 1024 KiB", id="network at limit"
        ),
        pytest.param(an_activity(network=1048575), AGREES, "1024 KiB", id="network just below"),
        pytest.param(an_activity(network=None), SILENT, "use of the network", id="network unknown"),
        pytest.param(
            an_activity(network=None, host_network=True),
            AGREES,
            "network not its own",
            id="the host's network",
        ),
    ],
)
def test_cpu_and_network_are_judged(activity: Activity, verdict: Verdict, says: str) -> None:
    judgement = judge_idle(replace(activity, slots=(a_slot(own=0),)), LIMITS)

    assert judgement.verdict is verdict
    assert says in judgement.says


def test_without_any_gpu_to_look_at_nothing_is_agreed_to() -> None:
    judgement = judge_idle(an_activity(), LIMITS)

    assert judgement.verdict is SILENT
    assert judgement.says == "no GPU could be looked at"


def test_a_busy_gpu_whose_processes_may_work_for_anybody_is_busy() -> None:
    slot = replace(a_slot(own=0, other=2, utilization=97.0), unseen=1)

    judgement = judge_idle(an_activity(slot), LIMITS)

    assert judgement.verdict is SILENT
    assert "97 % used by processes that cannot be seen" in judgement.says


@pytest.mark.parametrize("utilization", [97.0, 5.0, None])
def test_a_busy_gpu_is_not_idle_where_one_of_those_that_use_it_may_work_for_the_container(
    utilization: float | None,
) -> None:
    slot = replace(a_slot(own=1, other=2, utilization=utilization, own_utilization=0.0), unseen=1)

    judgement = judge_idle(an_activity(slot), LIMITS)

    assert judgement.verdict is SILENT
    assert "work for nobody knows whom" in judgement.says


def test_an_idle_gpu_is_idle_whoever_uses_it() -> None:
    slot = replace(a_slot(own=1, other=2, utilization=4.0, own_utilization=0.0), unseen=1)

    assert judge_idle(an_activity(slot), LIMITS).verdict is AGREES


def test_one_busy_slot_is_enough() -> None:
    judgement = judge_idle(an_activity(a_slot(), a_slot(utilization=80.0)), LIMITS)

    assert judgement.verdict is DISAGREES
    assert judgement.says == "GPU 0 is 80 % used by 1 of its processes, idle is below 5 %"


def test_proof_of_work_is_a_better_reason_than_doubt() -> None:
    judgement = judge_idle(an_activity(a_slot(lost="Xid 79"), cpu=50.0, network=None), LIMITS)

    assert judgement.verdict is DISAGREES
    assert judgement.says == "CPU 50.0 % of a core over 2.0 s, idle is below 2 %"


def test_doubt_outweighs_quiet() -> None:
    judgement = judge_idle(an_activity(a_slot(), network=None), LIMITS)

    assert judgement.verdict is SILENT
    assert judgement.says == "its use of the network cannot be told, so it counts as busy"
    assert judgement.facts["network_bytes_per_5m"] is None
