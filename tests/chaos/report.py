"""What a run came to, as a table and as its exit status."""

from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Row:
    """One scenario: counts of deliveries and containers together, times in seconds."""

    name: str
    offered: int = 0
    acknowledged: int = 0
    hostile: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    # From the end of the fault until a delivery is answered and taken by the worker again, and
    # until everything that had waited has come to its end.
    recovered: float = 0.0
    settled: float = 0.0
    slowest: float = 0.0
    failure: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, doubled or wrongly stopped, and all was as it should be."""
        return not (self.lost or self.doubled or self.wrong or self.failure)


def show(console: Console, rows: list[Row]) -> bool:
    """Print the table and what is wrong; return whether all is well."""
    table = Table(title="Under fire", title_justify="left")
    table.add_column("scenario")
    for heading in (
        *("offered", "acknowledged", "hostile", "lost", "doubled", "wrongly stopped"),
        *("recovered in (s)", "settled in (s)", "slowest answer (s)"),
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*_cells(row), style=None if row.is_good else "bold red")
    table.add_section()
    table.add_row(*_cells(_total(rows)), style="bold")
    console.print(table)
    for row in rows:
        for what, names in (
            ("lost", row.lost),
            ("doubled", row.doubled),
            ("wrongly stopped", row.wrong),
        ):
            if names:
                console.print(f"{row.name}: {what}: {', '.join(names[:20])}", style="red")
        if row.failure:
            console.print(f"{row.name}: {row.failure}", style="red", markup=False)
    return all(row.is_good for row in rows)


def _cells(row: Row) -> list[str]:
    counts = (
        *(row.offered, row.acknowledged, row.hostile),
        *(len(row.lost), len(row.doubled), len(row.wrong)),
    )
    times = (row.recovered, row.settled, row.slowest)
    return [row.name, *(f"{count:,}" for count in counts), *(f"{time:.1f}" for time in times)]


def _total(rows: list[Row]) -> Row:
    total = Row("total, and the longest")
    for row in rows:
        total.offered += row.offered
        total.acknowledged += row.acknowledged
        total.hostile += row.hostile
        total.lost += row.lost
        total.doubled += row.doubled
        total.wrong += row.wrong
        total.recovered = max(total.recovered, row.recovered)
        total.settled = max(total.settled, row.settled)
        total.slowest = max(total.slowest, row.slowest)
    return total
