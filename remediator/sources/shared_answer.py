"""One answer for all who ask the same at the same time, never older than anybody's question."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedAnswer(Generic[T]):
    """Asks *question* for all who wait: whoever comes while it is asked has the next answer.

    An answer that was begun before somebody asked may not know what happened meanwhile, and is
    not theirs. What *question* raises is raised for all whom it was asked for.
    """

    def __init__(self, question: Callable[[], T]) -> None:
        self._question = question
        self._lock = threading.Lock()
        self._asked: Future[T] | None = None
        self._next: Future[T] | None = None

    def get(self) -> T:
        """Return an answer that was asked for after this was called."""
        with self._lock:
            before = self._asked
            if before is None:
                asks, mine = True, Future[T]()
                self._asked = mine
            else:
                asks = self._next is None
                mine = self._next = self._next or Future()
        if asks:
            self._ask(mine, before)
        return mine.result()

    def _ask(self, mine: Future[T], before: Future[T] | None) -> None:
        if before is not None:
            # Whether that one went well is for those who asked for it.
            before.exception()
            with self._lock:
                self._asked, self._next = mine, None
        try:
            mine.set_result(self._question())
        except Exception as error:  # noqa: BLE001 - raised again for each who waits
            mine.set_exception(error)
        finally:
            with self._lock:
                if self._next is None:
                    self._asked = None
