"""A source that may hang, such as a file on a dead server, read in a thread of its own.

A scrape asks for a fresh answer and waits a moment. If none comes it gets the last one, as long as
that can be true, and hears what is wrong.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from remediator.errors import SourceError

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """What a source last told; ``problem`` is why it told nothing newer, if it should have."""

    answer: T
    problem: str | None

    def check(self) -> None:
        """Raise the problem as a SourceError."""
        if self.problem is not None:
            raise SourceError(self.problem)


class SourceWatch(Generic[T]):
    """Reads a source, called *name* in messages, whenever it is asked for.

    A reading that takes longer than *late* is a problem; an answer is served for *keep_for*.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        *,
        patience: timedelta = timedelta(milliseconds=200),
        late: timedelta = timedelta(seconds=10),
        keep_for: timedelta = timedelta(minutes=5),
    ) -> None:
        self.name = name
        self._read = read
        self._patience = patience.total_seconds()
        self._late = late.total_seconds()
        self._keep_for = keep_for.total_seconds()
        self._condition = threading.Condition()
        self._wanted = self._stopping = False
        self._asked_at: float | None = None
        self._finished = 0
        self._answer: tuple[T] | None = None
        self._answered_at = 0.0
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {name}", daemon=True)

    def start(self) -> None:
        """Begin to answer, with a first reading at once: the source may be long."""
        self._wanted = True
        self._thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """End; a thread that hangs is left behind."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(within.total_seconds())

    @property
    def age_seconds(self) -> float | None:
        """How old the last answer is; None before the first."""
        with self._condition:
            return None if self._answer is None else time.monotonic() - self._answered_at

    def latest(self) -> Known[T]:
        """Return what the source says now, or else last said; SourceError if that is too old."""
        with self._condition:
            if not self._hangs_for(self._patience):
                self._ask()
            problem = self._problem()
            if self._answer is None:
                raise SourceError(problem or f"{self.name}: not read yet")
            if time.monotonic() - self._answered_at > self._keep_for:
                raise SourceError(problem or f"{self.name}: not read for too long")
            return Known(self._answer[0], problem)

    def _ask(self) -> None:
        before = self._finished
        self._wanted = True
        self._condition.notify_all()
        self._condition.wait_for(lambda: self._finished > before, self._patience)

    def _problem(self) -> str | None:
        if self._asked_at is not None and self._hangs_for(self._late):
            # A time, not an age, which would be another message at every scrape.
            ago = timedelta(seconds=time.monotonic() - self._asked_at)
            return f"{self.name}: no answer since {datetime.now(UTC) - ago:%Y-%m-%d %H:%M:%S} UTC"
        return self._failure

    def _hangs_for(self, seconds: float) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at > seconds

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._wanted or self._stopping)
                if self._stopping:
                    return
                self._wanted = False
                self._asked_at = time.monotonic()
            answer, failure = self._attempt()
            with self._condition:
                self._asked_at = None
                self._failure = failure
                if answer is not None:
                    self._answer, self._answered_at = answer, time.monotonic()
                self._finished += 1
                self._condition.notify_all()

    def _attempt(self) -> tuple[tuple[T] | None, str | None]:
        try:
            return (self._read(),), None
        except SourceError as error:
            return None, str(error)
        except Exception as error:
            # A bug must not end the thread, and with it every answer to come.
            log.exception("%s could not be read", self.name)
            return None, f"{self.name}: {type(error).__name__}: {error}"
