"""What people got of it: mails, a terminal, the decision explained; and where things run."""

import contextlib
import signal
from collections.abc import Callable

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tests.peers.alertmanager import Alertmanager
from tests.peers.demo.scenario import World
from tests.peers.site import Site
from tests.peers.terminals import Terminal

_SHOWN = {"warning", "acted", "restored"}


def show_received(console: Console, site: Site, terminal: Terminal | None) -> None:
    """Print the mails as they were received, and what the owner's terminal shows."""
    console.print()
    for mail in site.mail.messages if site.mail else []:
        if mail.message["X-Remediator-Kind"] in _SHOWN:
            to = ", ".join(mail.recipients)
            print_panel(console, mail.text, f"Mail as {to} received it: {mail.subject}")
    written = terminal.read().replace("\a", "") if terminal else ""
    if written.strip():
        print_panel(console, written, "alice's terminal")


def show_explained(console: Console, site: Site) -> None:
    """Print how the decision is explained."""
    incident = site.ask("SELECT incident FROM attempt WHERE remediation <> 'notify-only'")
    if incident is None:
        console.print(Text(site.run("incidents", "list")))
        return
    console.print(f"\n$ remediator incidents show {incident}\n", style="bold")
    console.print(Text(site.run("incidents", "show", str(incident))))


def print_panel(console: Console, text: str, title: str) -> None:
    """Print *text* in a frame."""
    panel = Panel(Text(text.strip()), title=Text(title), title_align="left")
    console.print(panel, soft_wrap=False, width=min(max(console.width, 60), 110))


def keep_running(world: World, alertmanager: Alertmanager) -> None:
    """Say where everything is, and wait for Ctrl-C."""
    site, console = world.site, world.console
    rows: list[tuple[str, str]] = [
        ("Prometheus", world.prometheus.url),
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
