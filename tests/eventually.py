"""The only place where tests wait.

A wait is a condition with a limit, never a pause: it ends as soon as the condition holds, and a
failure says what was waited for and what there was instead.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.02


def patience() -> float:
    """The factor by which this machine is slower than the one the limits were written on."""
    return float(os.environ.get("REMEDIATOR_TEST_PATIENCE", "1"))


def eventually(condition: Callable[[], T], within: float, what: str) -> T:
    """Return *condition*'s first truthy value; fail once *within* seconds passed without one.

    The condition is always tried at least once, and an exception it raises is passed on.
    """
    limit = within * patience()
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {limit:g} s: {what}; last seen: {value!r}")
        time.sleep(_POLL_SECONDS)
