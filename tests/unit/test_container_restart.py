from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.attempts import Proof, Task, Verification
from remediator.core.observation import Report, Source, Verdict
from remediator.core.targets import Service
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.remediations.container_restart import ContainerRestart
from remediator.remediations.restart_dcgm import PATIENCE
from tests.builders import HOUR, MINUTE, NOON, SECOND
from tests.fakes import FakeHost, HandClock, MemorySteps

NAME = "dcgm-exporter"


class Site:
    """A host whose exporter is a container that has run for hours."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        self.docker = self.host.docker
        self.exporter = self.host.run(NAME, gpus=())
        self.id = self.exporter.facts.id
        self.restart = ContainerRestart(
            self.docker,
            self.docker,
            PATIENCE,
            least_stop=0.05 * SECOND,
            settles_for=timedelta(),
            starts_for=0.05 * SECOND,
        )

    def look(self, name: str = NAME) -> Report:
        return self.restart.look(name, NOON - 10 * MINUTE, NOON)[0]

    def task(self) -> Task:
        _, context = self.restart.look(NAME, NOON - 10 * MINUTE, NOON)
        # Its start later on is told apart by its time.
        self.clock.advance(MINUTE)
        return Task(Service(NAME, "gpu1"), timeout=0.05 * SECOND, context=context)

    def become(self, state: str, exit_code: int | None = None) -> None:
        facts = replace(self.exporter.facts, state=state, exit_code=exit_code)
        self.exporter.facts = facts

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.docker.calls]

    def verify(self, task: Task) -> Verification:
        return self.restart.verify(task)


@pytest.fixture
def site() -> Site:
    return Site()


ASKED = ["stop-softly"]


@pytest.mark.parametrize(
    ("state", "exit_code", "verdict"),
    [
        ("running", None, Verdict.AGREES),
        ("restarting", 1, Verdict.AGREES),
        ("exited", 1, Verdict.AGREES),
        ("exited", 139, Verdict.AGREES),
        ("exited", 0, Verdict.DISAGREES),
        ("exited", 137, Verdict.DISAGREES),
        ("exited", 143, Verdict.DISAGREES),
        ("paused", None, Verdict.DISAGREES),
        ("created", 0, Verdict.DISAGREES),
        ("dead", 1, Verdict.DISAGREES),
        ("removing", 1, Verdict.DISAGREES),
    ],
)
def test_a_container_is_judged_by_its_state(
    site: Site, state: str, exit_code: int | None, verdict: Verdict
) -> None:
    site.become(state, exit_code)

    report = site.look()

    assert (report.source, report.verdict) == (Source.DOCKER, verdict)
    assert f"{NAME} is {state}" in report.says


def test_a_container_that_was_started_anew_is_given_time(site: Site) -> None:
    site.exporter.facts = replace(site.exporter.facts, started_at=NOON - MINUTE)
    assert site.look().verdict is Verdict.DISAGREES

    site.exporter.facts = replace(site.exporter.facts, started_at=NOON - 2 * MINUTE)
    assert site.look().verdict is Verdict.AGREES


def test_without_the_begin_of_the_alert_nothing_is_known(site: Site) -> None:
    assert site.restart.look(NAME, None, NOON)[0].verdict is Verdict.SILENT


def test_only_a_container_of_that_very_name_is_meant(site: Site) -> None:
    assert site.look("other").verdict is Verdict.GONE
    assert site.look(site.id[:12]).verdict is Verdict.GONE
    assert site.look(site.id).verdict is Verdict.AGREES


def test_a_silent_engine_is_no_agreement(site: Site) -> None:
    site.docker.silent = "connection refused"

    assert site.look().verdict is Verdict.SILENT


def test_it_is_asked_to_end_and_started_and_never_forced(site: Site) -> None:
    task, steps = site.task(), MemorySteps()

    said = site.restart.restart(task, steps)

    assert said == f"{NAME} was restarted"
    assert steps.names == ["stop", "start"]
    assert steps.said["stop"] == "ended: exited (143)"
    assert site.verbs() == [*ASKED, "start"]
    assert site.verify(task).proof is Proof.PROVEN


def test_one_that_has_crashed_is_only_started(site: Site) -> None:
    site.docker.end(site.id, 1)
    task = site.task()

    site.restart.restart(task, MemorySteps())

    assert site.verbs() == ["start"]
    assert site.verify(task).proof is Proof.PROVEN


def test_one_that_does_not_end_is_left_to_people(site: Site) -> None:
    site.exporter.ignores_sigterm = True
    task = site.task()

    with pytest.raises(EffectUnknownError, match="is not killed: a person has to look"):
        site.restart.restart(task, MemorySteps())

    assert site.verbs() == ASKED
    assert site.docker.inspect(site.id).is_running
    assert site.verify(task).says.endswith("still the old run")


def test_one_that_ends_by_itself_just_then_is_started(site: Site) -> None:
    task = site.task()
    site.docker.before_stop = lambda: site.docker.end(site.id, 1)

    site.restart.restart(task, MemorySteps())

    assert site.verify(task).proof is Proof.PROVEN


def test_lost_answers_do_not_leave_it_down(site: Site) -> None:
    site.docker.loses_answers = True
    task = site.task()

    with pytest.raises(EffectUnknownError):
        site.restart.restart(task, MemorySteps())

    assert site.docker.inspect(site.id).is_running
    assert site.verify(task).proof is Proof.PROVEN


def test_what_changed_since_the_decision_is_refused(site: Site) -> None:
    task = site.task()
    site.docker.restart(site.id, 5000)
    with pytest.raises(TargetGoneError, match="started anew"):
        site.restart.restart(task, MemorySteps())

    task = site.task()
    site.become("paused")
    with pytest.raises(RefusedError, match="paused"):
        site.restart.restart(task, MemorySteps())

    site.docker.silent = "connection refused"
    with pytest.raises(RefusedError, match="connection refused"):
        site.restart.restart(task, MemorySteps())
    assert site.verbs() == []


@pytest.mark.parametrize(
    ("begun", "before", "then"),
    [
        pytest.param({"stop": SECOND}, "running", [*ASKED, "start"], id="before it was asked"),
        pytest.param({"stop": SECOND}, "ended", ["start"], id="after it had ended"),
        pytest.param({"stop": SECOND, "start": SECOND}, "ended", ["start"], id="before its start"),
        pytest.param({"stop": SECOND, "start": SECOND}, "anew", [], id="after its start"),
    ],
)
def test_a_crash_at_any_point_neither_repeats_nor_leaves_it_down(
    site: Site, begun: dict[str, timedelta], before: str, then: list[str]
) -> None:
    task = site.task()
    if before != "running":
        site.docker.end(site.id, 143)
    if before == "anew":
        site.docker.restart(site.id, 5000)

    site.restart.restart(task, MemorySteps(begun))

    assert site.verbs() == then
    assert site.verify(task).proof is Proof.PROVEN


def test_a_silent_engine_after_a_crash_leaves_doubt(site: Site) -> None:
    task = site.task()
    site.docker.silent = "connection refused"

    with pytest.raises(EffectUnknownError):
        site.restart.restart(task, MemorySteps({"stop": SECOND}))
    assert site.verify(task).proof is Proof.UNKNOWN


def test_what_does_not_stay_up_is_no_success(site: Site) -> None:
    task = site.task()
    site.docker.end(site.id, 1)
    assert site.verify(task).says == f"{NAME} is exited (1)"

    site.docker.vanish(site.id)
    assert site.verify(task).proof is Proof.DISPROVEN


def test_a_run_that_ends_while_it_is_watched_is_no_success(site: Site) -> None:
    task = site.task()
    site.docker.restart(site.id, 5000)
    restart = ContainerRestart(site.docker, site.docker, HOUR, SECOND, settles_for=SECOND)
    looks = iter([False, True])

    def die_at_the_second_look() -> None:
        if next(looks):
            site.docker.end(site.id, 1)

    site.docker.before_inspect = die_at_the_second_look

    assert restart.verify(task).says == f"{NAME} does not stay up: it is exited (1)"
