"""The journal: what the worker knows and did. One program writes it, everybody may read it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from remediator.database import Database, open_reader, open_writer
from remediator.errors import JournalError
from remediator.journal.approvals import Approvals
from remediator.journal.attempts import Attempts
from remediator.journal.decisions import Decisions
from remediator.journal.incidents import Incidents
from remediator.journal.intake import Intake
from remediator.journal.notices import Notices
from remediator.journal.operations import Operations

FILE = "journal.db"


class Journal:
    """The journal of one state folder, in the parts that belong together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.intake = Intake(database)
        self.incidents = Incidents(database)
        self.decisions = Decisions(database)
        self.attempts = Attempts(database)
        self.notices = Notices(database)
        self.approvals = Approvals(database)
        self.operations = Operations(database)

    @classmethod
    def for_worker(cls, folder: Path) -> "Journal":
        """Open the journal in *folder* for writing; JournalError if that can't be."""
        return cls(open_writer(folder / FILE, __package__ or "", JournalError))

    @classmethod
    def for_reading(cls, folder: Path) -> "Journal":
        """Open the journal in *folder* for looking; JournalError while there is none."""
        return cls(open_reader(folder / FILE, JournalError))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes inside the block one: all of them durable, or none."""
        with self._database.transaction():
            yield

    def close(self) -> None:
        """Close the database."""
        self._database.close()
