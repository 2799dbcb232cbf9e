"""What never answers is given up in time: a driver, a file server, a directory of users."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from remediator.errors import SourceError
from remediator.sources.in_time import InTime
from tests.eventually import eventually

TIMEOUT = timedelta(seconds=0.2)
AGES = timedelta(minutes=1)


class Hanging:
    """A question that hangs until it is let go."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        self.goes_on.wait(20)
        return "late"


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.goes_on.set()


def answer(asking: InTime, key: str) -> int | None:
    """Return 7, or None if it comes too late, as it may where the machine is busy."""
    with contextlib.suppress(SourceError):
        return asking.ask(key, lambda: 7)
    return None


def test_an_answer_is_passed_on_and_so_is_an_error() -> None:
    asking = InTime("the driver", AGES)

    assert asking.ask("", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        asking.ask("", lambda: 1 // 0)


def test_what_hangs_is_given_up_in_time_and_not_asked_again_meanwhile(hanging: Hanging) -> None:
    asking = InTime("the driver", TIMEOUT)

    with pytest.raises(SourceError, match=r"the driver did not answer within 0\.2 s"):
        asking.ask("gpu", hanging)
    # What no thread has come to in that time does not hang, and is asked again.
    eventually(lambda: still_hangs(asking, hanging), 5, "the question hangs")

    eventually(lambda: hanging.asked, 5, "it is asked")
    assert hanging.asked == 1
    assert eventually(lambda: answer(asking, "another"), 5, "another is answered") == 7


def still_hangs(asking: InTime, hanging: Hanging) -> bool:
    with pytest.raises(SourceError) as given_up:
        asking.ask("gpu", hanging)
    return "the driver still does not answer" in str(given_up.value)


def test_what_answers_again_is_asked_again(hanging: Hanging) -> None:
    asking = InTime("the driver", TIMEOUT)
    with pytest.raises(SourceError):
        asking.ask("gpu", hanging)
    hanging.goes_on.set()

    assert eventually(lambda: answer(asking, "gpu"), 5, "it answers") == 7


def test_many_that_hang_keep_each_question_no_longer_than_its_time(hanging: Hanging) -> None:
    asking = InTime("the file server", TIMEOUT)
    for number in range(20):
        with pytest.raises(SourceError):
            asking.ask(str(number), hanging)

    # No thread is left, so it was never begun, and hangs nowhere.
    with pytest.raises(SourceError, match="did not answer"):
        asking.ask("the last", lambda: 7)
    hanging.goes_on.set()
    assert eventually(lambda: answer(asking, "the last"), 5, "it answers") == 7
