"""A source that hangs, fails and comes back, as a scrape sees it."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from remediator.errors import SourceError
from remediator.exporter.host import age_collector
from remediator.exporter.source_watch import Known, SourceWatch
from tests.eventually import eventually
from tests.unit.gpu_views import a_view, rows

MOMENT = timedelta(milliseconds=20)


class Source:
    """Counts its readings; can be made to hang or to fail."""

    def __init__(self) -> None:
        self.read = 0
        self.failure: Exception | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self) -> int:
        self.goes_on.wait(10)
        if self.failure is not None:
            raise self.failure
        self.read += 1
        return self.read


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.goes_on.set()


Watch = Callable[..., SourceWatch[int]]


@pytest.fixture
def watched(source: Source) -> Iterator[Watch]:
    watches: list[SourceWatch[int]] = []

    def watched(**times: timedelta) -> SourceWatch[int]:
        watch = SourceWatch("the-file", source, **times)
        watch.start()
        watches.append(watch)
        return watch

    yield watched
    source.goes_on.set()
    for watch in watches:
        watch.stop()


def answer(watch: SourceWatch[int]) -> Known[int] | None:
    try:
        return watch.latest()
    except SourceError:
        return None


def test_each_scrape_gets_a_fresh_answer(watched: Watch) -> None:
    watch = watched(patience=timedelta(seconds=5))

    first, second = watch.latest(), watch.latest()

    assert first.answer < second.answer
    assert (first.problem, second.problem) == (None, None)


def test_a_source_that_hangs_hangs_nobody_and_the_last_answer_is_served(
    watched: Watch, source: Source
) -> None:
    watch = watched(patience=MOMENT, late=3 * MOMENT)
    known = eventually(lambda: answer(watch), 5, "a first answer")
    source.goes_on.clear()

    hung = eventually(lambda: k if (k := watch.latest()).problem else None, 5, "it is late")

    assert hung.answer >= known.answer
    assert "the-file: no answer since 2" in str(hung.problem)
    assert watch.latest().problem == hung.problem, "the same words, or each scrape is logged"
    with pytest.raises(SourceError, match="no answer since"):
        hung.check()


def test_a_source_that_goes_on_is_well_again(watched: Watch, source: Source) -> None:
    watch = watched(patience=MOMENT, late=MOMENT)
    eventually(lambda: answer(watch), 5, "a first answer")
    source.goes_on.clear()
    eventually(lambda: watch.latest().problem, 5, "it hangs")
    source.goes_on.set()

    eventually(lambda: watch.latest().problem is None, 5, "it is well")


def test_a_source_that_hangs_from_the_start_has_no_answer(watched: Watch, source: Source) -> None:
    source.goes_on.clear()
    watch = watched(patience=MOMENT, late=timedelta(hours=1))

    with pytest.raises(SourceError, match="the-file: not read yet"):
        watch.latest()
    assert watch.age_seconds is None


def test_a_failure_is_told_and_the_last_answer_is_served(watched: Watch, source: Source) -> None:
    watch = watched(patience=timedelta(seconds=5))
    before = watch.latest().answer
    source.failure = SourceError("cannot read the file")

    known = watch.latest()

    assert (known.answer, known.problem) == (before, "cannot read the file")
    source.failure = None
    assert watch.latest().problem is None


def test_an_answer_that_is_too_old_to_be_true_is_not_served(watched: Watch, source: Source) -> None:
    watch = watched(patience=timedelta(seconds=5), keep_for=3 * MOMENT)
    watch.latest()
    source.failure = SourceError("cannot read the file")

    eventually(lambda: answer(watch) is None, 5, "it is too old")
    with pytest.raises(SourceError, match="cannot read the file"):
        watch.latest()


def test_a_bug_does_not_end_the_watch(watched: Watch, source: Source) -> None:
    watch = watched(patience=timedelta(seconds=5))
    watch.latest()
    source.failure = ZeroDivisionError("oops")

    assert "ZeroDivisionError" in str(watch.latest().problem)
    source.failure = None
    assert watch.latest().problem is None


def test_how_old_an_answer_is_is_shown(watched: Watch, source: Source) -> None:
    watch = watched(patience=MOMENT)
    eventually(lambda: answer(watch), 5, "a first answer")
    silent: SourceWatch[int] = SourceWatch("silent", source)
    collect = age_collector([watch, silent])
    source.goes_on.clear()

    [(labels, age)] = rows(collect(a_view()), "ds01_source_age_seconds")

    assert labels == {"source": "the-file"}
    eventually(lambda: rows(collect(a_view()), "ds01_source_age_seconds")[0][1] > age, 5, "it ages")
