"""kill-orphan over a host in memory: whom it spares, and how it ends whom it does not."""

import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.policy import Option
from remediator.core.targets import Named, Process, Subject
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations.kill_orphan import SETTLING, KillOrphan
from remediator.remediations.orphan_senses import OrphanSenses, Permitted
from tests.builders import MINUTE, SECOND, an_alert
from tests.fakes import FakeHost, FakeProcess, HandClock, MemorySteps, a_mig_device
from tests.fakes_processes import FakeProcesses

TERM, KILL = signal.SIGTERM, signal.SIGKILL
OTHERS = "f" * 64


class Rig:
    """A host on which alice's process uses GPU 0 and belongs to nobody."""

    def __init__(self, permitted: Permitted | None = None) -> None:
        self.host = FakeHost(HandClock())
        self.hands = FakeProcesses(self.host.kernel, self.host.driver)
        self.pid = self.host.a_process(on=["GPU-0"])
        senses = OrphanSenses(
            self.host.prometheus, self.host.docker, self.host.driver, self.host.kernel,
            self.host.users, self.host.kernel,
        )  # fmt: skip
        permitted = permitted or Permitted(frozenset({"root"}))
        self.kill = KillOrphan(senses, self.hands, permitted)

    @property
    def process(self) -> FakeProcess:
        return self.host.kernel.processes[self.pid]

    def alert(self, **labels: str) -> Alert:
        own = {
            "pid": str(self.pid),
            "start_ticks": "70",
            "UUID": "GPU-0",
            "user": "alice",
            "comm": "python",
        }
        return an_alert({**own, **labels}, name="DS01GPUOrphanProcess")

    def look(self, **labels: str) -> Observation:
        """Observe an alert that Prometheus confirms."""
        alert = self.alert(**labels)
        self.host.fire(alert)
        return self.kill.observe(alert, self.host.clock.now(), {})

    def task(self, wait: timedelta | None = None) -> Task:
        options: dict[str, Option] = {} if wait is None else {"wait": wait}
        where = {"UUID": "GPU-0", "GPU_I_ID": ""}
        return Task(Process(self.pid, 70, "boot-1"), options=options, context=where)

    def execute(self, steps: MemorySteps | None = None, wait: timedelta | None = None) -> str:
        return self.kill.execute(self.task(wait), steps or MemorySteps())

    def reuse(self) -> None:
        """Let it end, and bob's process have its number, on the same GPU."""
        self.host.kernel.put(self.pid, None).start_ticks = 99


@pytest.fixture
def rig() -> Rig:
    return Rig()


def verdicts(seen: Observation) -> dict[Source, Verdict]:
    return {report.source: report.verdict for report in seen.reports}


def said(seen: Observation) -> str:
    return " | ".join(report.says for report in seen.reports) + f" | {seen.exempt}"


def is_held(seen: Observation) -> bool:
    agree = {report.verdict for report in seen.reports} == {Verdict.AGREES}
    return not agree or seen.exempt is not None or seen.target is None


def test_an_orphan_is_agreed_on_by_all_three_sources(rig: Rig) -> None:
    seen = rig.look()

    asked = (Source.PROMETHEUS, Source.DOCKER, Source.NVML)
    assert verdicts(seen) == dict.fromkeys(asked, Verdict.AGREES)
    assert seen.target == Process(rig.pid, 70, "boot-1")
    assert (seen.owner, seen.title, seen.exempt) == (
        "alice",
        f"pid {rig.pid} (python train.py)",
        None,
    )
    assert seen.context["UUID"] == "GPU-0"
    assert seen.context["summary"] == "it lies idle"
    assert "of alice uses GPU GPU-0 (slot 0)" in said(seen)
    assert "is in no container" in said(seen)


def a_living_containers(rig: Rig) -> None:
    rig.process.container_id = rig.host.run("train").facts.id


def a_nested_containers(rig: Rig) -> None:
    rig.process.outer_ids = (rig.host.run("outer").facts.id,)
    stopped = rig.host.run("inner")
    rig.host.docker.end(stopped.facts.id)
    rig.process.container_id = stopped.facts.id


