"""What commands print with: a console that leaves text alone, tables, and values for machines."""

from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from remediator.core.notices import clean

# Below this a table of many columns is cut into single letters; a line for each cell is read then.
_NARROW = 90
_FEW = 4
_WIDE = 220


def make_console() -> Console:
    """Return a console that leaves text alone: no markup, no wrapping when it is not a screen."""
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True, width=_WIDE)
    return console


def print_rows(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of cells that others chose, or where it is narrow a paragraph for each row."""
    rows = [[clean(cell) for cell in row] for row in rows]
    if console.is_terminal and console.width < _NARROW and len(columns) > _FEW:
        _print_paragraphs(console, columns, rows)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_paragraphs(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    widest = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            console.print()
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(min_width=widest, style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            table.add_row(column, Text(cell))
        console.print(table)


def plain(value: Any) -> Any:
    """Return *value* in what JSON knows: dataclasses as objects, times as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, date | datetime) else value
