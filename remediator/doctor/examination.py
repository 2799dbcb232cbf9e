"""Go through checks in their order, each of which says what it found or what is wrong.

One fault should make one line: what needs something that is not well is not looked at.
"""

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from remediator.errors import ConfigError, RemediatorError


class Health(enum.Enum):
    """How it is; ``unknown`` is no fault of the pipeline's."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"


class AilmentError(RemediatorError):
    """Something is wrong; *remedy* is what a person can do, where it is not the check's own."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class CannotTellError(RemediatorError):
    """It cannot be told from here, and says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at; ``look`` says in a few words how it is, or raises what is wrong.

    It is looked at only if all the checks that it ``needs`` came out good.
    """

    name: str
    look: Callable[[], str]
    remedy: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check."""

    name: str
    health: Health
    says: str
    remedy: str = ""


def examine(checks: Sequence[Check]) -> Iterator[Finding]:
    """Yield a finding for each check as soon as it is there."""
    good: set[str] = set()
    for check in checks:
        lacking = [name for name in check.needs if name not in good]
        if lacking:
            yield Finding(check.name, Health.UNKNOWN, f"not looked at without {lacking[0]}")
            continue
        finding = _look(check)
        if finding.health is Health.GOOD:
            good.add(check.name)
        yield finding


def _look(check: Check) -> Finding:
    try:
        return Finding(check.name, Health.GOOD, check.look())
    except CannotTellError as error:
        return Finding(check.name, Health.UNKNOWN, str(error))
    except AilmentError as error:
        return Finding(check.name, Health.BAD, str(error), error.remedy or check.remedy)
    except ConfigError as error:
        more = len(error.problems) - 1
        says = f"{error.problems[0]}{f' (and {more} more)' if more else ''}"
        return Finding(check.name, Health.BAD, says, check.remedy)
    except (RemediatorError, OSError) as error:
        return Finding(check.name, Health.BAD, str(error), check.remedy)