def a_paused_containers(rig: Rig) -> None:
    container = rig.host.run("train")
    container.facts = replace(container.facts, state="paused")
    rig.process.container_id = container.facts.id


def another_engines(rig: Rig) -> None:
    rig.process.container_id = OTHERS


def one_that_docker_has_forgotten(rig: Rig) -> None:
    container = rig.host.run("train")
    rig.process.container_id = container.facts.id
    rig.host.docker.vanish(container.facts.id)
    rig.host.docker.forget_the_past()


def a_protected_containers(rig: Rig) -> None:
    container = rig.host.run("guard", labels={"ds01.protected": "true"})
    rig.process.container_id = container.facts.id
    rig.host.docker.end(container.facts.id)


def a_removed_protected_containers(rig: Rig) -> None:
    a_protected_containers(rig)
    rig.host.docker.vanish(rig.process.container_id or "")


def set_process(**values: object) -> Callable[[Rig], None]:
    def change(rig: Rig) -> None:
        for name, value in values.items():
            setattr(rig.process, name, value)

    return change


def silence(source: str) -> Callable[[Rig], None]:
    return lambda rig: setattr(getattr(rig.host, source), "silent", "it does not answer")


SPARED = [
    pytest.param(a_living_containers, "its container is running", id="a container's"),
    pytest.param(a_nested_containers, "its container is running", id="a nested container's"),
    pytest.param(a_paused_containers, "its container is running", id="a paused container's"),
    pytest.param(another_engines, "its container is not known", id="another engine's"),
    pytest.param(one_that_docker_has_forgotten, "not known", id="Docker may never have had it"),
    pytest.param(a_protected_containers, "infrastructure", id="protected, stopped"),
    pytest.param(a_removed_protected_containers, "infrastructure", id="protected, removed"),
    pytest.param(set_process(is_hosts=False), "another kind", id="in namespaces of its own"),
    pytest.param(set_process(uid=0), "0 may use GPUs", id="a permitted user's"),
    pytest.param(set_process(uid=998), "service of the host", id="a service's"),
    pytest.param(set_process(comm="Xorg"), "service of the host", id="called like a service"),
    pytest.param(set_process(comm="ollama"), "ollama may use GPUs", id="a permitted program"),
    pytest.param(set_process(start_ticks=71), "another one has its number", id="a reused pid"),
    pytest.param(set_process(state="Z"), "has ended", id="a zombie"),
    pytest.param(lambda rig: rig.host.kernel.forget(rig.pid), "has ended", id="vanished"),
    pytest.param(lambda rig: rig.host.driver.forget(rig.pid), "is not on GPU", id="off the GPU"),
    pytest.param(
        lambda rig: rig.host.driver.lost.update({"GPU-0": "fell off the bus"}),
        "fell off the bus",
        id="a lost GPU's",
    ),
    pytest.param(
        lambda rig: rig.host.driver.remove("GPU-0"), "does not show GPU GPU-0", id="a gone GPU's"
    ),
    pytest.param(silence("driver"), "it does not answer", id="NVML is silent"),
    pytest.param(silence("docker"), "it does not answer", id="Docker is silent"),
    pytest.param(silence("kernel"), "it does not answer", id="/proc is not readable"),
]


@pytest.mark.parametrize(("happens", "because"), SPARED)
def test_what_speaks_for_a_process_is_said_and_holds(
    happens: Callable[[Rig], None], because: str
) -> None:
    rig = Rig(Permitted(frozenset({"0"}), frozenset({"ollama"})))
    happens(rig)

    seen = rig.look()

    assert is_held(seen)
    assert because in said(seen)


