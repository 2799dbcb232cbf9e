"""A journal whose process dies after so many writes, and steps at which it dies."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from remediator.database import Database
from tests.fakes import MemorySteps


class DiedError(BaseException):
    """The end of a process: nothing in it catches this."""


class MortalDatabase:
    """A database whose process dies right after its *lives*-th write, and does nothing then.

    ``on_disk`` is what a power failure leaves of the file: writes that nobody waited for are lost.
    """

    def __init__(self, database: Database, lives: int) -> None:
        self._database = database
        self._lives = lives
        self._depth = threading.local()
        self.writes = 0
        self.on_disk = self._image()

    @contextmanager
    def transaction(self, *, waits: bool = True) -> Iterator[sqlite3.Connection]:
        self._live()
        depth = getattr(self._depth, "now", 0)
        self._depth.now = depth + 1
        try:
            with self._database.transaction(waits=waits) as connection:
                before = connection.total_changes
                yield connection
                changed = connection.total_changes > before
        finally:
            self._depth.now = depth
        if depth == 0 and changed:
            self.writes += 1
            if waits:
                self.on_disk = self._image()
            self._live()

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        self._live()
        return self._database.rows(sql, parameters)

    def row(self, sql: str, parameters: tuple[object, ...] = ()) -> sqlite3.Row | None:
        self._live()
        return self._database.row(sql, parameters)

    def close(self) -> None:
        self._database.close()

    def _image(self) -> bytes:
        with self._database.transaction() as connection:
            return connection.serialize()

    def _live(self) -> None:
        if self.writes >= self._lives:
            raise DiedError


class MortalSteps(MemorySteps):
    """Steps whose process dies at one of them: when it is written down, or when it is done."""

    def __init__(self, step: str, *, done: bool) -> None:
        super().__init__()
        self._dies_at = step
        self._done = done

    @contextmanager
    def step(  # type: ignore[override]  # a context manager as well
        self, name: str, detail: str, *, fresh: bool = False
    ) -> Iterator[Callable[[str], None]]:
        with super().step(name, detail, fresh=fresh) as say:
            if name == self._dies_at and not self._done:
                raise DiedError
            yield say
            if name == self._dies_at:
                raise DiedError
