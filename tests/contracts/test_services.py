"""What the hands on services promise, kept by systemd and by the fake alike."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from remediator.actuators.services import Services
from remediator.core.services import UnitLinks, UnitState
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.system_bus import SystemBus
from tests.builders import HOUR, MINUTE, SECOND
from tests.eventually import eventually
from tests.fakes_services import FakeServices
from tests.peers import units
from tests.peers.systemd_host import SystemdHost

HALF = 0.5 * SECOND


class Hands(Protocol):
    def states(self, units: Collection[str]) -> Mapping[str, UnitState]: ...
    def links(self, units: Collection[str]) -> Mapping[str, UnitLinks]: ...
    def stop(self, unit: str, within: timedelta) -> None: ...
    def start(self, unit: str, within: timedelta, *, alone: bool = False) -> None: ...
    def restart(self, unit: str, within: timedelta) -> None: ...
    def settled(self, unit: str, for_: timedelta) -> str | None: ...


@dataclass
class Rig:
    """The hands, a way to have units running, and hands whose systemd has gone away."""

    services: Hands
    put: Callable[[str], None]
    deaf: Callable[[], Hands]
    now: Callable[[], datetime]

    def state(self, unit: str) -> UnitState:
        return self.services.states([unit])[unit]


@pytest.fixture(scope="module")
def real_host(request: pytest.FixtureRequest) -> Iterator[SystemdHost]:
    host: SystemdHost = request.getfixturevalue("systemd_host")
    units.install(host)
    yield host
    units.remove(host)


@pytest.fixture(
    params=[
        "fake",
        pytest.param(
            "real", marks=[pytest.mark.integration, pytest.mark.docker, pytest.mark.systemd]
        ),
    ]
)
def rig(request: pytest.FixtureRequest) -> Rig:
    if request.param == "fake":
        fake, deaf = FakeServices(), FakeServices()
        deaf.silent = "the bus is gone"
        return Rig(fake, fake.put, lambda: deaf, lambda: next(iter(since(fake))))
    host: SystemdHost = request.getfixturevalue("real_host")
    units.reset(host)
    nowhere = Services(SystemBus("unix:path=/nonexistent/bus", SECOND))
    return Rig(
        Services(SystemBus(host.bus_address, 10 * SECOND)),
        lambda unit: assert_started(host, unit),
        lambda: nowhere,
        lambda: datetime.now(UTC),
    )


def since(fake: FakeServices) -> Iterator[datetime]:
    moments = [fake.states([name])[name].active_since for name in fake.running()]
    return (moment for moment in moments if moment)


def assert_started(host: SystemdHost, unit: str) -> None:
    host.systemctl("start", unit)
    eventually(lambda: unit in units.running(host), 10, f"{unit} runs")


def test_a_unit_is_described_by_what_it_does_now(rig: Rig) -> None:
    rig.put("good.service")

    state = rig.state("good")

    assert (state.name, state.load, state.active, state.job) == (
        "good.service",
        "loaded",
        "active",
        0,
    )
    assert state.is_running
    assert not state.is_quiet
    assert len(state.invocation_id) == 32
    assert state.active_since is not None
    assert abs(rig.now() - state.active_since) < MINUTE


@pytest.mark.parametrize(
    ("unit", "load"), [("masked", "masked"), (units.MISSING, "not-found"), ("idle", "loaded")]
)
def test_what_cannot_be_or_is_not_started_is_a_value(rig: Rig, unit: str, load: str) -> None:
    state = rig.state(unit)

    assert state.load == load
    assert not state.is_running
    assert state.is_quiet


@pytest.mark.parametrize(("unit", "patience"), [("slowstop", 10 * SECOND), ("good", 90 * SECOND)])
def test_how_long_a_stop_may_take_before_it_is_killed_is_known(
    rig: Rig, unit: str, patience: timedelta
) -> None:
    state = rig.state(unit)

    assert (state.stop_timeout, state.sends_sigkill) == (patience, True)


def test_many_are_asked_about_at_once(rig: Rig) -> None:
    rig.put("good.service")

    states = rig.services.states(["idle", "good.service", "nosuch"])

    assert [unit for unit, state in states.items() if state.is_running] == ["good.service"]
    assert rig.services.states([]) == {}


def test_what_hangs_together_is_known(rig: Rig) -> None:
    for unit in ("dependent.service", "socketed.socket", "socketed.service"):
        rig.put(unit)

    links = rig.services.links(["good", "socketed", "socketed.socket", "wanting"])

    assert links["good"].takes_down == ("dependent.service",)
    assert links["socketed"].started_by == ("socketed.socket",)
    assert links["socketed.socket"].starts == ("socketed.service",)
    assert "wanted.service" in links["wanting"].pulls_in


def test_a_stop_has_come_to_its_end_when_it_returns(rig: Rig) -> None:
    rig.put("slowstop.service")

    rig.services.stop("slowstop", 10 * SECOND)

    assert rig.state("slowstop").is_quiet


def test_a_unit_that_had_to_be_killed_is_down(rig: Rig) -> None:
    rig.put("hungstop.service")

    rig.services.stop("hungstop", 10 * SECOND)

    assert rig.state("hungstop").active == "failed"
    assert rig.state("hungstop").is_quiet


def test_a_stop_that_takes_too_long_is_of_unknown_effect(rig: Rig) -> None:
    rig.put("stuck.service")

    with pytest.raises(EffectUnknownError, match=r"stuck\.service takes too long to stop"):
        rig.services.stop("stuck", HALF)

    state = rig.state("stuck")
    assert not state.is_running, "it was told to stop"
    assert not state.is_quiet, "and has not done so"


def test_stopping_takes_down_what_requires_it(rig: Rig) -> None:
    rig.put("dependent.service")

    rig.services.stop("good", 5 * SECOND)

    assert rig.state("dependent").is_quiet


def test_what_is_down_can_be_stopped_and_what_runs_started(rig: Rig) -> None:
    rig.put("good.service")
    before = rig.state("good").invocation_id

    rig.services.stop("idle", 5 * SECOND)
    rig.services.start("good", 5 * SECOND)

    assert rig.state("good").invocation_id == before


def test_a_crash_loop_runs_until_it_is_stopped(rig: Rig) -> None:
    rig.put("crashloop.service")
    assert rig.state("crashloop").is_running

    rig.services.stop("crashloop", 5 * SECOND)

    assert rig.state("crashloop").is_quiet


def test_starting_pulls_in_what_is_wanted_unless_alone(rig: Rig) -> None:
    rig.services.start("wanting", 5 * SECOND, alone=True)
    assert not rig.state("wanted").is_running
    rig.services.stop("wanting", 5 * SECOND)

    rig.services.start("wanting", 5 * SECOND)

    assert rig.state("wanted").is_running


def test_a_restart_is_a_new_run_and_leaves_dependents_up(rig: Rig) -> None:
    rig.put("dependent.service")
    before = rig.state("good").invocation_id

    rig.services.restart("good", 5 * SECOND)

    assert rig.state("good").invocation_id != before
    assert rig.state("dependent").is_running


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_many_restarts_in_a_row_do_not_take_it_down(rig: Rig, verb: str) -> None:
    for _ in range(6):
        if verb == "start":
            rig.services.stop("limited", 5 * SECOND)
        getattr(rig.services, verb)("limited", 5 * SECOND)

    assert rig.state("limited").is_running


@pytest.mark.parametrize("unit", ["failing", "noprogram"])
def test_what_does_not_come_up_is_not_called_started(rig: Rig, unit: str) -> None:
    trouble: str | None = ""
    try:
        rig.services.start(unit, 5 * SECOND)
    except EffectUnknownError as error:
        trouble = str(error)
    else:
        trouble = rig.services.settled(unit, HALF)

    assert "failed (exit-code)" in str(trouble)


@pytest.mark.parametrize("unit", ["oneshot", "remains", "good", "socketed.socket", "timed.timer"])
def test_what_comes_up_stays_up(rig: Rig, unit: str) -> None:
    rig.services.start(unit, 5 * SECOND)

    assert rig.services.settled(unit, HALF) is None


def test_a_crash_loop_does_not_settle(rig: Rig) -> None:
    rig.services.start("crashloop", 5 * SECOND)

    assert rig.services.settled("crashloop", 2 * SECOND)


def test_a_socket_cannot_be_started_while_its_service_runs(rig: Rig) -> None:
    rig.put("socketed.service")

    with pytest.raises(EffectUnknownError, match=r"socketed\.socket was started, and is inactive"):
        rig.services.start("socketed.socket", 5 * SECOND)


@pytest.mark.parametrize("verb", ["stop", "start", "restart"])
def test_a_unit_that_does_not_exist_is_gone(rig: Rig, verb: str) -> None:
    with pytest.raises(TargetGoneError, match=r"there is no unit nosuch\.service"):
        getattr(rig.services, verb)("nosuch", HOUR)


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_masked_unit_is_refused(rig: Rig, verb: str) -> None:
    with pytest.raises(RefusedError, match=f"systemd refused to {verb} masked.service"):
        getattr(rig.services, verb)("masked", HOUR)


@pytest.mark.parametrize("verb", ["stop", "start", "restart"])
def test_without_a_bus_nothing_is_changed(rig: Rig, verb: str) -> None:
    with pytest.raises(RefusedError, match=f"systemd cannot be reached to {verb} good.service"):
        getattr(rig.deaf(), verb)("good", SECOND)


def test_without_a_bus_nothing_is_known(rig: Rig) -> None:
    for ask in (rig.deaf().states, rig.deaf().links):
        with pytest.raises(SourceError):
            ask(["good"])
    with pytest.raises(SourceError):
        rig.deaf().settled("good", SECOND)