@pytest.mark.parametrize(("happens", "because"), SPARED)
@pytest.mark.parametrize("moment", ["before", "while settling", "right before the signal"])
def test_what_speaks_for_it_at_any_moment_keeps_it_from_the_signal(
    happens: Callable[[Rig], None], because: str, moment: str
) -> None:
    rig, steps = Rig(Permitted(frozenset({"0"}), frozenset({"ollama"}))), MemorySteps()
    if moment == "before":
        happens(rig)
    elif moment == "while settling":
        rig.hands.while_waiting = lambda: happens(rig)
    else:
        steps.before_step = lambda name: happens(rig)

    with pytest.raises((RefusedError, TargetGoneError)) as refused:
        rig.execute(steps)

    assert rig.hands.signals == []
    assert because in str(refused.value) or "has ended" in str(refused.value)
    if moment != "right before the signal":
        assert steps.names == [], "what is refused was never begun"


@pytest.mark.parametrize(("happens", "because"), SPARED)
def test_what_speaks_for_it_after_the_first_signal_keeps_it_from_force(
    happens: Callable[[Rig], None], because: str
) -> None:
    rig, steps = Rig(Permitted(frozenset({"0"}), frozenset({"ollama"}))), MemorySteps()
    rig.hands.ignores.add(rig.pid)
    steps.before_step = lambda name: happens(rig) if name == "sigkill" else None

    with pytest.raises((RefusedError, TargetGoneError)) as refused:
        rig.execute(steps)

    assert rig.hands.signals == [(rig.pid, TERM)]
    assert because in str(refused.value)


@pytest.mark.parametrize(
    "labels",
    [
        {"pid": "0"},
        {"pid": "1"},
        {"pid": "-1"},
        {"pid": ""},
        {"pid": "4711 "},
        {"pid": "٤٧١١"},
        {"pid": "9" * 30},
        {"start_ticks": ""},
        {"start_ticks": "0"},
        {"start_ticks": "7e1"},
    ],
)
def test_labels_that_name_no_process_lead_to_none(rig: Rig, labels: dict[str, str]) -> None:
    seen = rig.look(**labels)

    assert seen.target is None
    assert verdicts(seen)[Source.NVML] is Verdict.GONE


def test_what_prometheus_does_not_say_is_no_agreement(rig: Rig) -> None:
    seen = rig.kill.observe(rig.alert(), rig.host.clock.now(), {})

    assert verdicts(seen)[Source.PROMETHEUS] is Verdict.DISAGREES


@pytest.mark.parametrize("removed", [False, True])
def test_what_a_container_of_this_docker_left_is_an_orphan(rig: Rig, removed: bool) -> None:
    container = rig.host.run("train", gpus=(), labels={"team": "a"})
    rig.process.container_id = container.facts.id
    rig.process.uid = 0
    rig.host.docker.end(container.facts.id)
    if removed:
        rig.host.docker.vanish(container.facts.id)

    seen = rig.look()

    assert not is_held(seen)
    assert seen.labels == {"team": "a"}, "for the policy's never"
    assert ("was removed by this Docker" if removed else "is exited") in said(seen)


@pytest.mark.parametrize(
    ("uid", "label", "owner"),
    [
        pytest.param(1001, None, "alice", id="a person's"),
        pytest.param(4711, None, None, id="of a deleted account"),
        pytest.param(65534, None, None, id="nobody's"),
        pytest.param(1001, "bob", "bob", id="left over by bob's container"),
        pytest.param(1001, "nobody here", None, id="left over by somebody's container"),
    ],
)
def test_only_people_are_told_as_owners(
    rig: Rig, uid: int, label: str | None, owner: str | None
) -> None:
    rig.process.uid = uid
    if label is not None:
        container = rig.host.run("train", gpus=(), labels={"ds01.user": label})
        rig.process.container_id = container.facts.id
        rig.host.docker.end(container.facts.id)

    seen = rig.look()

    assert not is_held(seen)
    assert seen.owner == owner


def test_on_a_mig_device_its_instance_counts(rig: Rig) -> None:
    rig.host.driver.add(a_mig_device(2, instance=7))
    rig.host.driver.add(a_mig_device(2, position=1, instance=8))
    rig.host.driver.use("MIG-2-1", rig.pid)

    right, wrong = (rig.look(UUID="GPU-2", GPU_I_ID=instance) for instance in ("8", "7"))

    assert not is_held(right)
    assert "GPU GPU-2, MIG instance 8 (slot 2.1)" in said(right)
    assert verdicts(wrong)[Source.NVML] is Verdict.DISAGREES


