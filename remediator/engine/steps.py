"""The steps of one attempt in the journal, and for how long what was seen may be acted on."""

import contextlib
from collections.abc import Iterator
from datetime import datetime, timedelta

from remediator.engine.parts import EngineParts
from remediator.errors import RefusedError, RemediationError
from remediator.remediations.interface import Say

# A step that rests on what was seen is begun within this time, or not at all.
_EVIDENCE_KEEPS = timedelta(seconds=2)


def is_old(seen_at: datetime | None, now: datetime, keeps: timedelta) -> bool:
    """Return whether what was seen then is not to be acted on now: it is old, or the clock lies."""
    return seen_at is None or not timedelta() <= now - seen_at <= keeps


class StepLog:
    """The steps of one attempt, each in the journal before it is done.

    *seen_at* is when the look was over that led to it; None if nobody knows any more.
    """

    def __init__(self, parts: EngineParts, attempt: int, seen_at: datetime | None = None) -> None:
        self._journal = parts.journal
        self._clock = parts.clock
        self._attempt = attempt
        self._seen_at = seen_at
        steps = self._journal.attempts.steps(attempt)
        self._began_before = {step.name: step.began_at for step in steps}
        self.begun = False

    @property
    def before(self) -> frozenset[str]:
        """The steps that an earlier life of this program had begun."""
        return frozenset(self._began_before)

    def age_of(self, name: str) -> timedelta | None:
        """Return how long ago an earlier life of this program began a step."""
        began_at = self._began_before.get(name)
        return None if began_at is None else self._clock.now() - began_at

    @contextlib.contextmanager
    def step(self, name: str, detail: str, *, fresh: bool = False) -> Iterator[Say]:
        """Write a step down, let it be done, and write down what came of it."""
        number = self._begin(name, detail, fresh)
        self.begun = True
        said: list[str] = []
        try:
            yield said.append
        except RemediationError as error:
            self._journal.attempts.end_step(number, f"failed: {error}", self._clock.now())
            raise
        self._journal.attempts.end_step(number, said[-1] if said else "done", self._clock.now())

    def _begin(self, name: str, detail: str, fresh: bool) -> int:
        with self._journal.transaction():
            # Others may have kept it waiting for the journal until now.
            now = self._clock.now()
            if fresh and is_old(self._seen_at, now, _EVIDENCE_KEEPS):
                raise RefusedError("it took too long until it could begin: what was seen is old")
            return self._journal.attempts.begin_step(self._attempt, name, detail, now)
