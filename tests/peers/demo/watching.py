"""Print what happens while it happens: from Prometheus, and from the journal."""

import contextlib
import re
import time
from collections.abc import Iterator

from remediator.errors import JournalError
from remediator.journal.story import Event, tell
from tests.peers.demo.scenario import Scenario, World
from tests.peers.demo.timeline import Timeline
from tests.peers.site import Site

_WITHIN = 90.0
_POLL = 0.05
# What the journal calls it, and what the timeline does.
_WORDS = {"settled": "verified", "told": "notified", "resolved": "resolved"}
_REPEATED = re.compile(r", \d+ times( until .*)?$")
# Sources have to agree; as many as there are is how a confirmation looks.
_LEAST_CONFIRMED = 2


def watch(scenario: Scenario, world: World, timeline: Timeline) -> None:
    """Print what happens, until it is over and everybody has been told, or time is up."""
    deadline = time.monotonic() + _WITHIN
    while time.monotonic() < deadline:
        scenario.measure(world, timeline)
        _watch_alerts(scenario, world, timeline)
        if _watch_journal(scenario, world.site, timeline):
            return
        time.sleep(_POLL)
    timeline.tell("late", "too late", f"not finished within {_WITHIN:.0f} s")


def _watch_alerts(scenario: Scenario, world: World, timeline: Timeline) -> None:
    for alert in world.prometheus.alerts():
        labels = alert["labels"]
        if labels["alertname"] in scenario.alerts:
            about = labels.get("container") or labels.get("comm") or labels.get("UUID") or ""
            text = f"{labels['alertname']} {about}"
            state = f"alert {alert['state']}"
            timeline.tell(f"{state} {text}", state, text)


def _watch_journal(scenario: Scenario, site: Site, timeline: Timeline) -> bool:
    """Print what is new in the journal; return whether the last words have been said."""
    told = False
    for event in _events(scenario, site):
        if event.what == "decided":
            _tell_decided(event, timeline)
        elif event.what == "delivered":
            # How often it was delivered changes; that it was does not.
            text = event.text.split(" to receiver")[0]
            timeline.tell(event.text[:40], "delivered", text, event.at)
        elif event.what == "step":
            _tell_step(event, timeline)
        elif event.what in _WORDS:
            word = "warned" if event.text.startswith("warning") else _WORDS[event.what]
            timeline.tell(event.text, word, event.text, event.at)
            told = told or event.text.startswith(scenario.last_words)
    return told


def _tell_decided(event: Event, timeline: Timeline) -> None:
    _tell_confirmed(event, timeline)
    # How often a hold was repeated, and how long it lasts yet, changes all the time.
    text = _REPEATED.sub("", event.text.split(" (policy rule")[0])
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
    if len(agreeing) == len(event.details) >= _LEAST_CONFIRMED:
        text = "all sources agree that it is so now"
        timeline.tell("confirmed", "confirmed", text, event.at)
        for detail in agreeing:
            timeline.tell(f"confirmed {detail[:9]}", "", f"  {detail}", event.at)


def _events(scenario: Scenario, site: Site) -> Iterator[Event]:
    """Return the events of the incidents that the scenario is about, in order of time."""
    try:
        journal = site.journal()
    except JournalError:
        return
    with contextlib.closing(journal):
        numbers = [incident.id for incident in journal.incidents.latest(20)]
        stories = [
            tell(journal, number)
            for number in numbers
            if any(r.alert.name in scenario.alerts for r in journal.incidents.firings(number))
        ]
    events = [event for story in stories if story for event in story.events]
    yield from sorted(events, key=lambda event: event.at)
