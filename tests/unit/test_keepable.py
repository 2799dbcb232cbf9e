"""Which container somebody means, and whether it has to be kept from anything."""

from dataclasses import replace

import pytest

from remediator.core.extensions import Keepable
from remediator.core.gpu_claims import GpuClaims
from remediator.core.limits import LimitsBook
from remediator.core.targets import Container
from remediator.errors import RefusedError, SourceError, TargetGoneError
from remediator.remediations.keepable import KeepableContainers
from remediator.remediations.senses import Senses
from tests.builders import HOUR, SECOND
from tests.fakes import FakeHost, HandClock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(HandClock())


def keepable(host: FakeHost) -> KeepableContainers:
    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    return KeepableContainers(senses, host.limits)


def find(host: FakeHost, name: str) -> Keepable:
    return keepable(host).find(name, host.clock.now())


@pytest.mark.parametrize("digits", [0, 12, 13, 64])
def test_a_container_is_found_by_its_name_its_id_and_the_beginning_of_that(
    host: FakeHost, digits: int
) -> None:
    facts = host.run("train").facts
    host.run("another")

    found = find(host, facts.id[:digits] or "train")

    assert facts.started_at is not None
    assert found == Keepable(Container(facts.id, facts.started_at), "train", 24 * HOUR)


@pytest.mark.parametrize("name", ["tra", "TRAIN", "train\n", "", "0" * 64, "../train"])
def test_what_is_no_name_of_a_container_is_none(host: FakeHost, name: str) -> None:
    host.run("train")

    with pytest.raises(TargetGoneError, match="there is no container"):
        find(host, name)


def test_eleven_digits_are_a_guess(host: FakeHost) -> None:
    with pytest.raises(TargetGoneError):
        find(host, host.run("train").facts.id[:11])


def test_what_may_be_two_is_refused_and_both_are_named(host: FakeHost) -> None:
    first = host.run("train").facts.id
    host.run(first[:12])

    with pytest.raises(RefusedError, match=f"may be any of {first[:12]}, train: give the full id"):
        find(host, first[:12])


@pytest.mark.parametrize("state", ["exited", "created", "dead"])
def test_what_does_not_run_cannot_be_kept(host: FakeHost, state: str) -> None:
    container = host.run("train")
    container.facts = replace(container.facts, state=state)

    with pytest.raises(RefusedError, match=f"train is {state}"):
        find(host, "train")


def test_a_container_without_a_gpu_needs_nothing(host: FakeHost) -> None:
    host.run("web", gpus=(), claims=GpuClaims())

    with pytest.raises(RefusedError, match="web needs no extension: it has no GPU access"):
        find(host, "web")


@pytest.mark.parametrize("label", ["ds01.monitoring", "ds01.protected"])
def test_infrastructure_needs_nothing(host: FakeHost, label: str) -> None:
    host.run("exporter", labels={label: "true"})

    with pytest.raises(RefusedError, match="it is infrastructure"):
        find(host, "exporter")


def test_a_container_that_may_idle_needs_nothing(host: FakeHost) -> None:
    host.run("train")
    host.limits.book = LimitsBook(users={"alice": {"idle_timeout": None}})

    with pytest.raises(RefusedError, match="the limits of group default let it idle"):
        find(host, "train")


def test_the_limits_say_for_how_long(host: FakeHost) -> None:
    host.run("train")
    host.limits.book = LimitsBook(users={"alice": {"keepalive_max": 2 * HOUR}})

    assert find(host, "train").longest == 2 * HOUR


def test_a_silent_docker_is_not_asked_again_at_once(host: FakeHost) -> None:
    host.run("train")
    containers = keepable(host)
    host.docker.silent = "connection refused"
    with pytest.raises(SourceError, match="connection refused"):
        containers.find("train", host.clock.now())

    host.docker.silent = ""
    host.clock.advance(9 * SECOND)
    with pytest.raises(SourceError, match="did not answer a moment ago"):
        containers.find("train", host.clock.now())
    host.clock.advance(SECOND)
    assert containers.find("train", host.clock.now()).name == "train"


def test_what_is_refused_is_no_silence(host: FakeHost) -> None:
    host.run("train")
    containers = keepable(host)
    with pytest.raises(TargetGoneError):
        containers.find("other", host.clock.now())

    assert containers.find("train", host.clock.now()).name == "train"
