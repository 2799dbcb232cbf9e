"""``remediator backtest``: what rules and a policy would have done in the past.

Exit codes: 0 done · 1 could not (no answer, no samples, a file that is wrong) · 2 usage.
"""

import argparse
import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from remediator.cli.programs import Subparsers, add_settings
from remediator.config.settings import parse_url
from remediator.core.durations import parse_duration
from remediator.core.policy import Mode

_ABOUT = """\
Replay the past: which alerts would have fired, what would have been done about them, to whom and
when, how many GPU-hours that would have returned, and which stopped containers became busy again
within the hour. Samples come from a Prometheus or from a file; rules are those that Prometheus has
loaded, or edited ones. Nothing is done, and nobody is told.
"""


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "backtest", help="what would have been done in the past?", description=_ABOUT
    )
    add_settings(parser)
    _add_past(parser)
    parser.add_argument(
        "--rules",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="rules to evaluate, a file or a folder, instead of those that Prometheus has loaded; "
        "may be given more than once",
    )
    modes = [mode.value for mode in Mode]
    parser.add_argument(
        "--mode",
        choices=[*modes, "policy"],
        default="act",
        help="take this for the mode of the policy; 'policy' leaves it (default: %(default)s)",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="try this policy as well, side by side"
    )
    parser.add_argument(
        "--compare-rules",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="try these rules as well, side by side; may be given more than once",
    )
    parser.add_argument("--all", action="store_true", help="list every firing")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page as well")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run)


def _add_past(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--prometheus", type=_url, metavar="URL", help="whose samples (default: prometheus_url)"
    )
    source.add_argument(
        "--samples", type=Path, metavar="FILE", help="samples that --save has written"
    )
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write the samples to a file (.gz: compressed)"
    )
    parser.add_argument(
        "--since", type=_duration, metavar="AGO", help="from so long ago on (default: 7d)"
    )
    for flag, about in (("--from", "from then on"), ("--to", "until then (default: now)")):
        parser.add_argument(
            flag,
            dest=f"{flag[2:]}_",
            type=_moment,
            metavar="TIME",
            help=f"{about}: 2026-11-19, or 2026-11-19T08:00 (UTC unless it says otherwise)",
        )
    parser.add_argument(
        "--step",
        type=_duration,
        metavar="INTERVAL",
        help="evaluate every so often (default: as Prometheus does; 30s for a file)",
    )
    parser.add_argument(
        "--warm-up",
        type=_duration,
        metavar="DURATION",
        help="evaluate for so long before, so that what takes time to fire has begun "
        "(default: a day where rules read themselves, else as long as they look back)",
    )
    parser.add_argument(
        "--page",
        type=_duration,
        default=timedelta(hours=6),
        metavar="DURATION",
        help="how much to ask for and to hold at once (default: 6h)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the backtest and print what came of it."""
    # numpy takes a tenth of a second to load, and no other command needs it.
    running = importlib.import_module("remediator.cli.backtest_run")
    return int(running.run(options))


def _url(text: str) -> str:
    try:
        return parse_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _duration(text: str) -> timedelta:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not found:
        raise argparse.ArgumentTypeError("it must be longer than nothing")
    return found


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        message = f'"{text}" is not a time such as 2026-11-19 or 2026-11-19T08:00'
        raise argparse.ArgumentTypeError(message) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)
