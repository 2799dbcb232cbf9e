"""Show something again and again: in place on a screen, one after the other everywhere else."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.control import Control
from rich.text import Text

from remediator.cli.terminal import make_console, plain
from remediator.clock import SystemClock
from remediator.core.notices import clean
from remediator.errors import JournalError

_DEFAULT, _SHORTEST, _LONGEST = 2.0, 0.1, 3600.0
_TERMINATED = 128 + signal.SIGTERM
# Of what does not fit, this much of the beginning says what it is.
_HEAD = 3
# Says what has happened; returns an exit code that ends the watching unless it is 0.
Draw = Callable[[Console], int]


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add ``--watch`` and ``--json``."""
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=_DEFAULT,
        metavar="SECONDS",
        help=f"show it again every so many seconds ({_DEFAULT:g}) until Ctrl-C",
    )


def show(options: argparse.Namespace, draw: Draw, *, newest_last: bool = False) -> int:
    """Call *draw* once, or again and again; with *newest_last* the end is what has to fit."""
    console = make_console()
    if options.watch is None:
        return draw(console)
    signal.signal(signal.SIGTERM, _end)
    if console.is_terminal and not console.is_dumb_terminal and not options.json:
        return _Screen(options.watch, newest_last=newest_last).run(draw)
    return _append(console, draw, options)


def print_json(value: object, options: argparse.Namespace) -> None:
    """Print *value* for machines; a line for each time where it is watched."""
    watched = getattr(options, "watch", None) is not None
    print(json.dumps(plain(value), indent=None if watched else 2), flush=watched)


class _Screen:
    """A terminal on which every picture takes the place of the last one."""

    def __init__(self, seconds: float, *, newest_last: bool) -> None:
        # Unlike elsewhere lines are broken here, so that it is known how many there are.
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._seconds = seconds
        self._newest_last = newest_last
        self._picture: list[str] = []

    def run(self, draw: Draw) -> int:
        """Draw until interrupted, or until *draw* says that it is over."""
        console = self._console
        # The first picture says on the plain screen why there is none.
        code, trouble = self._look(draw)
        if code:
            return code
        console.set_alt_screen(True)
        console.show_cursor(False)
        try:
            while not code:
                self._show(trouble)
                time.sleep(self._seconds)
                code, trouble = self._look(draw)
        finally:
            console.show_cursor(True)
            console.set_alt_screen(False)
        return code

    def _look(self, draw: Draw) -> tuple[int, str]:
        """Take a new picture, or keep the last one; return the exit code and what went wrong."""
        with self._console.capture() as capture:
            try:
                code, trouble = draw(self._console), ""
            except JournalError as error:
                code, trouble = 0, clean(str(error), 500)
        if not trouble:
            self._picture = capture.get().rstrip("\n").split("\n")
        return code, trouble

    def _show(self, trouble: str) -> None:
        console = self._console
        head = f"{SystemClock().now():%Y-%m-%d %H:%M:%S} UTC, every {self._seconds:g} s"
        with console.capture() as capture:
            console.print(Text(f"{head}; Ctrl-C ends", style="dim"), no_wrap=True, crop=True)
            if trouble:
                console.print(Text(f"{trouble}; trying again", style="bold red"))
        above = capture.get().rstrip("\n").split("\n")
        lines = [*above, *self._fit(console.height - len(above))]
        console.control(Control.home())
        # Each line ends what the last picture had there, and the end what it had below.
        console.file.write("\x1b[K\n".join(lines) + "\x1b[K\x1b[J")
        console.file.flush()

    def _fit(self, height: int) -> list[str]:
        lines = self._picture
        left = len(lines) - max(1, height - 1)
        if left <= 1:
            return lines
        room = len(lines) - left
        if not self._newest_last or room <= _HEAD:
            return [*lines[:room], f"({left} more lines)"]
        rest = room - _HEAD
        return [*lines[:_HEAD], f"({left} lines left out)", *lines[len(lines) - rest :]]


def _append(console: Console, draw: Draw, options: argparse.Namespace) -> int:
    trouble = ""
    while True:
        try:
            if not options.json:
                console.print(Text(f"--- {SystemClock().now():%Y-%m-%d %H:%M:%S} UTC"))
            code, trouble = draw(console), ""
            sys.stdout.flush()
        except JournalError as error:
            code = 0
            if str(error) != trouble:
                trouble = str(error)
                print(f"remediator: {trouble}; trying again", file=sys.stderr, flush=True)
        if code:
            return code
        time.sleep(options.watch)


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    """End as a signal would, but with the screen as it was."""
    raise SystemExit(_TERMINATED)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f'"{text[:40]}" is not a number of seconds from {_SHORTEST:g} to {_LONGEST:g}'
        )
    return seconds
