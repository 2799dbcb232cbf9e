"""reset-gpu, with everything around it in memory: refusals, steps, answers, and deaths."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from remediator.actuators.nvidia_smi import SmiAnswer
from remediator.core.attempts import Proof, Task
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import GpuHealth, RowRemapping
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import PhysicalGpu
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations.gpu_evidence import GpuEvidence
from remediator.remediations.reset_gpu import Around, Patience, ResetGpu, ResetHands
from remediator.remediations.reset_senses import ResetSenses
from tests.builders import MINUTE, NOON, SECOND, TARGET, an_alert
from tests.fakes import FakeHost, HandClock, MemorySteps, a_mig_device
from tests.fakes_reset import (
    IN_USE,
    FakeFolder,
    FakeGpuServices,
    FakeHolders,
    FakeKernelLog,
    FakeLock,
    FakeSmi,
    a_holder,
    an_own_holder,
)
from tests.unit.mortal import DiedError

ILL = GpuHealth(recovery_action=1)
EXPORTER, ENGINE = "nvidia-dcgm-exporter.service", "nvidia-dcgm.service"
ALERT = an_alert({"UUID": "GPU-0", "gpu": "0", "instance": "node:9101"}, name="DS01GPUNeedsReset")
TASK = Task(PhysicalGpu("GPU-0"), timeout=MINUTE, context={"gpus": "GPU-0"})
WHOLE_WAY = ["quiesce", "free", "reset", "check", "restore"]


class MortalSteps(MemorySteps):
    """The journal of a process that dies when it is about to begin its *lives*-th step."""

    def __init__(self, lives: int, on_death: Callable[[], None]) -> None:
        super().__init__()
        self._lives = lives
        self._on_death = on_death

    def step(self, name: str, detail: str, *, fresh: bool = False) -> Any:
        if len(self.names) >= self._lives:
            self._on_death()
            raise DiedError
        return super().step(name, detail, fresh=fresh)


@dataclass(slots=True)
class Rig:
    """A host with two GPUs, the first of which wants a reset, and two services around them."""

    host: FakeHost
    holders: FakeHolders
    smi: FakeSmi
    services: FakeGpuServices
    lock: FakeLock
    folder: FakeFolder
    log: FakeKernelLog
    remediation: ResetGpu

    def observe(self) -> Observation:
        return self.remediation.observe(ALERT, NOON, {})

    def execute(self, steps: MemorySteps | None = None) -> str:
        return self.remediation.execute(TASK, steps or MemorySteps())

    def says(self, source: Source) -> tuple[Verdict, str]:
        report = self.observe().report_of(source)
        assert report is not None
        return report.verdict, report.says


@pytest.fixture
def rig() -> Rig:
    return a_rig()


def a_rig(patience: timedelta = timedelta()) -> Rig:
    host = FakeHost(HandClock())
    host.fire(ALERT)
    host.driver.health_of["GPU-0"] = ILL
    holders = FakeHolders(host.driver, host.kernel)
    services, smi, lock = FakeGpuServices(EXPORTER, ENGINE), FakeSmi(host.driver), FakeLock()
    folder, log = FakeFolder(), FakeKernelLog()
    senses = ResetSenses(
        host.prometheus, host.docker, host.driver, holders, host.kernel, host.users
    )
    return Rig(
        host,
        holders,
        smi,
        services,
        lock,
        folder,
        log,
        ResetGpu(
            senses,
            ResetHands(smi, services, lock),
            GpuEvidence(senses, smi, services, log, folder),
            Around((EXPORTER, ENGINE), ("dcgm",), (EXPORTER,)),
            Patience(patience, patience),
        ),
    )


def hold(rig: Rig, minor: int = 0, **facts: object) -> int:
    pid = a_holder(rig.host, **facts)
    rig.holders.opened.setdefault(minor, []).append(pid)
    return pid


def test_a_gpu_that_nobody_uses_and_the_driver_wants_reset_may_be(rig: Rig) -> None:
    seen = rig.observe()

    assert seen.target == PhysicalGpu("GPU-0")
    assert {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert [report.source for report in seen.reports] == [
        Source.PROMETHEUS,
        Source.NVML,
        Source.DOCKER,
    ]
    assert seen.title == "GPU 0 (GPU-0)"


@pytest.mark.parametrize(
    ("health", "verdict", "words"),
    [
        pytest.param(GpuHealth(0), Verdict.DISAGREES, "advises nothing", id="wants nothing"),
        pytest.param(GpuHealth(1), Verdict.AGREES, "a reset", id="reset"),
        pytest.param(GpuHealth(2), Verdict.DISAGREES, "a reboot of the host", id="reboot"),
        pytest.param(GpuHealth(3), Verdict.DISAGREES, "peer-to-peer", id="drain"),
        pytest.param(GpuHealth(4), Verdict.AGREES, "drain it and a reset", id="drain and reset"),
        pytest.param(GpuHealth(5), Verdict.DISAGREES, "IMEX", id="IMEX"),
        pytest.param(GpuHealth(6), Verdict.AGREES, "over the bus", id="bus reset"),
        pytest.param(GpuHealth(7), Verdict.DISAGREES, "whole system", id="system reboot"),
        pytest.param(GpuHealth(8), Verdict.DISAGREES, "something new", id="not known yet"),
        pytest.param(
            GpuHealth(0, RowRemapping(pending=True, failed=False)),
            Verdict.DISAGREES,
            "advises nothing",
            id="a pending remap alone",
        ),
        pytest.param(
            GpuHealth(1, RowRemapping(pending=False, failed=True)),
            Verdict.DISAGREES,
            "for the vendor",
            id="a failed remap",
        ),
    ],
)
def test_the_driver_itself_must_advise_a_reset(
    rig: Rig, health: GpuHealth, verdict: Verdict, words: str
) -> None:
    rig.host.driver.health_of["GPU-0"] = health

    told, says = rig.says(Source.NVML)

    assert told is verdict
    assert words in says


@pytest.mark.parametrize(
    ("advice", "verdict"),
    [
        pytest.param(("reset",), Verdict.AGREES, id="a XID asks for a reset"),
        pytest.param(("reset", "reboot"), Verdict.DISAGREES, id="another for a reboot"),
        pytest.param(("application",), Verdict.DISAGREES, id="none asks for either"),
        pytest.param((), Verdict.DISAGREES, id="there was none"),
    ],
)
def test_where_the_driver_gives_no_advice_the_xids_do(
    rig: Rig, advice: tuple[str, ...], verdict: Verdict
) -> None:
    rig.host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=None)
    rig.host.prometheus.values = {f'advice="{word}"': 1.0 for word in advice}

    assert rig.says(Source.NVML)[0] is verdict


def test_a_gpu_that_refuses_to_work_wants_a_reset_without_any_advice(rig: Rig) -> None:
    rig.host.driver.health_of["GPU-0"] = GpuHealth(reset_required=True)

    assert rig.says(Source.NVML)[0] is Verdict.AGREES


def test_a_lost_gpu_is_out_of_reach_of_a_reset(rig: Rig) -> None:
    rig.host.driver.lost["GPU-0"] = "GPU is lost"

    assert rig.says(Source.NVML) == (
        Verdict.DISAGREES,
        "GPU 0 (GPU-0) does not answer (GPU is lost): no reset reaches it, reboot the host",
    )


def test_a_gpu_that_is_not_there_is_gone(rig: Rig) -> None:
    rig.host.driver.remove("GPU-0")

    assert rig.says(Source.NVML) == (Verdict.GONE, "the driver lists no GPU GPU-0")


def test_an_alert_without_a_uuid_names_nothing(rig: Rig) -> None:
    rig.host.quench()

    seen = rig.remediation.observe(an_alert({"gpu": "0"}), NOON, {})

    assert seen.target is None


def test_all_who_hold_the_gpu_are_named(rig: Rig) -> None:
    alices = hold(rig, command="python train.py")
    listed = a_holder(rig.host, command="./cuda", uid=0)
    rig.host.driver.use("GPU-0", listed)
    hold(rig, minor=1, command="elsewhere")

    verdict, says = rig.says(Source.NVML)

    assert verdict is Verdict.DISAGREES
    assert f"pid {alices} python train.py, alice" in says
    assert f"pid {listed} ./cuda, root" in says
    assert "elsewhere" not in says


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"unit": EXPORTER}, id="a service that will be stopped"),
        pytest.param({"unit": "nvidia-persistenced.service"}, id="nvidia-persistenced"),
        pytest.param({"unit": "nvidia-fabricmanager.service"}, id="the fabric manager"),
        pytest.param(
            {"uid": os.geteuid(), "command": "/opt/r/bin/python -m remediator export --x"},
            id="our exporter",
        ),
    ],
)
def test_what_will_let_go_is_no_hindrance(rig: Rig, facts: dict[str, object]) -> None:
    hold(rig, **facts)
    rig.holders.opened[0].append(an_own_holder(rig.host))

    assert rig.says(Source.NVML)[0] is Verdict.AGREES


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"unit": "ollama.service"}, id="another service"),
        pytest.param({"command": "remediator export", "uid": 1001}, id="a user's exporter"),
        pytest.param({"command": "remediator exporter", "uid": os.geteuid()}, id="another name"),
    ],
)
def test_what_only_looks_like_it_is_a_hindrance(rig: Rig, facts: dict[str, object]) -> None:
    hold(rig, **facts)

    assert rig.says(Source.NVML)[0] is Verdict.DISAGREES


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        pytest.param(GpuClaims(ids=("0",)), "claims GPU 0", id="its number"),
        pytest.param(GpuClaims(ids=("GPU-0",)), "claims GPU 0", id="its UUID"),
        pytest.param(GpuClaims(ids=("/dev/nvidia0",)), "claims GPU 0", id="its device"),
        pytest.param(GpuClaims(all=True), "claims all GPUs", id="all"),
        pytest.param(GpuClaims(count=1), "claims 1 of the GPUs", id="a mere number of GPUs"),
        pytest.param(GpuClaims(ids=("7",)), "may have been this one", id="a number of no GPU now"),
    ],
)
def test_a_container_that_was_given_the_gpu_is_named_with_its_owner(
    rig: Rig, claims: GpuClaims, words: str
) -> None:
    rig.host.run("train", gpus=(), claims=claims)

    verdict, says = rig.says(Source.DOCKER)

    assert verdict is Verdict.DISAGREES
    assert says.startswith("given to train of alice (running, ")
    assert words in says


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(GpuClaims(), id="none"),
        pytest.param(GpuClaims(ids=("1",)), id="another GPU"),
        pytest.param(GpuClaims(ids=("GPU-elsewhere",)), id="the UUID of another"),
    ],
)
def test_other_claims_are_none_of_its_business(rig: Rig, claims: GpuClaims) -> None:
    rig.host.run("train", gpus=(), claims=claims)

    assert rig.says(Source.DOCKER)[0] is Verdict.AGREES


def test_a_paused_container_counts_and_a_stopped_one_does_not(rig: Rig) -> None:
    container = rig.host.run("train", gpus=(), claims=GpuClaims(all=True))
    container.facts = replace(container.facts, state="paused")
    assert rig.says(Source.DOCKER)[0] is Verdict.DISAGREES

    rig.host.docker.end(container.facts.id)

    assert rig.says(Source.DOCKER)[0] is Verdict.AGREES


def test_the_container_of_dcgm_that_will_be_stopped_is_no_hindrance(rig: Rig) -> None:
    container = rig.host.run("dcgm", gpus=(), claims=GpuClaims(all=True))
    rig.holders.opened[0] = [container.facts.pid]

    assert {report.verdict for report in rig.observe().reports} == {Verdict.AGREES}


def test_a_gpu_in_mig_mode_is_never_reset_and_its_tenants_are_named(rig: Rig) -> None:
    rig.host.driver.remove("GPU-0")
    rig.host.driver.add(a_mig_device(0))
    rig.host.run("train", gpus=("MIG-0-0",))
    pid = hold(rig, command="jupyter", container_id=None)

    verdict, says = rig.says(Source.NVML)

    assert verdict is Verdict.DISAGREES
    assert "MIG mode" in says
    assert "train of alice" in says
    assert f"pid {pid} jupyter" in says
    with pytest.raises(RefusedError, match="MIG mode"):
        rig.execute()
    assert rig.smi.resets == []


def test_who_is_silent_is_no_agreement(rig: Rig) -> None:
    rig.host.docker.silent = "Docker is down"
    assert rig.says(Source.DOCKER) == (Verdict.SILENT, "Docker is down")

    rig.holders.silent = "only root can tell"
    assert rig.says(Source.NVML) == (Verdict.SILENT, "only root can tell")

    rig.host.driver.silent = "no driver"
    assert rig.says(Source.NVML) == (Verdict.SILENT, "no driver")


def test_prometheus_that_is_silent_about_xids_is_no_agreement(rig: Rig) -> None:
    rig.host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=None)
    rig.host.prometheus.silent = "no answer"

    assert rig.says(Source.NVML) == (Verdict.SILENT, "no answer")


def test_a_reset_goes_its_way_step_by_step(rig: Rig) -> None:
    steps = MemorySteps()
    states: list[tuple[bool, set[str], bool]] = []
    rig.smi.before_reset = lambda: states.append(
        (rig.lock.is_held, set(rig.services.running), bool(rig.host.driver.closed_because))
    )

    said = rig.execute(steps)

    assert steps.names == WHOLE_WAY
    assert states == [(True, set(), True)]
    assert rig.smi.resets == [("GPU-0",)]
    assert rig.smi.locks == (98, 99)
    assert rig.services.running == {EXPORTER, ENGINE}
    assert said == f"GPU 0 (GPU-0) was reset and is well; running again: {EXPORTER}, {ENGINE}"
    assert rig.remediation.verify(TASK).proof is Proof.PROVEN
    assert rig.folder.texts == []


def test_it_is_said_that_dcgm_was_not_restarted(rig: Rig) -> None:
    rig.services.running = set()

    assert "it shows the old XID until it is restarted" in rig.execute()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(hold, id="a holder"),
        pytest.param(lambda rig: rig.host.run("t", claims=GpuClaims(all=True)), id="a claim"),
        pytest.param(lambda rig: setattr(rig.host.docker, "silent", "down"), id="silence"),
        pytest.param(lambda rig: setattr(rig.smi, "missing", True), id="no nvidia-smi"),
        pytest.param(lambda rig: setattr(rig.lock, "taken_by_others", True), id="another reset"),
        pytest.param(lambda rig: rig.host.driver.health_of.clear(), id="no need any more"),
    ],
)
def test_what_is_refused_before_anything_was_stopped_changes_nothing(
    rig: Rig, spoil: Callable[[Rig], object]
) -> None:
    spoil(rig)
    steps = MemorySteps()

    with pytest.raises(RefusedError):
        rig.execute(steps)

    assert steps.names == []
    assert rig.smi.resets == []
    assert rig.services.running == {EXPORTER, ENGINE}
    assert rig.folder.texts == []


def test_a_gpu_that_vanished_since_is_gone(rig: Rig) -> None:
    rig.host.driver.remove("GPU-0")

    with pytest.raises(TargetGoneError):
        rig.execute()


def test_who_comes_while_the_services_stop_is_not_reset_away(rig: Rig) -> None:
    rig.services.on_stop = lambda: hold(rig, command="python new.py")
    steps = MemorySteps()

    with pytest.raises(RefusedError, match=r"still held by pid \d+ python new.py, alice"):
        rig.execute(steps)

    assert steps.names == ["quiesce", "free", "restore"]
    assert rig.smi.resets == []
    assert rig.services.running == {EXPORTER, ENGINE}
    assert rig.remediation.verify(TASK).proof is Proof.DISPROVEN


def test_a_container_that_is_started_meanwhile_is_not_reset_away(rig: Rig) -> None:
    rig.services.on_stop = lambda: rig.host.run("new", gpus=(), claims=GpuClaims(all=True))

    with pytest.raises(RefusedError, match="given meanwhile to new of alice"):
        rig.execute()

    assert rig.smi.resets == []


def test_it_is_waited_for_those_who_let_go() -> None:
    rig = a_rig(patience=5 * SECOND)
    hold(rig, unit=EXPORTER)
    looks = iter(range(10))

    def let_go() -> None:
        rig.host.kernel.processes[rig.holders.opened[0][0]].unit = None

    rig.services.on_stop = let_go
    opened = rig.holders.opened

    class Leaving(list[int]):
        def __iter__(self) -> Any:
            if next(looks) == 2:
                opened[0] = []
            return super().__iter__()

    opened[0] = Leaving(opened[0])

    assert "was reset" in rig.execute()


def test_services_that_cannot_be_stopped_fail_it_without_a_reset(rig: Rig) -> None:
    rig.services.refuses = "nvidia-dcgm.service takes too long to stop; all that ran runs again"

    with pytest.raises(RefusedError, match="takes too long"):
        rig.execute()

    assert rig.smi.resets == []
    assert rig.remediation.verify(TASK).proof is Proof.DISPROVEN


@pytest.mark.parametrize(
    ("answer", "error", "words", "proof"),
    [
        (SmiAnswer(255, IN_USE), RefusedError, "something still uses it", Proof.DISPROVEN),
        (SmiAnswer(3, "Not Supported"), RefusedError, "cannot be reset", Proof.DISPROVEN),
        (SmiAnswer(6, "No devices"), RefusedError, "does not know it", Proof.DISPROVEN),
        (
            SmiAnswer(255, "reset did not complete. A system reboot may be required."),
            EffectUnknownError,
            "did not complete, reboot the host",
            Proof.DISPROVEN,
        ),
        (SmiAnswer(15, "GPU is lost."), EffectUnknownError, "fallen off", Proof.DISPROVEN),
        (SmiAnswer(255, "?"), EffectUnknownError, "nothing we know", Proof.DISPROVEN),
    ],
)
def test_what_nvidia_smi_refuses_fails_and_the_services_run_again(
    rig: Rig, answer: SmiAnswer, error: type[Exception], words: str, proof: Proof
) -> None:
    rig.smi.answer = answer
    rig.host.driver.persistent["GPU-0"] = False

    with pytest.raises(error, match=words) as raised:
        rig.execute()

    assert "evidence is in /state/evidence/reset-gpu-GPU-0.txt" in str(raised.value)
    assert rig.services.running == {EXPORTER, ENGINE}
    assert rig.remediation.verify(TASK).proof is proof


def test_a_hang_leaves_the_effect_unknown_and_the_services_running(rig: Rig) -> None:
    rig.smi.hangs = True

    with pytest.raises(EffectUnknownError, match="has not ended within 60 s"):
        rig.execute()

    assert rig.services.running == {EXPORTER, ENGINE}
    assert rig.remediation.verify(TASK).proof is Proof.DISPROVEN
    rig.host.driver.silent = "hangs"
    assert rig.remediation.verify(TASK).proof is Proof.UNKNOWN


def test_a_reset_that_does_not_cure_fails(rig: Rig) -> None:
    rig.smi.cures = False

    with pytest.raises(EffectUnknownError, match="is not well: for GPU-0 the driver advises"):
        rig.execute()

    assert rig.services.running == {EXPORTER, ENGINE}


def test_a_gpu_that_nvidia_smi_cannot_query_is_not_well(rig: Rig) -> None:
    rig.smi.query_status = 15

    with pytest.raises(EffectUnknownError, match="nvidia-smi -q fails"):
        rig.execute()


def test_persistence_mode_is_switched_off_only_where_it_counts_as_a_user(rig: Rig) -> None:
    rig.smi.counts_persistence = True
    steps = MemorySteps()

    rig.execute(steps)

    assert steps.names == [
        *("quiesce", "free", "reset", "persistence-off", "reset-again", "persistence-on"),
        *("check", "restore"),
    ]
    assert rig.smi.persistence == [(("GPU-0",), False), (("GPU-0",), True)]


def test_persistence_mode_is_restored_when_the_second_try_hangs(rig: Rig) -> None:
    rig.smi.counts_persistence = True
    rig.smi.before_reset = lambda: setattr(rig.smi, "answer", SmiAnswer(255, IN_USE))

    with pytest.raises(RefusedError):
        rig.execute()

    assert rig.smi.persistence[-1] == (("GPU-0",), True)


def test_persistence_mode_is_restored_when_it_is_doubtful_whether_it_was_switched_off(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.smi.counts_persistence = True
    switch = rig.smi.set_persistence

    def hanging(uuids: Sequence[str], within: timedelta, *, on: bool) -> None:
        switch(uuids, within, on=on)
        if not on:
            raise EffectUnknownError("nvidia-smi has not ended")

    monkeypatch.setattr(rig.smi, "set_persistence", hanging)

    with pytest.raises(EffectUnknownError, match="has not ended"):
        rig.execute()

    assert rig.smi.persistence == [(("GPU-0",), False), (("GPU-0",), True)]


def test_services_that_do_not_run_again_are_told_with_what_went_wrong_before(rig: Rig) -> None:
    rig.smi.answer = SmiAnswer(255, "primary GPU")
    rig.services.stays_down = True

    with pytest.raises(EffectUnknownError, match=r"primary GPU.*; and then not running again"):
        rig.execute()


def test_success_is_not_proven_while_a_service_is_down(rig: Rig) -> None:
    rig.services.stays_down = True
    with pytest.raises(EffectUnknownError):
        rig.execute()

    found = rig.remediation.verify(TASK)
    assert (found.proof, "not running again" in found.says) == (Proof.DISPROVEN, True)
    rig.services.silent = "the record cannot be read"
    assert rig.remediation.verify(TASK).proof is Proof.UNKNOWN


def test_without_advice_only_nvidia_smi_s_own_word_proves_a_reset(rig: Rig) -> None:
    rig.host.driver.health_of["GPU-0"] = GpuHealth()
    rig.host.prometheus.values = {'advice="reset"': 1.0}
    assert rig.remediation.verify(TASK).proof is Proof.UNKNOWN
    rig.smi.cures = False

    rig.execute()

    assert rig.remediation.verify(TASK).proof is Proof.PROVEN


def test_without_advice_a_refusal_disproves_a_reset(rig: Rig) -> None:
    rig.host.driver.health_of["GPU-0"] = GpuHealth()
    rig.host.prometheus.values = {'advice="reset"': 1.0}
    rig.smi.answer = SmiAnswer(255, "primary GPU")

    with pytest.raises(RefusedError):
        rig.execute()

    assert rig.remediation.verify(TASK).proof is Proof.DISPROVEN


def test_linked_gpus_of_old_generations_are_reset_together(rig: Rig) -> None:
    rig.host.driver.groups["GPU-0"] = ("GPU-0", "GPU-1")

    said = rig.execute()

    assert rig.smi.resets == [("GPU-0", "GPU-1")]
    assert "was reset with 1 that it is linked to" in said


def test_a_linked_gpu_in_use_is_a_hindrance(rig: Rig) -> None:
    rig.host.driver.groups["GPU-0"] = ("GPU-0", "GPU-1")
    hold(rig, minor=1, command="python train.py")
    rig.host.run("train", gpus=(), claims=GpuClaims(ids=("1",)))

    assert "GPU 1: pid" in rig.says(Source.NVML)[1]
    assert "train of alice" in rig.says(Source.DOCKER)[1]


def test_linked_gpus_are_seen_as_they_were_decided_about(rig: Rig) -> None:
    rig.host.driver.groups["GPU-0"] = ("GPU-0", "GPU-1")

    assert rig.observe().context["gpus"] == "GPU-0,GPU-1"
    assert rig.observe().context["is_advised"] is True


@pytest.mark.parametrize("lives", range(len(WHOLE_WAY)))
def test_whoever_dies_between_two_steps_never_resets_twice(rig: Rig, lives: int) -> None:
    """Die before each step in turn; a new life restores the services and takes it up."""

    def die() -> None:
        rig.services.dead = True

    steps = MortalSteps(lives, die)
    with pytest.raises(DiedError):
        rig.execute(steps)
    if "reset" not in steps.names:
        # As at the start of every worker, unless nvidia-smi is still at work.
        rig.services.recover()
    begun = steps.names
    again = MemorySteps(dict.fromkeys(begun, MINUTE))

    if "reset" in begun:
        assert "the GPU is well" in rig.execute(again)
        assert rig.remediation.verify(TASK).proof is Proof.PROVEN
    elif begun:
        with pytest.raises(RefusedError, match="interrupted before the GPU was reset"):
            rig.execute(again)
        assert rig.remediation.verify(TASK).proof is Proof.DISPROVEN
    assert rig.smi.resets == ([("GPU-0",)] if "reset" in begun else [])
    assert again.names == []
    assert rig.services.running == {EXPORTER, ENGINE}


def test_a_reset_that_was_cut_off_and_did_not_happen_is_not_repeated(rig: Rig) -> None:
    with pytest.raises(EffectUnknownError, match="interrupted during the reset: for GPU-0"):
        rig.execute(MemorySteps({"quiesce": MINUTE, "free": MINUTE, "reset": MINUTE}))

    assert rig.smi.resets == []
    assert rig.remediation.verify(TASK).proof is Proof.DISPROVEN
    assert len(rig.folder.texts) == 1


def test_a_nvidia_smi_that_outlived_the_worker_is_waited_for(rig: Rig) -> None:
    rig.lock.taken_by_others = True
    looks = iter(range(10))

    def look() -> None:
        if next(looks) == 1:
            rig.lock.taken_by_others = False
            rig.host.driver.health_of.clear()

    rig.lock.on_look = look

    assert "is well" in rig.execute(MemorySteps({"reset": SECOND}))


def test_a_nvidia_smi_that_never_ends_leaves_the_effect_unknown(rig: Rig) -> None:
    rig.lock.taken_by_others = True
    task = replace(TASK, timeout=timedelta())

    with pytest.raises(EffectUnknownError, match="has not ended since before"):
        rig.remediation.execute(task, MemorySteps({"reset": SECOND}))


def test_persistence_mode_is_restored_after_an_interruption(rig: Rig) -> None:
    rig.host.driver.health_of.clear()

    rig.execute(MemorySteps({"reset": SECOND, "persistence-off": SECOND, "reset-again": SECOND}))

    assert rig.smi.persistence == [(("GPU-0",), True)]


def test_without_advice_an_interrupted_reset_stays_unknown(rig: Rig) -> None:
    rig.host.driver.health_of["GPU-0"] = GpuHealth()

    rig.execute(MemorySteps({"reset": SECOND}))

    assert rig.remediation.verify(TASK).proof is Proof.UNKNOWN


def test_the_evidence_has_everything_a_person_asks_for(rig: Rig) -> None:
    rig.services.on_stop = lambda: hold(rig, command="python \x1b[31mevil\x07.py")
    rig.host.prometheus.xids = {"GPU-0": [("119", "reset")]}

    with pytest.raises(RefusedError):
        rig.execute()

    (text,) = rig.folder.texts
    for part in (
        "it is still held by pid",
        "python [31mevil.py",
        "it advises a reset (recovery action 1)",
        "GPU-0: XID 119, advice reset",
        f"{EXPORTER}: active; now active",
        "NVRM: Xid (PCI:0000:01:00): 119",
        "GPU UUID : GPU-0",
    ):
        assert part in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_evidence_says_who_was_silent_and_a_full_disk_stops_nothing(rig: Rig) -> None:
    rig.smi.answer = SmiAnswer(255, "primary GPU")
    rig.log.silent = "/dev/kmsg cannot be read"
    with pytest.raises(RefusedError):
        rig.execute()
    assert "cannot be told: /dev/kmsg cannot be read" in rig.folder.texts[0]

    rig.folder.is_full = True
    with pytest.raises(RefusedError, match="evidence could not be kept"):
        rig.execute()


def test_only_gpus_are_reset(rig: Rig) -> None:
    with pytest.raises(RefusedError, match="is not a GPU"):
        rig.remediation.execute(Task(TARGET), MemorySteps())
