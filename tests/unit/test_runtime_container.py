"""stop-container for a container that has run for too long, whatever it does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from remediator.core.exemptions import Exemption
from remediator.core.gpu_claims import GpuClaims
from remediator.core.limits import LimitsBook
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import Container
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from tests.builders import HOUR, MINUTE, SECOND, an_alert
from tests.fakes import FakeContainer, FakeHost, HandClock

NAME = "DS01ContainerMaxRuntime"


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost(HandClock())
    # It works as hard as it can: that is no reason to run for ever.
    host.driver.utilization["GPU-0"] = 100
    return host


@pytest.fixture
def stop(host: FakeHost) -> StopContainer:
    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    return StopContainer(senses, host.docker, host.limits)


def look(
    host: FakeHost, stop: StopContainer, container: FakeContainer, name: str = NAME
) -> Observation:
    """Observe an alert that Prometheus confirms."""
    labels = {"container_id": container.facts.id, "container": container.facts.name}
    alert = an_alert(labels, name=name)
    host.fire(alert, since=MINUTE)
    return stop.observe(alert, host.clock.now(), {})


def verdict(seen: Observation, source: Source = Source.DOCKER) -> Verdict:
    report = seen.report_of(source)
    assert report is not None
    return report.verdict


def said(seen: Observation) -> str:
    report = seen.report_of(Source.DOCKER)
    assert report is not None
    return report.says


def test_a_busy_container_that_reached_its_maximum_runtime_is_agreed_on(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(age=49 * HOUR)

    seen = look(host, stop, container)

    assert {report.source for report in seen.reports} == {Source.PROMETHEUS, Source.DOCKER}
    assert {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert said(seen).endswith("for 2 d 1 h: it has reached its maximum runtime of 2 d")
    assert seen.target == Container(container.facts.id, host.clock.now() - 49 * HOUR)
    assert (seen.owner, seen.title, seen.exempt) == ("alice", "idle", None)
    assert seen.context["gpus"] == "0"
    assert seen.context["grace_seconds"] == 60.0


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        pytest.param(48 * HOUR - SECOND, Verdict.DISAGREES, id="a second before"),
        pytest.param(48 * HOUR, Verdict.AGREES, id="to the second"),
    ],
)
def test_the_limit_is_what_docker_and_the_limits_say_now(
    host: FakeHost, stop: StopContainer, age: timedelta, expected: Verdict
) -> None:
    assert verdict(look(host, stop, host.run(age=age))) is expected


def test_a_limit_that_was_raised_since_the_alert_protects(
    host: FakeHost, stop: StopContainer
) -> None:
    host.limits.book = LimitsBook(users={"alice": {"max_runtime": 72 * HOUR}})

    assert verdict(look(host, stop, host.run(age=49 * HOUR))) is Verdict.DISAGREES


def test_no_limit_is_an_exemption(host: FakeHost, stop: StopContainer) -> None:
    host.limits.book = LimitsBook(users={"alice": {"max_runtime": None}})

    seen = look(host, stop, host.run(age=250 * HOUR))

    assert seen.exempt == "the limits of group default let it run"


def test_a_granted_exemption_says_by_whom(host: FakeHost, stop: StopContainer) -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    granted = Exemption("alice", frozenset({"max_runtime"}), "a paper", "carol", until)
    host.limits.book = LimitsBook(exemptions=(granted,))

    seen = look(host, stop, host.run(age=250 * HOUR))

    assert seen.exempt is not None
    assert "carol" in seen.exempt


def test_an_exemption_from_idling_is_none_from_running(host: FakeHost, stop: StopContainer) -> None:
    until = datetime(2030, 1, 1, tzinfo=UTC)
    granted = Exemption("alice", frozenset({"idle_timeout"}), "a paper", "carol", until)
    host.limits.book = LimitsBook(exemptions=(granted,))

    assert look(host, stop, host.run(age=250 * HOUR)).exempt is None


def test_a_keep_alive_does_not_protect(host: FakeHost, stop: StopContainer) -> None:
    container = host.run(age=49 * HOUR)
    container.keep_alive = (host.clock.now(), host.clock.now())

    seen = look(host, stop, container)

    assert (seen.exempt, verdict(seen)) == (None, Verdict.AGREES)


def test_infrastructure_is_exempt(host: FakeHost, stop: StopContainer) -> None:
    container = host.run(age=250 * HOUR, labels={"ds01.protected": "true"})

    assert "infrastructure" in str(look(host, stop, container).exempt)


def test_a_silent_driver_keeps_nobody_running(host: FakeHost, stop: StopContainer) -> None:
    host.driver.silent = "driver not loaded"

    seen = look(host, stop, host.run(age=49 * HOUR))

    assert {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert seen.context["gpus"] == ""


def test_a_gpu_it_uses_without_a_claim_is_one_of_its_own(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(gpus=("GPU-0", "GPU-1"), claims=GpuClaims(ids=("GPU-0",)), age=49 * HOUR)
    host.driver.lost["GPU-0"] = "GPU is lost"

    assert look(host, stop, container).context["gpus"] == "0, 1"


def test_a_container_that_was_restarted_since_the_alert_began_is_another_one(
    host: FakeHost, stop: StopContainer
) -> None:
    host.limits.book = LimitsBook(users={"alice": {"max_runtime": timedelta()}})

    assert verdict(look(host, stop, host.run(age=30 * SECOND))) is Verdict.GONE


@pytest.mark.parametrize("state", ["exited", "created", "dead", "removing"])
def test_a_container_that_does_not_run_is_gone(
    host: FakeHost, stop: StopContainer, state: str
) -> None:
    container = host.run(age=49 * HOUR)
    container.facts = replace(container.facts, state=state)

    assert verdict(look(host, stop, container)) is Verdict.GONE


def test_a_container_without_gpu_access_is_none_of_our_business(
    host: FakeHost, stop: StopContainer
) -> None:
    container = host.run(gpus=(), claims=GpuClaims(), age=49 * HOUR)

    assert verdict(look(host, stop, container)) is Verdict.DISAGREES


def test_a_broken_limits_file_stops_nobody(host: FakeHost, stop: StopContainer) -> None:
    host.limits.is_good = False

    seen = look(host, stop, host.run(age=49 * HOUR))

    assert (verdict(seen), seen.exempt) == (Verdict.SILENT, None)


def test_a_silent_docker_is_no_agreement(host: FakeHost, stop: StopContainer) -> None:
    container = host.run(age=49 * HOUR)
    host.docker.silent = "connection refused"

    seen = look(host, stop, container)

    assert (verdict(seen), seen.target) == (Verdict.SILENT, None)


def test_what_prometheus_does_not_say_is_no_agreement(host: FakeHost, stop: StopContainer) -> None:
    container = host.run(age=49 * HOUR)
    alert = an_alert({"container_id": container.facts.id}, name=NAME)

    seen = stop.observe(alert, host.clock.now(), {})

    assert verdict(seen, Source.PROMETHEUS) is Verdict.DISAGREES


@pytest.mark.parametrize(
    "name", ["", "DS01ContainerNeverStarted", "DS01GPUWaste", "ds01containeridle", "ContainerIdle"]
)
def test_an_alert_that_says_nothing_to_be_checked_stops_nobody(
    host: FakeHost, stop: StopContainer, name: str
) -> None:
    seen = look(host, stop, host.run(age=250 * HOUR), name)

    assert (verdict(seen), seen.target) == (Verdict.SILENT, None)
    assert said(seen) == f"stop-container does not know how to check {name}"


def test_a_warning_ahead_of_time_cannot_stop_a_container_ahead_of_time(
    host: FakeHost, stop: StopContainer
) -> None:
    """Whatever the policy says: Docker and the limits know better than the alert's name."""
    container = host.run(age=20 * HOUR)

    assert verdict(look(host, stop, container, f"{NAME}Soon")) is Verdict.DISAGREES


@pytest.mark.parametrize(
    ("labels", "seconds"),
    [
        pytest.param({"ds01.container_type": "devcontainer"}, 30, id="devcontainer"),
        pytest.param({"com.docker.compose.project": "x"}, 45, id="compose"),
        pytest.param({"ds01.container_type": "docker"}, 60, id="docker"),
        pytest.param({"ds01.interface": "api"}, 30, id="api"),
        pytest.param({"ds01.container_type": "unknown"}, 30, id="unknown"),
        pytest.param({"ds01.interface": "orchestration"}, 60, id="ds01"),
    ],
)
def test_the_grace_is_that_of_the_containers_type(
    host: FakeHost, stop: StopContainer, labels: dict[str, str], seconds: float
) -> None:
    container = host.run(age=200 * HOUR, labels={"ds01.user": "alice", **labels})

    assert look(host, stop, container).context["grace_seconds"] == seconds
