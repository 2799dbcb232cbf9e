"""``make demo``: the whole loop on this machine, in front of your eyes.

Three containers hold a GPU each: one works, one lies idle, one is idle and exempt. Everything
that watches and acts is real and shipped; only the NVIDIA driver is stood in for. Ends with 0 only
if exactly the idle container is gone.
"""

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from docker.models.containers import Container
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from remediator.errors import JournalError
from remediator.journal.story import Event, tell
from tests.peers.alertmanager import Alertmanager
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.missing import PeerMissingError
from tests.peers.prometheus import Prometheus
from tests.peers.site import Site
from tests.peers.stage import Stage
from tests.peers.terminals import Terminal

_WITHIN = 90.0
_POLL = 0.05
# What the journal calls it, and what the timeline does.
_WORDS = {"settled": "verified", "told": "notified", "resolved": "resolved"}


@dataclass(slots=True)
class Timeline:
    """Prints each event once, with the seconds since the containers started."""

    console: Console
    began: datetime
    seen: set[str] = field(default_factory=set)

    def tell(self, key: str, word: str, text: str, at: datetime | None = None) -> None:
        """Print an event unless *key* was told before."""
        if key in self.seen:
            return
        self.seen.add(key)
        seconds = ((at or datetime.now(UTC)) - self.began).total_seconds()
        line = Text(f"{seconds:7.2f} s  ", style="dim")
        line.append(f"{word:<15}", style="bold cyan")
        line.append(text)
        self.console.print(line)