def test_what_it_is_called_is_cleaned(rig: Rig) -> None:
    rig.process.command = "python\x1b[2J\n\u202etrain.py" + "x" * 1000

    seen = rig.look()

    assert "\x1b" not in seen.title + said(seen)
    assert "\u202e" not in seen.title + said(seen)
    assert len(seen.title) < 120


def test_one_that_honours_the_signal_is_not_forced(rig: Rig) -> None:
    steps = MemorySteps()

    told = rig.execute(steps)

    assert rig.hands.signals == [(rig.pid, TERM)]
    assert steps.names == ["sigterm", "wait"]
    assert told == "it ended when it was asked to"
    assert rig.hands.waits[0] == SETTLING


def test_one_that_ignores_it_is_ended_by_force_after_its_time(rig: Rig) -> None:
    steps = MemorySteps()
    rig.hands.ignores.add(rig.pid)

    told = rig.execute(steps, wait=3 * SECOND)

    assert rig.hands.signals == [(rig.pid, TERM), (rig.pid, KILL)]
    assert steps.names == ["sigterm", "wait", "sigkill"]
    assert rig.hands.waits[1] == 3 * SECOND
    assert told == "it ignored SIGTERM for 3 s and was ended by force"
    assert rig.kill.verify(rig.task()).proof is Proof.PROVEN


def test_ten_seconds_are_waited_unless_the_policy_says_otherwise(rig: Rig) -> None:
    rig.hands.ignores.add(rig.pid)

    rig.execute()

    assert rig.hands.waits[1] == 10 * SECOND


def test_one_that_ends_by_itself_meanwhile_was_not_ended_by_us(rig: Rig) -> None:
    rig.hands.while_waiting = lambda: rig.host.kernel.forget(rig.pid)

    with pytest.raises(TargetGoneError, match="ended by itself"):
        rig.execute()

    assert rig.hands.signals == []


def test_a_pid_that_is_used_again_before_the_signal_gets_none(rig: Rig) -> None:
    rig.hands.before_signal = rig.reuse

    with pytest.raises(TargetGoneError):
        rig.execute()

    assert rig.hands.signals == []


def test_one_of_ours_is_refused(rig: Rig) -> None:
    rig.hands.own.add(rig.pid)

    with pytest.raises(RefusedError, match="one of ours"):
        rig.execute()


def test_one_that_even_force_does_not_end_is_told_with_its_state(rig: Rig) -> None:
    rig.hands.ignores.add(rig.pid)
    rig.hands.stuck.add(rig.pid)

    with pytest.raises(EffectUnknownError, match="does not end by SIGKILL either: state D"):
        rig.execute()
    found = rig.kill.verify(rig.task())

    assert found.proof is Proof.DISPROVEN
    assert found.says == f"process {rig.pid} is there: state D (uninterruptible)"


def test_nothing_but_a_process_can_be_ended(rig: Rig) -> None:
    task = Task(Named(Subject("host", "gpu1")))

    with pytest.raises(RefusedError, match="not a process"):
        rig.kill.execute(task, MemorySteps())


def test_an_end_is_proven_by_the_kernel_and_the_driver(rig: Rig) -> None:
    rig.host.kernel.forget(rig.pid)
    assert rig.kill.verify(rig.task()).proof is Proof.DISPROVEN, "the driver still lists it"

    rig.host.driver.forget(rig.pid)
    found = rig.kill.verify(rig.task())

    assert found.proof is Proof.PROVEN
    assert found.says == f"process {rig.pid} has ended and is on no GPU"


def test_another_process_with_its_pid_on_the_gpu_is_no_failure(rig: Rig) -> None:
    rig.reuse()

    assert rig.kill.verify(rig.task()).proof is Proof.PROVEN


