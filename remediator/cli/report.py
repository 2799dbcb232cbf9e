"""``remediator report``: what a month brought, as tables, JSON or one HTML file."""

import argparse
import json
import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.cli.terminal import make_console, plain
from remediator.clock import SystemClock
from remediator.core.months import Month, parse_month
from remediator.core.report import Report
from remediator.errors import ReportError
from remediator.journal.journal import Journal
from remediator.reports import tables
from remediator.reports.file import html_of
from remediator.reports.making import make_report, newest_whole_month

_WIDEST_BAR = 40
_LINE = 100
_STANDARD_OUTPUT = Path("-")


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    about = "what a month brought: GPU-hours, energy, how fast, what was done and what was not"
    parser = subparsers.add_parser("report", help=about, description=about)
    add_settings(parser)
    parser.add_argument(
        "--month",
        type=_month,
        metavar="YYYY-MM",
        help="which month of UTC (default: the last that is over); the running one is unfinished",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--json", action="store_true", help="for machines")
    kind.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write one self-contained HTML file (- for standard output)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print or write the report; the journal is only read."""
    settings, now = settings_of(options), SystemClock().now()
    with closing(Journal.for_reading(settings.state_dir)) as journal:
        report = make_report(journal, settings.host, options.month or newest_whole_month(now), now)
    if options.json:
        print(json.dumps(plain(report), indent=2))
    elif options.html is not None:
        _write(options.html, html_of(report))
    else:
        _print(make_console(), report)
    return 0


def _print(console: Console, report: Report) -> None:
    console.print(Text(tables.headline(report), style="bold"))
    for remark in tables.remarks(report):
        _print_sentence(console, remark, "yellow")
    first, *others = tables.tables(report)
    _print_table(console, first)
    _print_days(console, report)
    for table in others:
        _print_table(console, table)
    console.print()
    for sentence in tables.assumptions():
        _print_sentence(console, sentence)


def _print_table(console: Console, table: tables.Table) -> None:
    console.print()
    console.print(Text(table.title, style="bold"))
    shown = Table(box=None, header_style="dim", pad_edge=False)
    shown.add_column(table.columns[0], overflow="fold", min_width=10)
    for column in table.columns[1:]:
        shown.add_column(column, justify="right", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
    if table.note:
        _print_sentence(console, table.note)


def _print_sentence(console: Console, sentence: str, style: str = "dim") -> None:
    console.print(Text(sentence, style=style), soft_wrap=False, width=min(console.width, _LINE))


def _print_days(console: Console, report: Report) -> None:
    days = tables.table_of_days(report)
    console.print()
    console.print(Text(days.title, style="bold"))
    highest = max((day.gpu_hours for day in report.days), default=0.0)
    widest = max(1, min(_WIDEST_BAR, console.width - 24))
    block = "█" if console.encoding.startswith("utf") else "#"
    for (name, hours), day in zip(days.rows, report.days, strict=True):
        bar = block * round(widest * day.gpu_hours / highest) if highest else ""
        line = Text(f"{name}  {hours:>7}  ")
        line.append(bar, style="cyan")
        console.print(line)


def _write(path: Path, text: str) -> None:
    """Put the file in its place as a whole; what is no plain file is written to as it is."""
    try:
        if path == _STANDARD_OUTPUT:
            sys.stdout.write(text)
        elif path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as error:
        raise ReportError(f"cannot write {path}: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(file, "w", encoding="utf-8") as writer:
            writer.write(text)
        Path(name).chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _month(text: str) -> Month:
    try:
        return parse_month(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
