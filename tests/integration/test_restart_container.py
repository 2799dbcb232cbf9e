"""restart-dcgm where Docker owns the exporter, on a real engine."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from docker.models.containers import Container

from remediator.actuators.containers import ContainerActuator
from remediator.core.attempts import Proof, Task
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import Service
from remediator.errors import EffectUnknownError, RefusedError
from remediator.remediations.container_restart import ContainerRestart
from remediator.remediations.dcgm_watch import DcgmWatch
from remediator.remediations.restart_dcgm import RestartDcgm
from remediator.sources.dcgm_page import DcgmPage
from remediator.sources.docker_engine import DockerSource
from tests.builders import HOUR, SECOND, an_alert
from tests.eventually import eventually
from tests.fakes import FakeFiring, FakePrometheus, MemorySteps
from tests.fakes_dcgm import MeteredDriver
from tests.peers.dcgm_host import NAME, address_of, answers, run_container
from tests.peers.dockerd import DockerEngine
from tests.unit.mortal import DiedError, MortalSteps

pytestmark = [pytest.mark.integration, pytest.mark.docker]

STALE = an_alert({"instance": "127.0.0.1:9400"}, name="DS01DCGMStale")


class Exporter:
    """The exporter as a container, and the remediation that knows it by name."""

    def __init__(self, engine: DockerEngine, source: DockerSource) -> None:
        self._engine = engine
        self._source = source

    def start(
        self, *arguments: str, restart: str = "no", least_stop: timedelta = 10 * SECOND
    ) -> None:
        self.container: Container = run_container(
            self._engine, *arguments, "GPU-0", "GPU-1", restart=restart
        )
        self.address = address_of(self._engine, self.container)
        hands = ContainerActuator(self._engine.url, 5 * SECOND)
        prometheus = FakePrometheus()
        # It began when the container was long up, as far as its age is concerned.
        prometheus.alerts.append(FakeFiring(STALE.labels, datetime.now(UTC) + HOUR))
        self.remediation = RestartDcgm(
            prometheus,
            ContainerRestart(self._source, hands, timedelta(), least_stop, 0.5 * SECOND),
            DcgmWatch(
                DcgmPage(f"http://{self.address}/metrics", SECOND),
                MeteredDriver(gpus=2),
                SECOND,
                0.1 * SECOND,
            ),
            Service(NAME, "gpu-host"),
        )

    def look(self) -> Observation:
        return self.remediation.observe(STALE, datetime.now(UTC), {})

    def task(self) -> Task:
        seen = self.look()
        assert seen.target is not None
        return Task(seen.target, timeout=SECOND, context=seen.context)

    def verdict(self) -> Verdict:
        report = self.look().report_of(Source.DOCKER)
        assert report is not None
        return report.verdict

    def state(self) -> tuple[str, str]:
        """Docker's word for it, and when this run started."""
        self.container.reload()
        return self.container.status, self.container.attrs["State"]["StartedAt"]

    def is_(self, state: str) -> Callable[[], bool]:
        return lambda: self.state()[0] == state


@pytest.fixture
def exporter(engine: DockerEngine, docker_client: object) -> Iterator[Exporter]:
    """An exporter that is removed after the test (by ``docker_client``)."""
    del docker_client
    source = DockerSource(engine.url, 5 * SECOND)
    yield Exporter(engine, source)
    source.close()


@pytest.mark.parametrize(
    ("broken_by", "restart"),
    [
        pytest.param("SIGSTOP", "no", id="hung"),
        pytest.param("SIGUSR1", "unless-stopped", id="frozen"),
        pytest.param("SIGUSR2", "always", id="answers 500"),
    ],
)
def test_a_broken_exporter_is_restarted_until_its_values_are_fresh(
    exporter: Exporter, broken_by: str, restart: str
) -> None:
    exporter.start(restart=restart)
    assert exporter.look().reports[-1].verdict is Verdict.DISAGREES
    exporter.container.kill(broken_by)
    seen = exporter.look()
    assert {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert {report.source for report in seen.reports} >= {Source.DOCKER, Source.DCGM}
    task, steps, before = exporter.task(), MemorySteps(), exporter.state()

    exporter.remediation.execute(task, steps)
    eventually(lambda: answers(exporter.address), 5, "it answers")
    found = exporter.remediation.verify(task)

    assert steps.said["stop"] == "ended: exited (0)"
    assert (found.proof, exporter.state()[0]) == (Proof.PROVEN, "running")
    assert exporter.state() != before
    assert exporter.container.attrs["Id"] == exporter.container.id


def test_one_that_has_crashed_is_started(exporter: Exporter) -> None:
    exporter.start()
    exporter.container.kill("SIGHUP")
    eventually(exporter.is_("exited"), 5, "it has crashed")
    assert exporter.verdict() is Verdict.AGREES
    task, steps = exporter.task(), MemorySteps()

    exporter.remediation.execute(task, steps)
    eventually(lambda: answers(exporter.address), 5, "it answers")

    assert steps.names == ["start"]
    assert exporter.remediation.verify(task).proof is Proof.PROVEN


def test_one_that_does_not_end_is_never_killed(exporter: Exporter) -> None:
    exporter.start("--ignores-term", least_stop=SECOND)
    exporter.container.kill("SIGUSR1")
    task, before = exporter.task(), exporter.state()

    with pytest.raises(EffectUnknownError, match="a person has to look"):
        exporter.remediation.execute(task, MemorySteps())

    assert exporter.remediation.verify(task).proof is Proof.DISPROVEN
    assert exporter.state() == before
    assert answers(exporter.address)


def test_what_somebody_stopped_or_paused_is_left_so(exporter: Exporter) -> None:
    exporter.start()
    task = exporter.task()
    exporter.container.pause()
    assert exporter.verdict() is Verdict.DISAGREES
    with pytest.raises(RefusedError):
        exporter.remediation.execute(task, MemorySteps())

    exporter.container.unpause()
    exporter.container.stop(timeout=5)

    assert exporter.verdict() is Verdict.DISAGREES


@pytest.mark.parametrize("step", ["stop", "start"])
@pytest.mark.parametrize("done", [False, True], ids=["before it", "after it"])
def test_a_worker_that_dies_between_two_steps_restarts_once_and_leaves_it_up(
    exporter: Exporter, step: str, done: bool
) -> None:
    exporter.start()
    exporter.container.kill("SIGUSR1")
    task, before = exporter.task(), exporter.state()
    with pytest.raises(DiedError):
        exporter.remediation.execute(task, MortalSteps(step, done=done))
    begun = ("stop",) if step == "stop" else ("stop", "start")
    steps = MemorySteps(dict.fromkeys(begun, SECOND))

    exporter.remediation.execute(task, steps)
    eventually(lambda: answers(exporter.address), 5, "it answers")

    assert exporter.remediation.verify(task).proof is Proof.PROVEN
    assert exporter.state()[1] > before[1]
    if (step, done) == ("start", True):
        assert steps.names == []
