"""remove-container over a host in memory: what it takes for gone, for good, and for another."""

from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.attempts import Proof, Task
from remediator.core.gpu_claims import GpuClaims
from remediator.core.limits import LimitsBook
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import Container, Named, Subject, UnstartedContainer
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations.leftover_container import target_of
from remediator.remediations.remove_container import RemoveContainer
from remediator.remediations.senses import Senses
from tests.builders import HOUR, MINUTE, SECOND, THREE_SOURCES, an_alert
from tests.fakes import FakeContainer, FakeHost, HandClock, MemorySteps

NEVER_STARTED = "DS01ContainerNeverStarted"
STOPPED = "DS01StoppedContainerHoldsGPU"


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(HandClock())


@pytest.fixture
def remove(host: FakeHost) -> RemoveContainer:
    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    return RemoveContainer(senses, host.docker, host.limits)


def stopped(host: FakeHost, ago: timedelta = HOUR, **options: object) -> FakeContainer:
    """Return a container that its owner stopped a while *ago*."""
    container = host.run("left", **options)  # type: ignore[arg-type]
    host.docker.end(container.facts.id, 143)
    container.facts = replace(container.facts, finished_at=host.clock.now() - ago)
    return container


def look(
    host: FakeHost, remove: RemoveContainer, container: FakeContainer, name: str = STOPPED
) -> Observation:
    """Observe an alert that Prometheus confirms."""
    alert = an_alert({"container_id": container.facts.id}, name=name)
    host.fire(alert, since=MINUTE)
    return remove.observe(alert, host.clock.now(), {})


def verdict(seen: Observation, source: Source = Source.DOCKER) -> Verdict:
    report = seen.report_of(source)
    assert report is not None
    return report.verdict


def said(seen: Observation, source: Source = Source.DOCKER) -> str:
    report = seen.report_of(source)
    assert report is not None
    return report.says


def a_task(container: FakeContainer) -> Task:
    return Task(target_of(container.facts), context={"gpus": "0"})


def test_a_container_that_was_stopped_for_longer_than_its_hold_is_agreed_on(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = stopped(host)

    seen = look(host, remove, container)

    assert {r.source: r.verdict for r in seen.reports} == dict.fromkeys(
        THREE_SOURCES, Verdict.AGREES
    )
    assert seen.target == Container(container.facts.id, host.clock.now() - 5 * HOUR)
    assert (seen.owner, seen.title, seen.exempt) == ("alice", "left", None)
    assert seen.context["gpus"] == "0"
    assert said(seen).endswith("for 1 h; it may be for 15 min")
    assert host.docker.calls == []


def test_a_container_that_was_never_started_is_agreed_on(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = host.create()

    seen = look(host, remove, container, NEVER_STARTED)

    assert {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert seen.target == UnstartedContainer(container.facts.id, host.clock.now() - HOUR)
    assert said(seen).startswith("created is created since ")
    assert said(seen).endswith("for 1 h; it may be for 30 min")


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        pytest.param(3 * SECOND, Verdict.DISAGREES, id="three seconds ago"),
        pytest.param(15 * MINUTE - SECOND, Verdict.DISAGREES, id="a second before"),
        pytest.param(15 * MINUTE, Verdict.AGREES, id="to the second"),
    ],
)
def test_a_stopped_container_is_held_for_its_time(
    host: FakeHost, remove: RemoveContainer, ago: timedelta, expected: Verdict
) -> None:
    alert = an_alert({"container_id": stopped(host, ago).facts.id}, name=STOPPED)
    host.fire(alert, since=timedelta())

    assert verdict(remove.observe(alert, host.clock.now(), {})) is expected


@pytest.mark.parametrize(
    ("age", "expected"),
    [(30 * MINUTE - SECOND, Verdict.DISAGREES), (30 * MINUTE, Verdict.AGREES)],
)
def test_a_container_may_wait_for_its_first_start(
    host: FakeHost, remove: RemoveContainer, age: timedelta, expected: Verdict
) -> None:
    assert verdict(look(host, remove, host.create(age=age), NEVER_STARTED)) is expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"hold_after_stop": 2 * HOUR}, Verdict.DISAGREES),
        ({"hold_after_stop": MINUTE}, Verdict.AGREES),
    ],
)
def test_the_limits_in_force_now_count(
    host: FakeHost,
    remove: RemoveContainer,
    limits: dict[str, timedelta],
    expected: Verdict,
) -> None:
    host.limits.book = LimitsBook(users={"alice": limits})

    assert verdict(look(host, remove, stopped(host))) is expected


def test_an_admins_container_is_held_for_an_hour(host: FakeHost, remove: RemoveContainer) -> None:
    host.limits.book = LimitsBook(members={"alice": "admin"})

    assert verdict(look(host, remove, stopped(host, 59 * MINUTE))) is Verdict.DISAGREES
    assert verdict(look(host, remove, stopped(host, 60 * MINUTE))) is Verdict.AGREES


