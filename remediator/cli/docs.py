"""``remediator docs``: the pages of the documentation, which come with the program."""

import argparse
from typing import ClassVar

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown, TableElement
from rich.table import Table

from remediator.cli.programs import Subparsers
from remediator.docs import names, page, title

_ABOUT = """\
Show a page of the documentation that belongs to this very version: laid out on a terminal, as it
is in a file or a pipe. Without PAGE, list the pages.
"""
_WIDEST = 110
# A first column as narrow as this holds keys, which are not broken.
_WIDEST_KEY = 28


class _Table(TableElement):
    """A table that cuts nothing off on a narrow terminal."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for table in super().__rich_console__(console, options):
            if isinstance(table, Table):
                for column in table.columns:
                    column.overflow = "fold"
                first = table.columns[0]
                widest = max((len(str(cell)) for cell in first.cells), default=0)
                first.no_wrap = widest <= _WIDEST_KEY
            yield table


class _Page(Markdown):
    """A page for a terminal."""

    elements: ClassVar = {**Markdown.elements, "table_open": _Table}


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "docs", help="read the documentation of this version", description=_ABOUT
    )
    parser.add_argument("page", nargs="?", choices=names(), metavar="PAGE", help=", ".join(names()))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a page, or the list of them."""
    console = Console()
    if options.page is None:
        width = max(len(name) for name in names())
        for name in names():
            print(f"{name:<{width}}  {title(name)}")
    elif console.is_terminal:
        Console(width=min(console.width, _WIDEST)).print(_Page(page(options.page)))
    else:
        print(page(options.page), end="")
    return 0
