"""The worker dies after each of its writes in turn, and no limit outlives its alert."""

from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.alerts import Status
from remediator.core.gpus import GpuGauges
from remediator.core.policy import Limit
from remediator.remediations.cap_power import CapPower
from tests.builders import DAY, MINUTE, a_policy, a_rule, an_alert
from tests.fakes import FakeHost, HandClock
from tests.fakes_power import FakePower
from tests.unit.engine_site import EngineSite, ask, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

NEVER = 10**9
HOT = an_alert({"alertname": "hot", "UUID": "GPU-0", "container_id": ""})


class World:
    """A GPU that becomes hot and cools down again, over all lives of its worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        self.power = FakePower(self.host.driver)
        self.cap = CapPower(self.host.prometheus, self.host.driver, self.power)
        rung = replace(hurried("cap-power", Limit(9, DAY)), options={"limit": 70})
        self.policy = a_policy(a_rule(replace(rung, cooldown=MINUTE), alertname="hot"))
        self.writes = 0

    def site(self, lives: int = NEVER) -> EngineSite:
        """A worker's next life."""
        database = open_journal(self.folder)
        # It is a process that dies here, not the machine, and there are hundreds of lives.
        database.rows("PRAGMA synchronous = OFF")
        self.mortal = MortalDatabase(database, lives)
        return EngineSite(
            self.folder,
            self.policy,
            {"cap-power": self.cap},
            self.clock,
            self.mortal,  # type: ignore[arg-type]
        )

    def heat(self) -> None:
        self.host.driver.gauges_of["GPU-0"] = GpuGauges(temperature_celsius=92)
        self.host.fire(HOT, value=92)
        self.deliver(Status.FIRING)

    def cool(self) -> None:
        self.host.quench()
        self.host.driver.gauges_of["GPU-0"] = GpuGauges(temperature_celsius=60)
        self.deliver(Status.RESOLVED)

    def deliver(self, status: Status) -> None:
        site = self.site()
        site.store(body_of(replace(HOT, status=status)))
        site.close()

    def live(self, lives: int = NEVER, *, rounds: int = 12) -> bool:
        """Live a worker's life, or until it dies; return whether it died."""
        site = self.site(lives)
        try:
            for _ in range(rounds):
                site.round()
                site.send()
                self.clock.advance(MINUTE)
        except DiedError:
            self.clock.advance(3 * MINUTE)
            return True
        finally:
            self.writes = self.mortal.writes
            site.close()
        return False

    def is_limited(self) -> bool:
        limits = self.host.driver.power_limits("GPU-0")
        assert limits is not None
        return limits.current != limits.default

    def check(self) -> None:
        """The limit is as it was, all is settled, and each end of a limit was told once."""
        assert not self.is_limited()
        in_force = "SELECT count(*) FROM lasting WHERE ended_at IS NULL"
        assert ask(self.folder, in_force) == [(0,)]
        states = [row[0] for row in ask(self.folder, "SELECT state FROM attempt ORDER BY id")]
        assert set(states) <= {"succeeded", "failed", "refused"}
        [(ended,)] = ask(self.folder, "SELECT count(*) FROM lasting")
        told = ask(self.folder, "SELECT state FROM notice WHERE kind = 'restored'")
        assert set(told) <= {("sent",)}
        assert states.count("succeeded") <= len(told) <= ended
        down = [call for call in self.power.calls if call[1] == 280_000]
        assert len(down) <= len(states) - states.count("refused")


def whole(folder: Path) -> tuple[int, int]:
    """Return how many writes it takes to limit it, and how many to put it back."""
    world = World(folder)
    world.heat()
    assert not world.live()
    assert world.is_limited()
    limiting = world.writes
    world.cool()
    assert not world.live()
    world.check()
    assert world.power.calls == [("GPU-0", 280_000), ("GPU-0", 400_000)]
    return limiting, world.writes


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    return whole(tmp_path_factory.mktemp("whole"))


def test_a_crash_after_any_write_while_it_is_hot_leaves_no_limit_behind(
    tmp_path_factory: pytest.TempPathFactory, writes: tuple[int, int]
) -> None:
    for number in range(1, writes[0] + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.heat()
        assert world.live(number)
        assert not world.live()
        assert world.is_limited(), number
        world.cool()
        assert not world.live()
        world.check()


def test_a_crash_and_an_end_while_nothing_runs_leave_no_limit_behind(
    tmp_path_factory: pytest.TempPathFactory, writes: tuple[int, int]
) -> None:
    for number in range(1, writes[0] + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.heat()
        assert world.live(number)
        world.cool()
        assert not world.live()
        world.check()


def test_a_crash_after_any_write_while_it_is_put_back_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, writes: tuple[int, int]
) -> None:
    for number in range(1, writes[1] + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.heat()
        assert not world.live()
        world.cool()
        assert world.live(number)
        world.live(number % 5 + 1)
        assert not world.live(rounds=20)
        world.check()


@pytest.mark.parametrize("cools_first", [True, False])
def test_a_crash_between_setting_it_and_writing_that_down_leaves_no_limit_behind(
    folder: Path, *, cools_first: bool
) -> None:
    def die() -> None:
        raise DiedError

    world = World(folder)
    world.heat()
    world.power.after_set = die
    assert world.live()
    assert world.is_limited()
    world.power.after_set = lambda: None
    if cools_first:
        world.cool()
        assert not world.live()
    else:
        assert not world.live()
        assert world.is_limited()
        world.cool()
        world.power.after_set = die
        assert world.live()
        world.power.after_set = lambda: None
        assert not world.live()

    world.check()