@pytest.mark.parametrize("limit", ["hold_after_stop", "created_timeout"])
def test_no_limit_is_an_exemption(host: FakeHost, remove: RemoveContainer, limit: str) -> None:
    host.limits.book = LimitsBook(users={"alice": {limit: None}})
    is_stopped = limit == "hold_after_stop"
    container = stopped(host) if is_stopped else host.create()

    seen = look(host, remove, container, STOPPED if is_stopped else NEVER_STARTED)

    assert seen.exempt == "the limits of group default let it stay"


@pytest.mark.parametrize("name", [STOPPED, NEVER_STARTED])
def test_infrastructure_is_exempt(host: FakeHost, remove: RemoveContainer, name: str) -> None:
    container = stopped(host) if name == STOPPED else host.create()
    container.facts = replace(container.facts, labels={"ds01.monitoring": "true"})

    assert "infrastructure" in str(look(host, remove, container, name).exempt)


def test_a_keep_alive_does_not_keep_what_does_not_run(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = stopped(host)
    container.keep_alive = (host.clock.now(), host.clock.now())

    assert look(host, remove, container).exempt is None


@pytest.mark.parametrize("state", ["running", "paused", "restarting"])
@pytest.mark.parametrize("name", [STOPPED, NEVER_STARTED])
def test_a_container_that_runs_is_not_left_over(
    host: FakeHost, remove: RemoveContainer, state: str, name: str
) -> None:
    container = stopped(host)
    container.facts = replace(container.facts, state=state)

    seen = look(host, remove, container, name)

    assert (verdict(seen), said(seen)) == (Verdict.DISAGREES, f"left is {state}")


@pytest.mark.parametrize(
    ("name", "state"),
    [
        (STOPPED, "created"),
        (STOPPED, "removing"),
        (NEVER_STARTED, "exited"),
        (NEVER_STARTED, "dead"),
    ],
)
def test_a_container_in_another_state_is_another_matter(
    host: FakeHost, remove: RemoveContainer, name: str, state: str
) -> None:
    container = stopped(host)
    container.facts = replace(container.facts, state=state)

    assert verdict(look(host, remove, container, name)) is Verdict.GONE


def test_what_an_earlier_removal_left_may_be_removed(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = stopped(host)
    container.facts = replace(container.facts, state="dead")

    assert verdict(look(host, remove, container)) is Verdict.AGREES


def test_a_container_that_ran_once_more_since_the_alert_began_is_another_one(
    host: FakeHost, remove: RemoveContainer
) -> None:
    host.limits.book = LimitsBook(users={"alice": {"hold_after_stop": timedelta()}})

    seen = look(host, remove, stopped(host, 30 * SECOND))

    assert verdict(seen) is Verdict.GONE
    assert "it ran since" in said(seen)


def test_processes_of_it_on_a_gpu_contradict_docker(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = stopped(host)
    pid = host.a_process(container.facts.id)
    host.driver.use("GPU-1", pid)

    seen = look(host, remove, container)

    assert verdict(seen, Source.NVML) is Verdict.DISAGREES
    assert str(pid) in said(seen, Source.NVML)


def test_processes_of_others_and_lost_gpus_do_not(host: FakeHost, remove: RemoveContainer) -> None:
    container = stopped(host)
    host.run("other")
    host.driver.lost["GPU-1"] = "GPU is lost"

    assert verdict(look(host, remove, container), Source.NVML) is Verdict.AGREES


def test_silence_is_no_agreement(host: FakeHost, remove: RemoveContainer) -> None:
    container = stopped(host)
    host.driver.silent = "driver not loaded"
    without_driver = look(host, remove, container)
    host.limits.is_good = False
    without_limits = look(host, remove, container)
    host.docker.silent = "connection refused"

    assert verdict(without_driver, Source.NVML) is Verdict.SILENT
    assert verdict(without_limits) is Verdict.SILENT
    assert verdict(look(host, remove, container)) is Verdict.SILENT


def test_what_prometheus_does_not_say_is_no_agreement(
    host: FakeHost, remove: RemoveContainer
) -> None:
    alert = an_alert({"container_id": stopped(host).facts.id}, name=STOPPED)

    seen = remove.observe(alert, host.clock.now(), {})

    assert verdict(seen, Source.PROMETHEUS) is Verdict.DISAGREES
    assert verdict(seen) is Verdict.SILENT


def test_a_container_without_gpu_access_is_none_of_our_business(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = stopped(host, gpus=(), claims=GpuClaims())

    assert verdict(look(host, remove, container)) is Verdict.DISAGREES


@pytest.mark.parametrize("name", ["", "DS01ContainerIdle", "DS01ContainerMaxRuntime"])
def test_an_alert_that_says_nothing_to_be_checked_removes_nothing(
    host: FakeHost, remove: RemoveContainer, name: str
) -> None:
    seen = look(host, remove, stopped(host), name)

    assert (verdict(seen), seen.target) == (Verdict.SILENT, None)
    assert said(seen) == f"remove-container does not know how to check {name}"


@pytest.mark.parametrize("never_ran", [True, False])
def test_it_is_removed_in_one_step(
    host: FakeHost, remove: RemoveContainer, never_ran: bool
) -> None:
    container = host.create() if never_ran else stopped(host)
    steps = MemorySteps()

    said = remove.execute(a_task(container), steps)

    assert (said, steps.names) == ("it is removed", ["remove"])
    assert host.docker.calls == [("remove", container.facts.id)]
    assert remove.verify(a_task(container)).proof is Proof.PROVEN


def test_one_that_was_started_meanwhile_is_left_alone(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), MemorySteps()
    task = a_task(container)
    host.docker.restart(container.facts.id, host.a_process(container.facts.id))

    with pytest.raises(TargetGoneError, match="started since"):
        remove.execute(task, steps)

    assert (steps.names, host.docker.calls) == ([], [])
    found = remove.verify(task)
    assert (found.proof, found.says) == (
        Proof.DISPROVEN,
        "left was started since, and is running",
    )


def test_one_that_was_started_and_stopped_again_is_another_one(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), MemorySteps()
    task = a_task(container)
    host.docker.restart(container.facts.id, host.a_process(container.facts.id))
    host.docker.end(container.facts.id, 0)

    with pytest.raises(TargetGoneError):
        remove.execute(task, steps)

    assert steps.names == []


def test_one_that_had_its_first_start_is_another_target(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = host.create(), MemorySteps()
    task = a_task(container)
    host.docker.restart(container.facts.id, host.a_process(container.facts.id))
    host.docker.end(container.facts.id, 0)

    with pytest.raises(TargetGoneError):
        remove.execute(task, steps)

    assert steps.names == []


def test_docker_refuses_one_that_is_started_at_the_last_moment(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), MemorySteps()

    class Late:
        """Hands that find it running."""

        def remove(self, container_id: str) -> None:
            host.docker.restart(container_id, host.a_process(container_id))
            host.docker.remove(container_id)

    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    late = RemoveContainer(senses, Late(), host.limits)
    task = a_task(container)

    with pytest.raises(RefusedError):
        late.execute(task, steps)

    assert host.docker.get(container.facts.id).facts.is_running
    assert late.verify(task).proof is Proof.DISPROVEN


def test_nothing_is_done_about_one_that_is_gone_or_cannot_be_seen(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), MemorySteps()
    task = a_task(container)
    host.docker.silent = "connection refused"
    with pytest.raises(RefusedError, match="connection refused"):
        remove.execute(task, steps)
    host.docker.silent = ""
    host.docker.vanish(container.facts.id)
    with pytest.raises(TargetGoneError):
        remove.execute(task, steps)

    assert steps.names == []


def test_only_containers_are_removed(remove: RemoveContainer) -> None:
    with pytest.raises(RefusedError, match="host:here is not a container"):
        remove.execute(Task(Named(Subject("host", "here"))), MemorySteps())


def test_one_that_vanishes_during_its_removal_is_gone(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), MemorySteps()

    class Slow:
        """Hands that are too late."""

        def remove(self, container_id: str) -> None:
            raise TargetGoneError(f"container {container_id} no longer exists")

    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)

    said = RemoveContainer(senses, Slow(), host.limits).execute(a_task(container), steps)

    assert (said, steps.said) == ("it was gone already", {"remove": "it was gone already"})


def before() -> MemorySteps:
    return MemorySteps({"remove": 5 * SECOND})


def test_a_removal_that_was_cut_off_is_repeated(host: FakeHost, remove: RemoveContainer) -> None:
    container, steps = stopped(host), before()

    remove.execute(a_task(container), steps)

    assert host.docker.calls == [("remove", container.facts.id)]


def test_a_removal_that_had_its_effect_is_not_repeated(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), before()
    task = a_task(container)
    host.docker.vanish(container.facts.id)

    assert remove.execute(task, steps).startswith("after the interruption: ")
    assert (steps.names, host.docker.calls) == ([], [])
    assert remove.verify(task).proof is Proof.PROVEN


def test_one_that_was_started_after_the_interruption_is_left_alone(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container, steps = stopped(host), before()
    task = a_task(container)
    host.docker.restart(container.facts.id, host.a_process(container.facts.id))

    assert "was started since" in remove.execute(task, steps)
    assert (steps.names, host.docker.calls) == ([], [])
    assert remove.verify(task).proof is Proof.DISPROVEN


def test_after_a_crash_a_silent_docker_leaves_the_effect_unknown(
    host: FakeHost, remove: RemoveContainer
) -> None:
    container = stopped(host)
    host.docker.silent = "connection refused"

    with pytest.raises(EffectUnknownError):
        remove.execute(a_task(container), before())
    assert remove.verify(a_task(container)).proof is Proof.UNKNOWN


@pytest.mark.parametrize(
    ("state", "proof"), [("exited", Proof.DISPROVEN), ("removing", Proof.UNKNOWN)]
)
def test_one_that_is_still_there_is_no_proof(
    host: FakeHost, remove: RemoveContainer, state: str, proof: Proof
) -> None:
    container = stopped(host)
    container.facts = replace(container.facts, state=state)

    assert remove.verify(a_task(container)).proof is proof
