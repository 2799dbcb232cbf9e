"""The worker dies after each of its writes, from a stop to the end of what the stop has left."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.policy import Limit
from remediator.remediations.kill_orphan import KillOrphan
from remediator.remediations.orphan_senses import OrphanSenses, Permitted
from remediator.remediations.own_alerts import OwnAlerts
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from tests.builders import HOUR, MINUTE, a_policy, a_rule, an_alert
from tests.fakes import FakeHost, HandClock
from tests.fakes_processes import FakeProcesses
from tests.unit.engine_site import EngineSite, ask, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

NEVER = 10**9
MANY = Limit(9, 24 * HOUR)


class World:
    """A host with an idle container, and a process of nobody on its GPU."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        container = self.host.run()
        self.pid = self.host.a_process(on=["GPU-0"])
        self.hands = FakeProcesses(self.host.kernel, self.host.driver)
        prometheus = OwnAlerts(self.host.prometheus)
        senses = Senses(
            prometheus, self.host.docker, self.host.driver, self.host.kernel, self.host.users
        )
        orphans = OrphanSenses(
            prometheus, self.host.docker, self.host.driver, self.host.kernel, self.host.users,
            self.host.kernel,
        )  # fmt: skip
        self.stop = StopContainer(senses, self.host.docker, self.host.limits)
        self.kill = KillOrphan(orphans, self.hands, Permitted())
        self.alert = an_alert({"container_id": container.facts.id, "container": "idle"})
        self.host.fire(self.alert)
        self.writes = 0

    def live(self, lives: int = NEVER) -> bool:
        """Live a worker's life, or until it dies; return whether it died."""
        database = open_journal(self.folder)
        # It is a process that dies here, not the machine.
        database.rows("PRAGMA synchronous = OFF")
        mortal = MortalDatabase(database, lives)
        rungs = [
            replace(hurried(name, MANY), cooldown=MINUTE)
            for name in (self.stop.name, "kill-orphan")
        ]
        policy = a_policy(
            a_rule(rungs[0]), a_rule(rungs[1], name="orphan", alertname="DS01GPUOrphanProcess")
        )
        remediations = {self.stop.name: self.stop, self.kill.name: self.kill}
        site = EngineSite(self.folder, policy, remediations, self.clock, mortal)  # type: ignore[arg-type]
        try:
            for _ in range(12):
                site.round()
                self.clock.advance(timedelta(minutes=2))
        except DiedError:
            self.clock.advance(timedelta(minutes=3))
            return True
        finally:
            self.writes = mortal.writes
            site.close()
        return False

    def deliver(self) -> None:
        site = EngineSite(self.folder, clock=self.clock)
        site.store(body_of(self.alert))
        site.close()

    def check(self) -> None:
        """The container was stopped once, and what it left was hinted at and ended once."""
        stops = [call for call in self.host.docker.calls if call[0] == "stop"]
        done = "SELECT remediation FROM attempt WHERE state = 'succeeded' ORDER BY id"
        assert len(stops) == 1
        assert [pid for pid, _ in self.hands.signals] == [self.pid]
        assert ask(self.folder, done) == [("stop-container",), ("kill-orphan",)]
        assert ask(self.folder, "SELECT count(*) FROM firing WHERE origin = 'epilog'") == [(1,)]
        assert ask(self.folder, "SELECT count(*) FROM step WHERE name = 'epilog'") == [(1,)]
        assert ask(self.folder, "SELECT closed_at IS NULL FROM incident WHERE id = 2") == [(0,)]


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> int:
    world = World(tmp_path_factory.mktemp("whole"))
    world.deliver()
    assert not world.live()
    world.check()
    return world.writes


def test_a_crash_after_any_write_neither_repeats_nor_loses_a_hint(
    tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    assert writes > 15
    for number in range(1, writes + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.deliver()
        assert world.live(number)
        assert not world.live()
        world.check()
