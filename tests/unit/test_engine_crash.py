"""The worker dies after each of its writes in turn, and the next one brings it to an end.

What is acted on is `StopContainer` over a host in memory, so that what counts can be counted: how
often the container was told to stop.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.policy import Audience, Limit, Policy, Warn
from remediator.journal.journal import FILE
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from tests.builders import HOUR, MINUTE, a_policy, a_rule, an_alert
from tests.eventually import eventually
from tests.fakes import FakeContainer, FakeHost, HandClock
from tests.unit.engine_site import EngineSite, ask, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

NEVER = 10**9
_LOOKS = "SELECT id, next_look_at FROM incident"


class World:
    """A host with an idle container, and what its workers have sent, over all their lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.host = FakeHost(self.clock)
        self.container: FakeContainer = self.host.run()
        labels = {"container_id": self.container.facts.id, "container": "idle"}
        self.alert = an_alert(labels)
        self.host.fire(self.alert)
        senses = Senses(
            self.host.prometheus, self.host.docker, self.host.driver, self.host.kernel,
            self.host.users,
        )  # fmt: skip
        self.remediation = StopContainer(senses, self.host.docker, self.host.limits)
        self.acted: list[str] = []
        self.writes = 0

    def policy(self) -> Policy:
        rung = replace(hurried("stop-container", Limit(9, 24 * HOUR)), cooldown=MINUTE)
        return a_policy(a_rule(rung, warn=Warn(5 * MINUTE, (Audience.OWNER,))))

    def site(self, lives: int = NEVER) -> EngineSite:
        """A worker's next life."""
        database = open_journal(self.folder)
        # It is a process that dies here, not the machine, and there are hundreds of lives.
        database.rows("PRAGMA synchronous = OFF")
        self.mortal = MortalDatabase(database, lives)
        return EngineSite(
            self.folder,
            self.policy(),
            {self.remediation.name: self.remediation},
            self.clock,
            self.mortal,  # type: ignore[arg-type]
        )

    def is_told(self) -> bool:
        """Whether the end has come, and everybody has heard of it."""
        told = ask(self.folder, "SELECT count(*) FROM notice WHERE kind = 'acted'")
        waiting = ask(self.folder, "SELECT count(*) FROM notice WHERE state = 'pending'")
        return told[0][0] > 0 and waiting[0][0] == 0

    def cut_the_power(self) -> None:
        """Leave of the journal what is on the disk; the worker is dead already."""
        path = self.folder / FILE
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        path.write_bytes(self.mortal.on_disk)

    def live(self, lives: int = NEVER, *, rounds: int = 20) -> bool:
        """Live a worker's life, or until it dies; return whether it died."""
        site = self.site(lives)
        try:
            for _ in range(rounds):
                site.round()
                site.send()
                self.clock.advance(2 * MINUTE)
        except DiedError:
            # The next one is started a while later.
            self.clock.advance(3 * MINUTE)
            return True
        finally:
            self.writes = self.mortal.writes
            self.acted += [
                f"{e.name} {e.letter.kind.value} {e.letter.recipient}"
                for notifier in (site.mail, site.wall)
                for e in notifier.sent
            ]
            site.close()
        return False

    def deliver(self) -> None:
        site = self.site()
        site.store(body_of(self.alert))
        site.close()

    def check(self) -> None:
        """The container was stopped once, all is settled, and each was told of it once."""
        told = ask(self.folder, "SELECT recipient, kind, state FROM notice")
        acted = [row for row in told if row[1] == "acted"]
        stops = [call for call in self.host.docker.calls if call[0] == "stop"]
        states = [row[0] for row in ask(self.folder, "SELECT state FROM attempt ORDER BY id")]
        assert len(stops) == 1
        assert not self.host.docker.exists(self.container.facts.id)
        assert set(states) <= {"succeeded", "failed", "refused"}
        assert states.count("succeeded") == 1
        assert acted == [("admins", "acted", "sent")]
        assert [row for row in told if row[1] == "warning"] == [
            ("alice", "warning", "sent"),
            ("alice", "warning", "sent"),
        ]
        assert {line.split()[1] for line in self.acted} >= {"acted", "warning"}
        assert ask(self.folder, "SELECT count(*) FROM firing") == [(1,)]


def writes_of_a_whole_life(folder: Path) -> int:
    world = World(folder)
    world.deliver()
    assert not world.live()
    world.check()
    return world.writes


@pytest.fixture(scope="module")
def writes(tmp_path_factory: pytest.TempPathFactory) -> int:
    return writes_of_a_whole_life(tmp_path_factory.mktemp("whole"))


def test_a_life_without_a_crash_stops_once_and_tells_once(writes: int) -> None:
    # Intake, looks, warning, plan, claim, three steps, settling, three letters.
    assert writes > 15


def test_a_crash_after_any_write_neither_repeats_nor_loses_anything(
    tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    deaths = 0
    for number in range(1, writes + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.deliver()
        deaths += world.live(number)
        assert not world.live()
        world.check()

    assert deaths == writes


def test_a_power_failure_after_any_write_neither_repeats_nor_loses_anything(
    tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    lost = 0
    for number in range(1, writes + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.deliver()
        assert world.live(number)
        before = ask(world.folder, "SELECT * FROM intake"), ask(world.folder, _LOOKS)
        world.cut_the_power()
        after = ask(world.folder, "SELECT * FROM intake"), ask(world.folder, _LOOKS)
        lost += before != after
        assert not world.live()
        world.check()

    # Some of what nobody waits for was really lost, and made up for.
    assert lost > 2


def test_a_crash_during_the_recovery_from_a_crash_changes_nothing_either(
    tmp_path_factory: pytest.TempPathFactory, writes: int
) -> None:
    for number in range(4, writes, 3):
        for second in (2, 3, 5, 8, 13):
            world = World(tmp_path_factory.mktemp("lives"))
            world.deliver()
            world.live(number)
            world.live(second)
            assert not world.live()
            world.check()


def test_a_worker_that_only_ever_lives_for_a_few_writes_gets_there(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    world = World(tmp_path_factory.mktemp("short"))
    world.deliver()
    lives = 0
    while not world.is_told():
        # It never comes to rest: the clock is kept once a minute, which is a write as well.
        world.live(6)
        lives += 1
        assert lives < 60

    world.check()
    assert lives > 2


@pytest.mark.parametrize("number", range(2, 30, 3))
def test_a_real_worker_brings_to_its_end_what_a_crash_left(folder: Path, number: int) -> None:
    world = World(folder)
    world.deliver()
    world.live(number)
    site = world.site()
    with site.working():

        def is_told() -> bool:
            world.clock.advance(timedelta(seconds=1))
            rows = site.ask("SELECT 1 FROM notice WHERE kind = 'acted' AND state = 'sent'")
            return len(rows) == 1

        eventually(is_told, 60, "it is stopped and told")
        eventually(lambda: site.journal.notices.waiting() == 0, 10, "all letters are sent")
    site.close()
    stops = [call for call in world.host.docker.calls if call[0] == "stop"]

    assert len(stops) == 1
    assert not world.host.docker.exists(world.container.facts.id)
