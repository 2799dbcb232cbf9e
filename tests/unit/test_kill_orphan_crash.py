"""The worker dies after each of its writes in turn while it ends an orphan that ignores SIGTERM."""

import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.policy import Audience, Limit, Policy, Warn
from remediator.remediations.kill_orphan import KillOrphan
from remediator.remediations.orphan_senses import OrphanSenses, Permitted
from tests.builders import DAY, MINUTE, SECOND, a_policy, a_rule, an_alert
from tests.fakes import FakeHost, HandClock
from tests.fakes_processes import FakeProcesses
from tests.unit.engine_site import EngineSite, ask, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

NEVER = 10**9
ALERT = "DS01GPUOrphanProcess"
TERM, KILL = signal.SIGTERM, signal.SIGKILL


class World:
    """A host with an orphan and a container's process, over all lives of its workers."""

    def __init__(self, folder: Path, down: timedelta) -> None:
        self.folder = folder
        self.down = down
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        self.hands = FakeProcesses(self.host.kernel, self.host.driver)
        self.orphan = self.host.a_process(on=["GPU-0"])
        self.hands.ignores.add(self.orphan)
        self.host.run("train")
        labels = {"pid": str(self.orphan), "start_ticks": "70", "UUID": "GPU-0"}
        self.alert = an_alert(labels, name=ALERT)
        self.host.fire(self.alert)
        senses = OrphanSenses(
            self.host.prometheus, self.host.docker, self.host.driver, self.host.kernel,
            self.host.users, self.host.kernel,
        )  # fmt: skip
        self.kill = KillOrphan(senses, self.hands, Permitted(frozenset({"root"})))
        self.writes = 0

    def policy(self) -> Policy:
        rung = replace(hurried("kill-orphan", Limit(9, DAY)), cooldown=MINUTE)
        warn = Warn(5 * MINUTE, (Audience.ADMINS,))
        return a_policy(a_rule(rung, alertname=ALERT, warn=warn))

    def live(self, lives: int = NEVER, *, rounds: int = 20) -> bool:
        """Live a worker's life, or until it dies; return whether it died."""
        database = open_journal(self.folder)
        # It is a process that dies here, not the machine, and there are many lives.
        database.rows("PRAGMA synchronous = OFF")
        mortal = MortalDatabase(database, lives)
        remediations = {self.kill.name: self.kill}
        site = EngineSite(self.folder, self.policy(), remediations, self.clock, mortal)  # type: ignore[arg-type]
        try:
            for _ in range(rounds):
                site.round()
                site.send()
                self.clock.advance(2 * MINUTE)
        except DiedError:
            self.clock.advance(self.down)
            return True
        finally:
            self.writes = mortal.writes
            site.close()
        return False

    def deliver(self) -> None:
        site = EngineSite(self.folder, self.policy(), {self.kill.name: self.kill}, self.clock)
        site.store(body_of(self.alert))
        site.close()

    def check(self) -> None:
        """The orphan was ended and nobody else was signalled; all is settled and told."""
        assert self.orphan not in self.host.kernel.processes
        assert {pid for pid, _ in self.hands.signals} == {self.orphan}
        numbers = [number for _, number in self.hands.signals]
        assert numbers.count(KILL) == 1
        assert numbers[-1] is KILL
        assert 1 <= numbers.count(TERM) <= 2, "it is asked again only where nobody knows"
        states = [row[0] for row in ask(self.folder, "SELECT state FROM attempt ORDER BY id")]
        assert set(states) <= {"succeeded", "failed", "refused"}
        assert states.count("succeeded") == 1
        told = ask(self.folder, "SELECT kind, state FROM notice WHERE kind = 'acted'")
        assert told == [("acted", "sent")]


def test_the_whole_story_is_written_down(folder: Path) -> None:
    world = World(folder, 3 * SECOND)
    world.deliver()
    assert not world.live()

    world.check()

    steps = [row[0] for row in ask(folder, "SELECT name FROM step ORDER BY id")]
    assert steps == ["sigterm", "wait", "sigkill"]
    assert ask(folder, "SELECT subject FROM incident") == [(f"process:{world.orphan}@70",)]
    assert ask(folder, "SELECT target FROM attempt") == [(f"process:{world.orphan}@70/boot-1",)]


@pytest.mark.parametrize("down", [3 * SECOND, 3 * MINUTE], ids=["for seconds", "for minutes"])
def test_a_crash_after_any_write_ends_the_orphan_and_nobody_else(
    tmp_path_factory: pytest.TempPathFactory, down: timedelta
) -> None:
    whole = World(tmp_path_factory.mktemp("whole"), down)
    whole.deliver()
    assert not whole.live()
    deaths = 0
    for number in range(1, whole.writes + 1):
        world = World(tmp_path_factory.mktemp("life"), down)
        world.deliver()
        deaths += world.live(number)
        assert not world.live()
        world.check()

    assert deaths == whole.writes
    assert whole.writes > 15


def test_a_crash_during_the_recovery_changes_nothing_either(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for number in range(8, 20, 2):
        for second in (1, 3):
            world = World(tmp_path_factory.mktemp("lives"), 3 * SECOND)
            world.deliver()
            world.live(number)
            world.live(second)
            assert not world.live()
            world.check()
