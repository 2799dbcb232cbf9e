"""Number the rows of the inbox: never the same number twice, though rows are forgotten or lost.

Whoever remembers how far it has read would never look at a number that comes a second time.
"""

import sqlite3

from remediator.database import Database
from remediator.high_water import HighWaterMark

_SHOWN = "coalesce((SELECT max(id) FROM {0}), 0)"
_EVER = f"max({_SHOWN}, coalesce((SELECT number FROM given WHERE name = '{{0}}'), 0))"  # noqa: S608


def next_of(table: str) -> str:
    """Return the SQL of the number for the next row of *table*."""
    return f"1 + {_EVER.format(table)}"


def newest(database: Database, table: str) -> int:
    """Return the highest number that *table* has ever given, as the database itself knows.

    Of an inbox that its receiver has not migrated yet it is the highest that is still there.
    """
    is_noted = database.row("SELECT 1 FROM sqlite_schema WHERE name = 'given'") is not None
    row = database.row(f"SELECT {(_EVER if is_noted else _SHOWN).format(table)}")
    return int(row[0]) if row else 0


def note(connection: sqlite3.Connection, table: str) -> None:
    """Note the newest row's number, which is to be deleted."""
    connection.execute(
        f"UPDATE given SET number = {_EVER.format(table)} WHERE name = ?",  # noqa: S608
        (table,),
    )


def make_good(database: Database, table: str, mark: HighWaterMark) -> int:
    """Return how many numbers of *table* are lost, and see that none of them is given again."""
    number = mark.read()
    lost = number - newest(database, table)
    if lost <= 0:
        return 0
    with database.transaction() as connection:
        connection.execute("UPDATE given SET number = ? WHERE name = ?", (number, table))
    return lost
