"""The worker dies after each of its writes in turn; a service is restarted once all the same."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.policy import Limit, Policy
from remediator.remediations.restart_service import RestartService
from tests.builders import HOUR, MINUTE, NOON, a_policy, a_rule, an_alert
from tests.fakes import FakeFiring, FakePrometheus, HandClock
from tests.fakes_services import Call, FakeServices
from tests.unit.engine_site import EngineSite, ask, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

NEVER = 10**9
UNIT = "good.service"
NAME = "DS01ExporterDown"


class World:
    """A host with a service whose alert fires until it has been restarted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.alert = an_alert({"instance": "127.0.0.1:9101"}, name=NAME)
        self.prometheus = FakePrometheus()
        self.prometheus.alerts.append(FakeFiring(self.alert.labels, NOON + HOUR))
        self.units = FakeServices()
        self.units.put(UNIT)
        self.units.before_call = lambda _call: self.prometheus.alerts.clear()
        self.remediation = RestartService(
            self.prometheus, self.units, "gpu1", settles_for=timedelta()
        )
        self.writes = 0

    def policy(self) -> Policy:
        rung = replace(hurried("restart-service", Limit(9, 24 * HOUR)), options={"unit": UNIT})
        return a_policy(a_rule(rung, alertname=NAME))

    def live(self, lives: int = NEVER) -> bool:
        """Live a worker's life, or until it dies; return whether it died."""
        database = open_journal(self.folder)
        database.rows("PRAGMA synchronous = OFF")
        mortal = MortalDatabase(database, lives)
        remediations = {self.remediation.name: self.remediation}
        site = EngineSite(
            self.folder,
            self.policy(),
            remediations,
            self.clock,
            mortal,  # type: ignore[arg-type]
        )
        try:
            for _ in range(6):
                site.round()
                site.send()
                self.clock.advance(2 * MINUTE)
        except DiedError:
            self.clock.advance(3 * MINUTE)
            return True
        finally:
            self.writes = mortal.writes
            site.close()
        return False

    def deliver(self) -> None:
        site = EngineSite(self.folder, self.policy(), {}, self.clock)
        site.store(body_of(self.alert))
        site.close()

    def check(self) -> None:
        """It was restarted once, runs, and the attempt that did so has succeeded."""
        states = [row[0] for row in ask(self.folder, "SELECT state FROM attempt ORDER BY id")]
        acted = ask(self.folder, "SELECT state FROM notice WHERE kind = 'acted'")
        assert self.units.calls == [Call("restart", UNIT)]
        assert self.units.running() == {UNIT}
        assert states[-1] == "succeeded"
        assert set(states[:-1]) <= {"refused"}
        assert acted == [("sent",)]


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> int:
    world = World(tmp_path_factory.mktemp("whole"))
    world.deliver()
    assert not world.live()
    world.check()
    return world.writes


def test_a_crash_after_any_write_restarts_once_and_tells_once(
    tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    assert writes > 8
    for number in range(1, writes + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.deliver()
        assert world.live(number)
        assert not world.live()
        world.check()