def main(arguments: Sequence[str]) -> int:
    """Play the demo; 0 if it went as it should, 1 if not, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    options = parser.parse_args(arguments)
    # A demo that is told to end must clean up like one that has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(highlight=False, soft_wrap=True)
    try:
        return _play(console, keep=options.keep)
    except PeerMissingError as error:
        console.print(f"This demo needs something that is not here: {error}", style="red")
        return 2
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything was cleaned up.")
        return 130


def _play(console: Console, *, keep: bool) -> int:
    # Short, since it holds sockets.
    folder = Path(tempfile.mkdtemp(prefix="rem-", dir="/tmp"))
    try:
        with Stage(folder) as stage, GpuHost(3) as gpus:
            return _play_on(console, stage, gpus, keep=keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _play_on(console: Console, stage: Stage, gpus: GpuHost, *, keep: bool) -> int:
    began = time.monotonic()
    console.print("Starting Docker, Prometheus, Alertmanager, mail and Remediator ...")
    site = Site(stage, stage.docker_engine(), gpus, mail=stage.mail_server())
    terminal = _log_in(stage, site, console)
    prometheus, alertmanager = site.start_watching()
    site.start_receiver()
    site.start_worker()
    console.print(f"Everything runs after {time.monotonic() - began:.1f} s. Three containers:\n")
    containers = _start_containers(site, gpus, console)
    timeline = Timeline(console, datetime.now(UTC))
    _watch(site, prometheus, timeline)
    _show_received(console, site, terminal)
    _show_explained(console, site)
    code = _judge(console, containers, site)
    if keep:
        _keep_running(console, site, prometheus, alertmanager)
    console.print("\nCleaning up ...")
    return code


def _log_in(stage: Stage, site: Site, console: Console) -> Terminal | None:
    """Log alice in on a terminal, where that can be done without disturbing real people."""
    try:
        terminal = stage.terminals().login("alice")
    except PeerMissingError as error:
        console.print(f"No terminal to write to: {error}", style="yellow")
        return None
    site.wall = "owner"
    return terminal


def _start_containers(site: Site, gpus: GpuHost, console: Console) -> list[Container]:
    client = site.docker
    protected = {"ds01.user": "carol", "ds01.protected": "true"}
    rows: list[tuple[str, int, str, int, dict[str, str], str]] = [
        ("training", 0, "busy", 80, {"ds01.user": "bob"}, "bob's, GPU 0 at 80 %: busy"),
        ("notebook", 1, "idle", 0, {"ds01.user": "alice"}, "alice's, GPU 1 at 0 %: forgotten"),
        ("inference", 2, "idle", 0, protected, "carol's, GPU 2 at 0 %: idle, but protected"),
    ]
    containers = []
    for name, gpu, task, util, labels, about in rows:
        containers.append(
            run_gpu_container(client, gpus, name, gpus=(gpu,), task=task, util=util, labels=labels)
        )
        console.print(f"  {name:<10} {about}")
    console.print(
        f"\nThe idle limit is {_limit_seconds(site):.0f} s here (30 min at a real site).\n"
    )
    return containers


def _limit_seconds(site: Site) -> float:
    return float(site.limits["container_types"]["docker"]["idle_timeout_h"]) * 3600


def _watch(site: Site, prometheus: Prometheus, timeline: Timeline) -> None:
    """Print what happens, until everybody has been told or time is up."""
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        _watch_prometheus(prometheus, timeline, _limit_seconds(site))
        if _watch_journal(site, timeline):
            return
        time.sleep(_POLL)
    timeline.tell("late", "too late", f"not finished within {_WITHIN:.0f} s")


def _watch_prometheus(prometheus: Prometheus, timeline: Timeline, limit: float) -> None:
    names = {
        sample.labels["container_id"]: sample.labels["container"]
        for sample in prometheus.query("ds01_container_info")
    }
    for sample in prometheus.query("ds01:container_idle_seconds"):
        name = names.get(sample.labels["container_id"], "?")
        if sample.value > 0:
            text = f"{name}: GPU, CPU and network are all below their thresholds, the clock runs"
            timeline.tell(f"quiet {name}", "metric crossed", text)
        if sample.value > limit:
            text = f"{name}: idle for {sample.value:.0f} s, limit {limit:.0f} s"
            timeline.tell(f"limit {name}", "limit crossed", text)
    for alert in prometheus.alerts():
        name = alert["labels"]["alertname"]
        text = f"{name} {alert['labels'].get('container', '')}"
        state = "alert firing"
        if name != "DS01ContainerIdle":
            # The idle rule needs no `for`: its clock is one. These are its early signs.
            state = "alert pending"
        timeline.tell(f"{state} {text}", state, text)


def _watch_journal(site: Site, timeline: Timeline) -> bool:
    """Print what is new in the journal; return whether the stop has been told."""
    told = False
    for event in _events(site):
        if event.what == "decided":
            _tell_decided(event, timeline)
        elif event.what == "delivered":
            # How often it was delivered changes; that it was does not.
            timeline.tell(
                event.text[:40], "delivered", event.text.split(" to receiver")[0], event.at
            )
        elif event.what == "step":
            _tell_step(event, timeline)
        elif event.what in _WORDS:
            word = "warned" if event.text.startswith("warning") else _WORDS[event.what]
            timeline.tell(event.text, word, event.text, event.at)
            told = told or event.text.startswith("acted by mail to admins")
    return told


def _tell_decided(event: Event, timeline: Timeline) -> None:
    _tell_confirmed(event, timeline)
    # How often a hold was repeated, and how long it lasts yet, changes all the time.
    text = event.text.split(" (policy rule")[0]
    if text.startswith("hold, warned"):
        text = "hold, warned: waiting for the notice period to end"
    timeline.tell(text, "decided", text, event.at)


def _tell_step(event: Event, timeline: Timeline) -> None:
    timeline.tell(event.text, "acting", event.text, event.at)
    for detail in event.details:
        if not detail.startswith("under way"):
            timeline.tell(f"{event.text} {detail}", "", f"  {detail}", event.at)


def _tell_confirmed(event: Event, timeline: Timeline) -> None:
    agreeing = [detail for detail in event.details if " agrees: " in detail]
    if len(agreeing) == 3:
        text = "three sources agree that it is idle now"
        timeline.tell("confirmed", "confirmed", text, event.at)
        for detail in agreeing:
            timeline.tell(f"confirmed {detail[:9]}", "", f"  {detail}", event.at)


def _events(site: Site) -> Iterator[Event]:
    """Return the events of every incident about the stop, in order of time."""
    try:
        journal = site.journal()
    except JournalError:
        return
    with contextlib.closing(journal):
        incidents = journal.incidents.latest(10)
        stories = [tell(journal, incident.id) for incident in incidents]
    events = [event for story in stories if story for event in story.events]
    yield from sorted(events, key=lambda event: event.at)


def _show_received(console: Console, site: Site, terminal: Terminal | None) -> None:
    console.print()
    mails = site.mail.messages if site.mail else []
    for mail in mails:
        if mail.message["X-Remediator-Kind"] in {"warning", "acted"}:
            to = ", ".join(mail.recipients)
            title = f"Mail as {to} received it: {mail.subject}"
            _print_panel(console, mail.text, title)
    if terminal is not None:
        _print_panel(console, terminal.read().replace("\a", ""), "alice's terminal")


def _print_panel(console: Console, text: str, title: str) -> None:
    panel = Panel(Text(text.strip()), title=Text(title), title_align="left")
    console.print(panel, soft_wrap=False, width=min(max(console.width, 60), 110))


def _show_explained(console: Console, site: Site) -> None:
    incident = site.ask("SELECT incident FROM attempt WHERE remediation = 'stop-container'")
    if incident is None:
        console.print(Text(site.run("incidents", "list")))
        return
    console.print(f"\n$ remediator incidents show {incident}\n", style="bold")
    console.print(Text(site.run("incidents", "show", str(incident))))


def _judge(console: Console, containers: list[Container], site: Site) -> int:
    """Return 0 if exactly the idle container is gone and the others were not touched."""
    started = {c.name: c.attrs["State"]["StartedAt"] for c in containers if c.name != "notebook"}
    left = site.docker.containers.list(all=True)
    found = {c.name: c.attrs["State"]["StartedAt"] for c in left if c.status == "running"}
    if found == started and len(left) == len(started):
        console.print(
            "The idle container is gone; the busy and the exempt one run untouched.",
            style="bold green",
        )
        return 0
    states = ", ".join(f"{c.name} {c.status}" for c in left) or "none"
    console.print(f"This is not as it should be. Containers left: {states}", style="bold red")
    for name, log in site.stage.logs(30):
        _print_panel(console, log, name)
    return 1


def _keep_running(
    console: Console, site: Site, prometheus: Prometheus, alertmanager: Alertmanager
) -> None:
    rows: list[tuple[str, str]] = [
        ("Prometheus", prometheus.url),
        ("Alertmanager", alertmanager.url),
        ("Remediator's page", f"{site.url}/"),
        ("  name and password", f"any name, {site.token}"),
        ("DS01 exporter", f"http://127.0.0.1:{site.exporter_port}/metrics"),
        ("worker's metrics", f"http://127.0.0.1:{site.worker_port}/metrics"),
        ("Docker", f"docker -H {site.engine.url} ps"),
        ("GPUs", f"tests/peers/gpu/gpu --state {site.gpus.environment['FAKE_NVML_STATE']} show"),
        ("Settings", f"REMEDIATOR_SETTINGS={site.folder / 'settings.yaml'}"),
    ]
    console.print("\nLeft running until you press Ctrl-C:", style="bold")
    for name, where in rows:
        console.print(Text(f"  {name:<20} {where}"))
    _wait_for_interrupt()


def _wait_for_interrupt(wait: Callable[[], object] = signal.pause) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
