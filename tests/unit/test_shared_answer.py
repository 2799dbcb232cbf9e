"""Those who ask at the same time share an answer, which is never older than their question."""

import itertools
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from remediator.errors import SourceError
from remediator.sources.shared_answer import SharedAnswer
from tests.eventually import eventually

WAIT = 30


class Question:
    """Answers with its number, each time only once it is let go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.let_go = threading.Semaphore(0)
        self.fails_at: int | None = None

    def __call__(self) -> int:
        self.begun += 1
        mine = self.begun
        assert self.let_go.acquire(timeout=WAIT)
        if mine == self.fails_at:
            raise SourceError("no answer")
        return mine


@pytest.fixture
def question() -> Question:
    return Question()


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(32)


def asking(threads: ThreadPoolExecutor, get: Callable[[], int], count: int) -> list[Future[int]]:
    """Let *count* threads ask; return once each is on its way."""
    started = threading.Semaphore(0)

    def ask() -> int:
        started.release()
        return get()

    asked = [threads.submit(ask) for _ in range(count)]
    for _ in asked:
        assert started.acquire(timeout=WAIT)
    return asked


def waiting_in(function: Callable[[], int]) -> int:
    """How many threads have called it and wait for something."""
    stacks = [
        [frame.f_code for frame, _ in traceback.walk_stack(top)]
        for top in sys._current_frames().values()
    ]
    code = function.__func__.__code__  # type: ignore[attr-defined]
    return sum(code in stack and stack[0].co_name == "wait" for stack in stacks)


def results(asked: list[Future[int]]) -> set[int]:
    return {one.result(WAIT) for one in asked}


def test_who_asks_alone_is_answered_afresh(question: Question) -> None:
    shared = SharedAnswer(question)
    question.let_go.release(3)

    assert [shared.get() for _ in range(3)] == [1, 2, 3]


def test_who_comes_while_it_is_asked_has_the_next_answer_together(
    question: Question, threads: ThreadPoolExecutor
) -> None:
    shared = SharedAnswer(question)
    first = asking(threads, shared.get, 1)
    eventually(lambda: question.begun == 1, WAIT, "it is being asked")
    later = asking(threads, shared.get, 20)
    eventually(lambda: waiting_in(shared.get) == 21, WAIT, "all of them wait")
    question.let_go.release(2)

    assert results(first) == {1}
    assert results(later) == {2}
    assert question.begun == 2


def test_what_goes_wrong_goes_wrong_for_those_it_was_asked_for(
    question: Question, threads: ThreadPoolExecutor
) -> None:
    shared = SharedAnswer(question)
    question.fails_at = 1
    first = asking(threads, shared.get, 1)
    eventually(lambda: question.begun == 1, WAIT, "it is being asked")
    later = asking(threads, shared.get, 3)
    question.let_go.release(20)

    with pytest.raises(SourceError, match="no answer"):
        first[0].result(WAIT)
    assert 1 not in results(later)


def test_no_answer_is_older_than_its_question(threads: ThreadPoolExecutor) -> None:
    clock = itertools.count()
    shared = SharedAnswer(lambda: next(clock))

    def is_newer(_: int) -> bool:
        return next(clock) < shared.get()

    assert all(threads.map(is_newer, range(3000)))
