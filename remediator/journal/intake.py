"""How far the worker has come in the inbox, and what it found there."""

from dataclasses import dataclass

from remediator.database import Database


@dataclass(frozen=True, slots=True)
class IntakeMark:
    """The last delivery and the last command taken; bodies refused, alerts truncated so far.

    ``inbox`` is the identity of the inbox that the numbers are of.
    """

    last_delivery: int
    refused: int
    truncated: int
    last_command: int = 0
    inbox: str = ""


class Intake:
    """The one row that says where the worker stands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self) -> IntakeMark:
        """Return where the worker stands."""
        row = self._database.row(
            "SELECT last_delivery, refused, truncated, last_command, inbox FROM intake"
        )
        return IntakeMark(*row) if row else IntakeMark(0, 0, 0)

    def begin(self, inbox: str) -> bool:
        """Say which inbox is read; True if it took another one's place and is read from 0 on."""
        row = self._database.row("SELECT inbox FROM intake")
        known = str(row["inbox"]) if row else ""
        # Asked at each round, and nearly always the same: that takes no transaction.
        if known == inbox:
            return False
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE intake SET inbox = ?, last_delivery = 0, last_command = 0", (inbox,)
            )
        return bool(known)

    def advance(self, delivery: int, *, refused: bool = False, truncated: int = 0) -> bool:
        """Say that *delivery* is taken; False if it already was, and nothing must follow."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE intake SET last_delivery = ?, refused = refused + ?,"
                " truncated = truncated + ? WHERE last_delivery < ?",
                (delivery, refused, truncated, delivery),
            )
        return cursor.rowcount == 1

    def advance_command(self, command: int) -> bool:
        """Say that *command* is taken; False if it already was, and nothing must follow."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE intake SET last_command = ? WHERE last_command < ?", (command, command)
            )
        return cursor.rowcount == 1
