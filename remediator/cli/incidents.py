"""``remediator incidents list``, ``waiting`` and ``show``: what happened, why, how it ended."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing

from rich.console import Console
from rich.text import Text

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.cli.terminal import print_rows
from remediator.cli.watching import add_watch, print_json, show
from remediator.clock import SystemClock
from remediator.core.notices import clean
from remediator.journal.board import Waiting
from remediator.journal.incidents import Incident
from remediator.journal.journal import Journal
from remediator.journal.story import Event, Story, tell

_LONGEST = 500
_INDENT, _WIDE = 36, 100
_COLUMNS = ("ID", "OPENED", "STATE", "WHAT", "SUBJECT", "OWNER", "OUTCOME")
_QUESTIONS = ("ID", "MAY BE DONE", "WHAT", "SUBJECT", "OWNER", "ASKED", "ANSWER UNTIL")
_STYLES = {"decided": "cyan", "settled": "bold", "step": "magenta", "told": "green"}


def add_to(subparsers: Subparsers) -> None:
    """Add the commands."""
    about = "what happened, why, and how it ended"
    parser = subparsers.add_parser("incidents", help=about, description=about)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="the newest incidents, one a line")
    listing.add_argument("--open", action="store_true", help="only those that are still open")
    listing.add_argument("--limit", type=_positive, default=20, metavar="N", help="at most N (20)")
    listing.set_defaults(run=show_list)
    waiting = verbs.add_parser("waiting", help="what waits for an approval, the most urgent first")
    waiting.set_defaults(run=show_waiting)
    showing = verbs.add_parser("show", help="one incident with everything that is known of it")
    showing.add_argument("id", type=_positive, metavar="ID", help="its number")
    showing.set_defaults(run=show_one)
    for verb in (listing, waiting, showing):
        add_settings(verb)
        add_watch(verb)


def show_list(options: argparse.Namespace) -> int:
    """Print the newest incidents."""
    folder = settings_of(options).state_dir

    def draw(console: Console) -> int:
        with closing(Journal.for_reading(folder)) as journal:
            incidents = journal.incidents.latest(options.limit, only_open=options.open)
            if options.json:
                print_json(incidents, options)
                return 0
            for line in _standing(journal):
                console.print(line)
            rows = [_cells(journal, incident) for incident in incidents]
        if rows:
            print_rows(console, _COLUMNS, rows)
        else:
            console.print("No incidents.")
        return 0

    return show(options, draw)


def show_waiting(options: argparse.Namespace) -> int:
    """Print the questions that wait for an operator."""
    folder = settings_of(options).state_dir

    def draw(console: Console) -> int:
        with closing(Journal.for_reading(folder)) as journal:
            waiting = journal.board.waiting(SystemClock().now())
        if options.json:
            print_json(waiting, options)
        elif waiting:
            print_rows(console, _QUESTIONS, [_question(asked) for asked in waiting])
        else:
            console.print("Nothing waits for an approval.")
        return 0

    return show(options, draw)


def show_one(options: argparse.Namespace) -> int:
    """Print one incident; exit code 1 if there is none with that number."""
    folder = settings_of(options).state_dir

    def draw(console: Console) -> int:
        with closing(Journal.for_reading(folder)) as journal:
            story = tell(journal, options.id)
        if story is None:
            print(f"remediator: there is no incident {options.id}", file=sys.stderr)
            return 1
        if options.json:
            print_json(story, options)
            return 0
        for line in _headline(story):
            console.print(line)
        for event in story.events:
            _print_event(console, event)
        return 0

    return show(options, draw, newest_last=True)


def _question(asked: Waiting) -> tuple[str, ...]:
    return (
        str(asked.incident),
        asked.remediation,
        asked.fault,
        asked.title,
        asked.owner or "unknown",
        f"{asked.asked_at:%Y-%m-%d %H:%M:%S}",
        f"{asked.expires_at:%Y-%m-%d %H:%M:%S}",
    )


def _standing(journal: Journal) -> Iterator[Text]:
    """Yield what keeps everything from being done, so that nobody looks for it in an incident."""
    pause = journal.operations.pause_in_force()
    if pause is not None:
        text = f"Paused since {pause.began_at:%Y-%m-%d %H:%M:%S} UTC by {pause.actor}:"
        yield Text(clean(f"{text} {pause.reason}", _LONGEST), style="bold yellow")
    breaker = journal.operations.breaker_in_force()
    if breaker is not None:
        text = f"The breaker is open since {breaker.opened_at:%Y-%m-%d %H:%M:%S} UTC:"
        yield Text(clean(f"{text} {breaker.because}", _LONGEST), style="bold red")


def _cells(journal: Journal, incident: Incident) -> tuple[str, ...]:
    state = "open" if incident.closed_at is None else "closed"
    outcome = incident.outcome
    if outcome is None:
        decisions = journal.decisions.of_incident(incident.id)
        last = decisions[-1] if decisions else None
        outcome = f"held: {last.reason}" if last and last.reason else "new"
    return (
        str(incident.id),
        f"{incident.opened_at:%Y-%m-%d %H:%M:%S}",
        state,
        incident.fault,
        incident.title,
        incident.owner or "unknown",
        outcome,
    )


def _headline(story: Story) -> list[Text]:
    incident = story.incident
    state = "open" if incident.closed_at is None else "closed"
    kept = [Text(clean(f"kept {story.kept}", _LONGEST))] if story.kept else []
    return [
        Text(clean(f"Incident {incident.id}: {incident.fault}: {incident.title}"), style="bold"),
        Text(clean(f"{incident.subject}, owner {incident.owner or 'unknown'}", _LONGEST)),
        Text(clean(f"{state}, outcome: {incident.outcome or 'none yet'}", _LONGEST)),
        *kept,
        Text("Times are UTC.\n"),
    ]


def _print_event(console: Console, event: Event) -> None:
    head = Text(f"{event.at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + "  ", style="dim")
    head.append(f"{event.what:<9}  ", style=_STYLES.get(event.what, ""))
    head.append(clean(event.text, _LONGEST))
    console.print(head)
    # Where lines are short, the column of the words is no place to begin all others.
    indent = " " * (_INDENT if console.width >= _WIDE else 2)
    for detail in event.details:
        console.print(Text(indent + clean(detail, _LONGEST), style="dim"))


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number from 1 on')
    return int(text)