def test_a_reboot_has_ended_it(rig: Rig) -> None:
    rig.host.kernel.boot = "boot-2"
    rig.host.driver.forget(rig.pid)

    assert rig.kill.verify(rig.task()).proof is Proof.PROVEN
    with pytest.raises(TargetGoneError):
        rig.execute()


@pytest.mark.parametrize("source", ["driver", "kernel"])
def test_a_silent_source_proves_no_end(rig: Rig, source: str) -> None:
    rig.host.kernel.forget(rig.pid)
    silence(source)(rig)

    assert rig.kill.verify(rig.task()).proof is Proof.UNKNOWN


@pytest.mark.parametrize(
    ("ages", "signals", "steps"),
    [
        pytest.param(
            {"sigterm": 2 * SECOND},
            [TERM, KILL],
            ["sigterm-again", "wait", "sigkill"],
            id="nobody knows whether the first signal arrived",
        ),
        pytest.param(
            {"sigterm": 4 * SECOND, "sigterm-again": 2 * SECOND},
            [KILL],
            ["wait", "sigkill"],
            id="it was asked twice",
        ),
        pytest.param(
            {"sigterm": 2 * SECOND, "wait": 2 * SECOND},
            [KILL],
            ["wait", "sigkill"],
            id="during the wait",
        ),
        pytest.param(
            {"sigterm": 13 * SECOND, "wait": 13 * SECOND, "sigkill": 3 * SECOND},
            [KILL],
            ["wait", "sigkill"],
            id="nobody knows whether the force was used",
        ),
    ],
)
def test_an_interrupted_attempt_is_brought_to_its_end(
    rig: Rig, ages: dict[str, timedelta], signals: list[signal.Signals], steps: list[str]
) -> None:
    journal = MemorySteps(ages)
    rig.hands.ignores.add(rig.pid)

    rig.execute(journal)

    assert [number for _, number in rig.hands.signals] == signals
    assert journal.names == steps
    assert rig.hands.waits[0] == SETTLING, "it is looked at twice all the same"


@pytest.mark.parametrize(
    ("ages", "left"),
    [
        ({"sigterm": 4 * SECOND, "wait": 3 * SECOND}, 7 * SECOND),
        ({"sigterm": 4 * SECOND, "wait": -MINUTE}, 10 * SECOND),
        ({"sigterm": 13 * SECOND, "wait": 12 * SECOND}, timedelta()),
        ({"sigterm": 4 * SECOND}, 10 * SECOND),
    ],
)
def test_only_the_rest_of_the_time_is_waited_for(
    rig: Rig, ages: dict[str, timedelta], left: timedelta
) -> None:
    rig.hands.ignores.add(rig.pid)

    rig.execute(MemorySteps(ages))

    assert rig.hands.waits[1] == left


def test_one_that_is_gone_after_an_interruption_has_ended(rig: Rig) -> None:
    rig.host.kernel.forget(rig.pid)
    steps = MemorySteps({"sigterm": SECOND})

    assert "ended since" in rig.execute(steps)
    assert (steps.names, rig.hands.signals) == ([], [])


def test_what_was_interrupted_long_ago_is_to_be_decided_anew(rig: Rig) -> None:
    steps = MemorySteps({"sigterm": 42 * SECOND, "wait": 41 * SECOND})

    with pytest.raises(EffectUnknownError, match="before the interruption"):
        rig.execute(steps)

    assert (steps.names, rig.hands.signals) == ([], [])


@pytest.mark.parametrize(("happens", "because"), SPARED)
def test_what_speaks_for_it_after_an_interruption_leaves_it_alone(
    happens: Callable[[Rig], None], because: str
) -> None:
    rig = Rig(Permitted(frozenset({"0"}), frozenset({"ollama"})))
    happens(rig)
    steps = MemorySteps({"sigterm": SECOND, "wait": SECOND})
    try:
        told = rig.execute(steps)
    except EffectUnknownError as error:
        told = str(error)

    assert rig.hands.signals == []
    assert because in told or "has ended" in told
