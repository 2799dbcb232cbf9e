"""What happens to the programs and the machine: killed, frozen, away, without room, out of time."""

import contextlib
import random
import threading
from collections.abc import Callable
from typing import Protocol

from tests.chaos.clock import FakeClock
from tests.chaos.world import World
from tests.eventually import eventually

_PAUSED = "SELECT count(*) FROM pause WHERE actor = 'remediator' AND ended_at IS NULL"
_pause = threading.Event().wait


class Scenario(Protocol):
    """One trouble: `strike` lets it happen, and returns once it is over."""

    name: str
    idle: int
    task: str

    def strike(self, world: World) -> None:
        """Let it happen while idle containers are about to be stopped."""
        ...


class Kills:
    """kill -9 of receiver, worker and exporter, at random moments."""

    name = "kill -9 of receiver, worker, exporter"
    idle = 4
    task = "stubborn"

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._chance = random.Random(rounds)  # noqa: S311 - not a secret

    def strike(self, world: World) -> None:
        """Kill two of the three a round, and start them at once."""
        victims = [world.receiver, world.worker, world.exporter]
        for _ in range(self._rounds):
            for victim in self._chance.sample(victims, 2):
                _pause(self._chance.uniform(0.2, 1.8))
                victim.kill()
                victim.launch()


class DockerFrozen:
    """dockerd hangs (SIGSTOP): its socket accepts and never answers."""

    name = "dockerd frozen"
    idle = 2
    task = "stubborn"

    def strike(self, world: World) -> None:
        """Freeze it as soon as a stop may be on its way."""
        _wait_for_a_warning(world)
        world.engine.freeze()
        try:
            _pause(8)
        finally:
            world.engine.thaw()


class DockerRestarted:
    """dockerd is killed and started; its containers run on (live-restore)."""

    name = "dockerd killed and restarted"
    idle = 2
    task = "stubborn"

    def strike(self, world: World) -> None:
        """Kill it as soon as a stop may be on its way."""
        _wait_for_a_warning(world)
        world.engine.kill()
        _pause(3)
        world.engine.start()


class Away:
    """A peer is killed and comes back after a while."""

    idle = 2
    task = "idle"

    def __init__(
        self, what: str, down: Callable[[World], object], up: Callable[[World], object]
    ) -> None:
        self.name = f"{what} down and back"
        self._down, self._up = down, up

    def strike(self, world: World) -> None:
        """Take it away for six seconds."""
        _pause(1)
        self._down(world)
        _pause(6)
        self._up(world)


class DiskFull:
    """No room for the inbox and the journal."""

    name = "disk full"
    idle = 2
    task = "idle"

    def strike(self, world: World) -> None:
        """Leave no room for eight seconds, while there are things to write down."""
        _pause(1)
        filler = world.disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        try:
            _pause(8)
        finally:
            filler.unlink()


class ClockSteps:
    """The clock jumps for hours, and back: the worker pauses itself, and goes on by itself."""

    name = "clock set 2 h ahead, back, 2 h behind"
    idle = 2
    task = "idle"

    def strike(self, world: World) -> None:
        """Set the worker's and the receiver's clock while they run."""
        clock = FakeClock(world.stage.folder / "clock")
        self._restart(world, dict(clock.environment))
        try:
            for hours in (2, -2):
                clock.set(hours)
                paused = (
                    "SELECT count(*) FROM pause WHERE actor = 'remediator' AND ended_at IS NULL"
                )
                eventually(lambda: world.ask(paused) == 1, 30, "it pauses itself")  # noqa: B023
                attempts = world.ask("SELECT count(*) FROM attempt")
                _pause(3)
                if world.ask("SELECT count(*) FROM attempt") != attempts:
                    raise AssertionError("an attempt was made by a clock that had jumped")
                clock.set(0)
                eventually(lambda: world.ask(_PAUSED) == 0, 30, "it resumes itself")
        finally:
            self._restart(world, {})

    def _restart(self, world: World, environment: dict[str, str]) -> None:
        for name in ("serve", "work"):
            world.site.environments[name] = environment
        world.receiver.stop()
        world.worker.stop()
        world.receiver = world.site.start_receiver()
        world.worker = world.site.start_worker()


class Together:
    """Several troubles, one straight after the other."""

    idle = 2
    task = "idle"

    def __init__(self, *parts: Scenario) -> None:
        self.name = "; ".join(part.name for part in parts)
        self.hostile = 0
        self._parts = parts

    def strike(self, world: World) -> None:
        """Let each of them happen, once the receiver has answered after the one before."""
        for part in self._parts:
            part.strike(world)
            # What comes from outside next needs somebody to come to.
            world.stream.more(1, within=60)
        self.hostile = sum(getattr(part, "hostile", 0) for part in self._parts)


def _wait_for_a_warning(world: World) -> None:
    begun = world.ask("SELECT count(*) FROM warning")
    eventually(
        lambda: world.ask("SELECT count(*) FROM warning") != begun, 60, "somebody was warned"
    )


PROMETHEUS = ("Prometheus", lambda w: w.prometheus.kill(), lambda w: w.prometheus.start())
ALERTMANAGER = ("Alertmanager", lambda w: w.alertmanager.kill(), lambda w: w.alertmanager.start())
MAIL = ("SMTP", lambda w: w.mail.stop(), lambda w: w.mail.start())
