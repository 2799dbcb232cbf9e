"""The journal: what the worker knows and did. One program writes it, everybody may read it."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from remediator.database import Database, open_reader, open_writer
from remediator.errors import JournalError
from remediator.high_water import HighWaterMark, given
from remediator.journal import retention
from remediator.journal.approvals import Approvals
from remediator.journal.attempts import Attempts
from remediator.journal.board import Board
from remediator.journal.decisions import Decisions
from remediator.journal.extensions import Extensions
from remediator.journal.incidents import Incidents
from remediator.journal.intake import Intake
from remediator.journal.lasting import LastingEffects
from remediator.journal.months import Months
from remediator.journal.notices import Notices
from remediator.journal.operations import Operations
from remediator.journal.search import Search
from remediator.journal.tallies import Tallies

log = logging.getLogger(__name__)

FILE = "journal.db"
# Who pauses where the journal cannot be relied on.
ACTOR = "the journal"


class Journal:
    """The journal of one state folder, in the parts that belong together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mark: HighWaterMark | None = None
        self.intake = Intake(database)
        self.incidents = Incidents(database)
        self.decisions = Decisions(database)
        self.attempts = Attempts(database)
        self.lasting = LastingEffects(database)
        self.extensions = Extensions(database)
        self.notices = Notices(database)
        self.approvals = Approvals(database)
        self.operations = Operations(database)
        self.search = Search(database)
        self.board = Board(database)
        self.months = Months(database)
        self.tallies = Tallies(database)

    @classmethod
    def for_worker(cls, folder: Path) -> "Journal":
        """Open the journal in *folder* for writing; JournalError if that can't be.

        If its newest rows are gone, or it was made anew, attempts may be forgotten: then everything
        is paused until a person has looked.
        """
        journal = cls(open_writer(folder / FILE, __package__ or "", JournalError))
        journal._check(folder / "journal.mark")
        return journal

    @classmethod
    def for_reading(cls, folder: Path) -> "Journal":
        """Open the journal in *folder* for looking; JournalError while there is none."""
        return cls(open_reader(folder / FILE, JournalError, __package__ or ""))

    @property
    def name(self) -> str:
        """What tells this journal from one that was made anew in its place."""
        row = self._database.row("SELECT name FROM identity")
        return str(row["name"]) if row else ""

    @contextlib.contextmanager
    def transaction(self, *, waits: bool = True) -> Iterator[None]:
        """Make all writes inside the block one: all of them durable, or none.

        Unless it *waits*, they are durable with the next ones that do.
        """
        with self._database.transaction(waits=waits):
            yield

    def forget(self, before: datetime, most: int) -> int:
        """Delete up to *most* incidents that were closed before *before*; return how many."""
        return retention.forget(self._database, before, most)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
        if self._mark is not None:
            self._mark.close()

    def _check(self, path: Path) -> None:
        """Compare with the high-water mark, and keep it from now on."""
        try:
            mark = self._mark = HighWaterMark(path, self.name)
        except OSError as error:
            self._database.close()
            raise JournalError(f"{path}: {error.strerror}") from error
        lost = mark.read() - given(self._database)
        if lost > 0:
            self._make_good(lost)
        elif mark.is_of_another():
            self._pause("the journal was made anew: what was done before is forgotten")
        mark.write(given(self._database))
        self._database.share_syncs(lambda: given(self._database), mark.write)

    def _make_good(self, lost: int) -> None:
        with self._database.transaction() as connection:
            # What people were told of by number must not become something else.
            connection.execute("UPDATE sqlite_sequence SET seq = seq + ?", (lost,))
            self._pause(
                f"the journal has lost its newest rows ({lost}): see the disk, and what was done"
            )

    def _pause(self, reason: str) -> None:
        log.error("paused: %s; then: remediator resume", reason)
        self.operations.pause(reason, ACTOR, datetime.now(UTC))
