"""``make demo``: the whole loop on this machine, one trouble after the other.

Everything that watches and acts is real and shipped; only the NVIDIA driver, nvidia-smi and DCGM
are stood in for. Ends with 0 only if each trouble came to the end that it should.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from tests.peers.demo.heat import Heat
from tests.peers.demo.hung import Hung
from tests.peers.demo.idle import Idle
from tests.peers.demo.orphan import Orphan
from tests.peers.demo.scenario import Scenario, World
from tests.peers.demo.showing import keep_running, print_panel, show_explained, show_received
from tests.peers.demo.timeline import Timeline
from tests.peers.demo.watching import watch
from tests.peers.demo.wedged import Wedged
from tests.peers.gpu.host import GpuHost
from tests.peers.missing import PeerMissingError
from tests.peers.site import POLICY, Site
from tests.peers.stage import Stage
from tests.peers.terminals import Terminal

SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "idle": Idle,
    "orphan": Orphan,
    "overheating": Heat,
    "wedged": Wedged,
    "hung": Hung,
}


def main(arguments: Sequence[str]) -> int:
    """Play scenarios; 0 if all went as they should, 1 if one did not, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    names = ", ".join(SCENARIOS)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"some of {names}")
    parser.add_argument("--keep", action="store_true", help="leave the last one running at the end")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenario if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]}; there are {names}")
    # A demo that is told to end must clean up like one that has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, soft_wrap=True)
    try:
        return _play_all(console, options.scenario or list(SCENARIOS), keep=options.keep)
    except PeerMissingError as error:
        console.print(f"This demo needs something that is not here: {error}", style="red")
        return 2
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything was cleaned up.")
        return 130


def _play_all(console: Console, names: Sequence[str], *, keep: bool) -> int:
    ended = [_play(console, SCENARIOS[name](), keep=keep and name == names[-1]) for name in names]
    if len(names) > 1:
        text = f"\n{sum(ended)} of {len(names)} scenarios ended as they should"
        console.print(text, style="bold green" if all(ended) else "bold red")
    return 0 if all(ended) else 1


def _play(console: Console, scenario: Scenario, *, keep: bool) -> bool:
    # Short, since it holds sockets.
    folder = Path(tempfile.mkdtemp(prefix="rem-", dir="/tmp"))
    console.rule(f"{scenario.name}: {scenario.title}")
    try:
        with Stage(folder) as stage, GpuHost(scenario.gpus) as gpus:
            return _play_on(console, stage, gpus, scenario, keep=keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play_on(
    console: Console, stage: Stage, gpus: GpuHost, scenario: Scenario, *, keep: bool
) -> bool:
    began = time.monotonic()
    console.print("\nStarting Docker, Prometheus, Alertmanager, mail and Remediator ...")
    policy = {**POLICY, "rules": scenario.rules()}
    mail = stage.mail_server()
    site = Site(stage, stage.docker_engine(), gpus, policy=policy, mail=mail, waits="2s")
    terminal = _log_in(stage, site, console)
    scenario.prepare(site)
    prometheus, alertmanager = site.start_watching()
    site.start_receiver()
    site.start_worker()
    world = World(console, stage, gpus, site, prometheus)
    console.print(f"Everything runs after {time.monotonic() - began:.1f} s.\n")
    scenario.begin(world)
    console.print()
    watch(scenario, world, Timeline(console, datetime.now(UTC)))
    show_received(console, site, terminal)
    show_explained(console, site)
    well = _judge(world, scenario)
    if keep:
        keep_running(world, alertmanager)
    console.print("\nCleaning up ...")
    return well


def _log_in(stage: Stage, site: Site, console: Console) -> Terminal | None:
    """Log alice in on a terminal, where that can be done without disturbing real people."""
    try:
        terminal = stage.terminals().login("alice")
    except PeerMissingError as error:
        console.print(f"No terminal to write to: {error}", style="yellow")
        return None
    site.wall = "owner"
    return terminal


def _judge(world: World, scenario: Scenario) -> bool:
    """Tell whether it ended as it should, and show the logs if not."""
    wrong = scenario.judge(world)
    if wrong is None:
        world.console.print(scenario.verdict, style="bold green")
        return True
    world.console.print(f"This is not as it should be: {wrong}", style="bold red")
    for name, log in world.stage.logs(30):
        print_panel(world.console, log, name)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
