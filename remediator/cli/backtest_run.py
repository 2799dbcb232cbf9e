"""Runs ``remediator backtest`` and prints what came of it."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from remediator.backtest.backtest import Result
from remediator.backtest.deciding import Story, time_of
from remediator.backtest.history import Page, Stretch
from remediator.backtest.judging import Judged
from remediator.backtest.page import write_page
from remediator.backtest.report import counted, lasted, plain, what_became
from remediator.cli.programs import settings_of
from remediator.core.catalogue import offer_of
from remediator.core.durations import humanize
from remediator.core.notices import clean
from remediator.core.policy import Mode
from remediator.core.targets import subject_of
from remediator.wiring.backtest import Prepared, Wanted, prepare
from remediator.wiring.backtest import run as run_prepared

_WEEK = timedelta(days=7)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime.fromtimestamp(0, UTC)
_MOST = 40
_NUMBERS = frozenset({"FIRED", "FOR", "ACTED ON", "TOLD", "HELD", "GONE", "FIRINGS", "GPU-HOURS"})
_NAME = 26


def run(options: argparse.Namespace) -> int:
    """Run it; print a table or JSON, and write what else is wanted."""
    prepared = prepare(_wanted(options))
    if prepared.too_short_for:
        names = ", ".join(prepared.too_short_for)
        print(f"remediator: the stretch is too short for {names} to fire", file=sys.stderr)
    results = _with_progress(prepared, options)
    reported = prepared.span.reported
    if options.html is not None:
        write_page(options.html, results, reported, prepared.about)
    if options.json:
        print(json.dumps(plain(results, reported), indent=2))
        return 0
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, emoji=False, width=120)
    _print(console, results, prepared, every=options.all)
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    settings = settings_of(options)
    now = datetime.now(UTC)
    end = options.to_
    begin = options.from_
    if begin is None and (options.since is not None or options.samples is None):
        begin = (end or now) - (options.since or _WEEK)
    return Wanted(
        prometheus=options.prometheus or settings.prometheus_url,
        samples=options.samples,
        rules=options.rules,
        policy=settings.policy,
        begin=_milliseconds(begin),
        end=_milliseconds(end),
        step=options.step,
        page=options.page,
        warm_up=options.warm_up,
        mode=None if options.mode == "policy" else Mode(options.mode),
        save=options.save,
        compare_policy=options.compare,
        compare_rules=options.compare_rules,
        now=round((now - _EPOCH) / _MILLISECOND),
    )


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round((moment - _EPOCH) / _MILLISECOND)


def _with_progress(prepared: Prepared, options: argparse.Namespace) -> list[Result]:
    """Run it, with a bar on a terminal; what is read goes to stdout, the bar to stderr."""
    console = Console(stderr=True)
    columns = (TextColumn("replaying {task.fields[day]}"), BarColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        begin, end = prepared.span.evaluated.begin, prepared.span.evaluated.end
        task = progress.add_task("", total=end - begin, day="")

        def taken(page: Page) -> None:
            progress.update(task, completed=page.end - begin, day=f"{time_of(page.end):%d %b}")

        return run_prepared(prepared, options.save, taken)


def _print(console: Console, results: Sequence[Result], prepared: Prepared, *, every: bool) -> None:
    reported = prepared.span.reported
    begin, end = time_of(reported.begin), time_of(reported.end)
    span = humanize(end - begin)
    console.print(Text(f"{begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC ({span})"))
    console.print(Text(clean(prepared.about)))
    if len(results) > 1:
        console.print(_side_by_side(results))
    for result in results:
        if len(results) > 1:
            console.print(Text(f"\n== {clean(result.variant.name)} ==", style="bold"))
        _print_one(console, result, reported, every=every)


def _print_one(console: Console, result: Result, reported: Stretch, *, every: bool) -> None:
    console.print()
    console.print(_alerts(result, reported.end))
    console.print()
    acts = [one for one in result.judged if every or offer_of(one.deed.remediation).acts]
    if acts:
        shown = acts if every else acts[:_MOST]
        console.print(_deeds(shown))
        _more(console, len(acts) - len(shown))
    else:
        console.print("Nothing would have been done.")
    held = result.held()
    if held:
        console.print()
        table = _table("HELD BACK BY", "FIRINGS")
        for reason, count in held.items():
            table.add_row(reason.value, str(count))
        console.print(table)
    if every:
        console.print()
        console.print(_firings(result.outcome.stories, reported.end))
    console.print()
    console.print(Text(_summary(result), style="bold"))


def _alerts(result: Result, end: int) -> Table | str:
    counts = counted(result, end)
    if not counts:
        return "No alert would have fired."
    table = _table("ALERT", "FIRED", "FOR", "ACTED ON", "TOLD", "HELD", "GONE")
    for one in counts:
        numbers = (one.acted_on, one.told, one.held, one.moot)
        table.add_row(one.alert, str(one.fired), humanize(one.lasted), *map(str, numbers))
    return table


def _deeds(judged: Sequence[Judged]) -> Table:
    table = _table("AT (UTC)", "WHAT", "TO", "OWNER", "GPU-HOURS", "BUSY AGAIN")
    for one in judged:
        deed = one.deed
        busy = one.busy_again_at
        table.add_row(
            f"{deed.at:%d %b %H:%M:%S}",
            deed.remediation,
            _short(deed.title or deed.subject.name),
            clean(deed.owner or ""),
            _hours(one),
            f"after {humanize(busy - deed.at)}" if busy else "",
        )
    return table


def _hours(one: Judged) -> str:
    if not one.deed.ends_container:
        return ""
    return "unknown" if one.hours is None else f"{one.hours:.1f}"


def _firings(stories: Sequence[Story], end: int) -> Table:
    table = _table("FIRED (UTC)", "RESOLVED", "ALERT", "ABOUT", "WHAT BECAME OF IT")
    for story in stories:
        fired = story.fired
        labels = dict(fired.labels)
        resolved = fired.resolved_at
        ended = resolved is not None and resolved <= end
        table.add_row(
            f"{time_of(fired.fired_at):%d %b %H:%M:%S}",
            f"{time_of(resolved):%d %b %H:%M:%S}" if ended and resolved is not None else "-",
            fired.alert,
            _short(labels.get("container") or subject_of(labels).name),
            f"{what_became(story)} ({humanize(lasted(story, end))})",
        )
    return table


def _side_by_side(results: Sequence[Result]) -> Table:
    table = _table("", *(clean(result.variant.name) for result in results))
    rows = [
        ("alerts that fired", [str(len(result.fired)) for result in results]),
        ("containers stopped or removed", [str(_stopped(result)) for result in results]),
        ("GPU-hours returned", [f"{result.hours:.1f}" for result in results]),
        ("busy again within the hour", [str(result.regretted) for result in results]),
        ("warnings", [str(_warnings(result)) for result in results]),
        ("breaker opened", [_breaker(result) for result in results]),
    ]
    for name, cells in rows:
        table.add_row(name, *cells)
    for line, only in _only_in(results):
        table.add_row(line, *only)
    return table


def _only_in(results: Sequence[Result]) -> Iterator[tuple[str, list[str]]]:
    """Yield whom only one of the variants would have stopped."""
    stopped = [
        {one.deed.subject for one in result.judged if one.deed.ends_container} for result in results
    ]
    others = [
        len(mine - set().union(*(them for them in stopped if them is not mine))) for mine in stopped
    ]
    yield "stopped by it alone", [str(count) for count in others]


def _summary(result: Result) -> str:
    unknown = sum(one.deed.ends_container and one.hours is None for one in result.judged)
    parts = [
        f"GPU-hours returned: {result.hours:.1f}",
        f"containers stopped or removed: {_stopped(result)}",
        f"busy again within the hour: {result.regretted}",
        f"warnings: {_warnings(result)}",
    ]
    if unknown:
        parts.append(f"ended at once anyway: {unknown}")
    if result.outcome.breaker_at is not None:
        parts.append(f"breaker opened: {_breaker(result)}")
    return " · ".join(parts)


def _stopped(result: Result) -> int:
    return sum(one.deed.ends_container for one in result.judged)


def _warnings(result: Result) -> int:
    return sum(len(story.warned) for story in result.outcome.stories)


def _breaker(result: Result) -> str:
    at = result.outcome.breaker_at
    return "never" if at is None else f"{at:%d %b %H:%M}"


def _more(console: Console, count: int) -> None:
    if count > 0:
        console.print(f"... and {count} more: --all, --html or --json show all")


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        is_number = column in _NUMBERS
        table.add_column(
            column, justify="right" if is_number else "left", overflow="fold", no_wrap=number == 0
        )
    return table


def _short(text: str) -> str:
    text = clean(text)
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"
