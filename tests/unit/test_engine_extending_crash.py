"""The worker dies after each of its writes while an owner keeps a container amid a countdown."""

from pathlib import Path

import pytest

from remediator.core.policy import Audience, Warn
from tests.builders import HOUR, MINUTE, NOON, TARGET, a_policy, a_rule, an_alert
from tests.fakes import HandClock
from tests.unit.engine_site import EngineSite, ask, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

NEVER = 10**9
POLICY = a_policy(a_rule(hurried(), warn=Warn(5 * MINUTE, (Audience.OWNER,))))
WISH = b'{"action": "extend", "container": "idle", "duration": "1h", "via": "link"}'


class World:
    """One inbox with an alert and a wish, and the lives of the workers that take them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = HandClock()
        self.executed = 0
        self.writes = 0

    def live(self, lives: int = NEVER) -> bool:
        """Live a worker's life, or until it dies; return whether it died."""
        database = open_journal(self.folder)
        database.rows("PRAGMA synchronous = OFF")
        mortal = MortalDatabase(database, lives)
        site = EngineSite(self.folder, POLICY, clock=self.clock, database=mortal)  # type: ignore[arg-type]
        try:
            for _ in range(20):
                site.commands.take_all(site.inbox)
                site.round()
                site.send()
                self.clock.advance(MINUTE)
        except DiedError:
            return True
        finally:
            self.writes = mortal.writes
            self.executed += len(site.stop_container.executed)
            site.close()
        return False

    def begin(self) -> None:
        """Let the countdown run, and then somebody wish to keep the container."""
        site = EngineSite(self.folder, POLICY, clock=self.clock)
        site.store(body_of(an_alert({"container_id": TARGET.id})))
        site.round()
        self.clock.advance(4 * MINUTE)
        site.inbox.give(WISH, "alice", self.clock.now())
        site.close()

    def check(self) -> None:
        """It was granted once and to its end, answered once, and nothing was stopped."""
        assert self.executed == 0
        assert ask(self.folder, "SELECT count(*) FROM extension") == [(1,)]
        assert ask(self.folder, "SELECT accepted FROM command") == [(1,)]
        (until,) = ask(self.folder, "SELECT until FROM extension")[0]
        assert until == (NOON + 4 * MINUTE + HOUR).isoformat(timespec="microseconds")
        assert ask(self.folder, "SELECT count(*) FROM attempt") == [(0,)]


def test_a_crash_after_any_write_neither_loses_the_wish_nor_grants_it_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    whole = World(tmp_path_factory.mktemp("whole"))
    whole.begin()
    assert not whole.live()
    whole.check()
    assert whole.writes > 5
    for number in range(1, whole.writes + 1):
        world = World(tmp_path_factory.mktemp("life"))
        world.begin()
        assert world.live(number)
        assert not world.live()
        world.check()
