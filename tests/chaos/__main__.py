"""``make chaos``: throw faults at the whole pipeline and count what becomes of everything offered.

Every scenario has honest deliveries running all the time, idle containers that have to be stopped
exactly once, and busy ones that have to survive. Ends with 0 only if nothing was lost, doubled or
wrongly stopped, 1 if something was, 2 if something is missing on this machine.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.chaos.bus import BusRestarted
from tests.chaos.faults import (
    ALERTMANAGER,
    MAIL,
    PROMETHEUS,
    Away,
    ClockSteps,
    DiskFull,
    DockerFrozen,
    DockerRestarted,
    Kills,
    Scenario,
    Together,
)
from tests.chaos.outsiders import (
    Described,
    HostileBodies,
    LabelInjection,
    Parsers,
    SlowAndGreedy,
    WrongAndReplayed,
)
from tests.chaos.report import Row, show
from tests.chaos.world import World, a_world
from tests.peers.missing import PeerMissingError, require_root, require_tool

_IN_NAMESPACE = "REMEDIATOR_CHAOS_NAMESPACE"


def scenarios(*, short: bool, bodies: int) -> list[Scenario]:
    """Return what is played, in order."""
    if short:
        outsiders = (HostileBodies(bodies), SlowAndGreedy(64, 2), LabelInjection())
        return [Together(Kills(2), *outsiders, WrongAndReplayed())]
    return [
        Kills(12),
        DockerFrozen(),
        DockerRestarted(),
        Away(*PROMETHEUS),
        Away(*ALERTMANAGER),
        Away(*MAIL),
        BusRestarted(),
        DiskFull(),
        ClockSteps(),
        HostileBodies(bodies),
        SlowAndGreedy(),
        LabelInjection(),
        WrongAndReplayed(),
        Described(examples=50),
        Parsers(20_000),
    ]


def main(arguments: Sequence[str]) -> int:
    """Play all scenarios, again and again until the time is over."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    minutes = float(os.environ.get("CHAOS_MINUTES", "10"))
    parser.add_argument("--minutes", type=float, default=minutes, help="begin no round after that")
    parser.add_argument("--bodies", type=int, help="how many hostile bodies (100,000, short: 500)")
    parser.add_argument("--short", action="store_true", help="one minute of it, for the tests")
    parser.add_argument("--only", default="", help="only scenarios whose name has this text")
    options = parser.parse_args(arguments)
    bodies = options.bodies or (500 if options.short else 100_000)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    # One that is told to end must clean up like one that has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require_root("starting a Docker engine")
        _enter_namespace()
        played = [
            scenario
            for scenario in scenarios(short=options.short, bodies=bodies)
            if options.only in scenario.name
        ]
        rows = _play(console, played, 0 if options.short else options.minutes * 60)
    except PeerMissingError as error:
        console.print(f"This needs something that is not here: {error}", style="red")
        return 2
    return 0 if show(console, rows) else 1


def _enter_namespace() -> None:
    """Go on in a mount namespace of our own, so that no mount outlives us."""
    if os.environ.get(_IN_NAMESPACE) != str(os.getpid()):
        os.environ[_IN_NAMESPACE] = str(os.getpid())
        unshare = require_tool("unshare")
        command = [unshare, "--mount", sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
        os.execv(unshare, command)  # noqa: S606 - no shell is wanted


def _play(console: Console, played: Sequence[Scenario], seconds: float) -> list[Row]:
    # Short, since it holds sockets.
    folder = Path(tempfile.mkdtemp(prefix="rem-", dir="/tmp"))
    began, rows, round_ = time.monotonic(), list[Row](), 0
    console.print("Starting Docker, Prometheus, Alertmanager, mail and Remediator ...")
    try:
        with a_world(folder) as world:
            while not rows or time.monotonic() - began < seconds:
                round_ += 1
                for scenario in played:
                    if rows and round_ > 1 and time.monotonic() - began >= seconds:
                        break
                    rows.append(_strike(console, world, scenario))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _strike(console: Console, world: World, scenario: Scenario) -> Row:
    """Let one scenario happen, and wait until everything that it held up has come to its end."""
    row = Row(scenario.name)
    console.print(f"{time.strftime('%H:%M:%S')} {scenario.name} ...")
    containers = world.idle("idle", scenario.idle, scenario.task)
    try:
        scenario.strike(world)
        ended = time.monotonic()
        world.wait_until_taken(world.stream.more(1, within=60))
        row.recovered = time.monotonic() - ended
        world.wait_for(containers)
        row.settled = time.monotonic() - ended
    except Exception as error:  # noqa: BLE001 - one row must not cost the others
        row.failure = f"{type(error).__name__}: {error}"
        for name, log in world.stage.logs(15):
            console.print(f"{name}\n{log}", markup=False, style="dim")
    tally = world.stream.take()
    row.hostile = getattr(scenario, "hostile", 0)
    row.offered = len(tally.offered) + len(containers)
    row.acknowledged = len(tally.acknowledged) + len(containers)
    row.slowest = tally.slowest
    try:
        if tally.acknowledged:
            world.wait_until_taken(tally.acknowledged[-1])
        due = world.judge(containers, tally.acknowledged)
        row.lost, row.doubled, row.wrong = due.lost, due.doubled, due.wrongly_stopped
    except Exception as error:  # noqa: BLE001 - nobody can tell, which is not good either
        row.failure = row.failure or f"{type(error).__name__}: {error}"
    return row


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
