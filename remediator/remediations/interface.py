"""What every remediation is to the engine, and what the engine gives it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from remediator.core.aftermath import Aftermath
from remediator.core.alerts import Alert
from remediator.core.attempts import Stack, Task, Verification
from remediator.core.observation import Observation
from remediator.core.policy import Options

Say = Callable[[str], None]


class Steps(Protocol):
    """The journal of one attempt, as the remediation sees it."""

    @property
    def before(self) -> frozenset[str]:
        """The steps that were begun before this program started: their effect is unknown."""
        ...

    def age_of(self, name: str) -> timedelta | None:
        """Return how long ago an earlier life of this program began a step, None if it did not."""
        ...

    def step(self, name: str, detail: str, *, fresh: bool = False) -> AbstractContextManager[Say]:
        """Write down that something is about to be done; say inside the block what came of it.

        RefusedError, and nothing is begun, if it has to be *fresh* what was seen and is not.
        """
        ...


class Remediation(Protocol):
    """A way to act on what an alert names.

    The engine calls `observe` before each decision, `execute` when the attempt is in the journal,
    and `verify` when `execute` has returned, timed out, or was cut off by a crash.
    """

    @property
    def name(self) -> str:
        """The name the policy uses."""
        ...

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what the sources say about the target of *alert*; a silent source is a report.

        What may change at any moment is asked last, or checked once more by `execute`: nobody else
        knows how long a look takes, and its evidence counts as new when it is over.
        *options* are those of the policy's rung: some say what is acted on.
        """
        ...

    def execute(self, task: Task, steps: Steps) -> str:
        """Do it, each step written down first; return a sentence about what was done.

        Called again after a crash, with `Steps.before` saying what had begun: that is looked at,
        and not begun again. Raises TargetGoneError, RefusedError or EffectUnknownError.
        """
        ...

    def verify(self, task: Task) -> Verification:
        """Return whether what should be so is so now, from fresh evidence."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """A remediation whose effect is put back once no alert asks for it any more.

    The engine calls `undo` when the incident is closed, also after a crash, and again until it
    returns: what has been put back already, or changed by somebody else, is left as it is.
    """

    def undo(self, task: Task, steps: Steps, stack: Stack) -> str:
        """Put it back, as far as *stack* allows; return a sentence about how it is now.

        Raises SourceError or a RemediationError where it cannot be told or done yet.
        """
        ...


@runtime_checkable
class LeavesGpus(Protocol):
    """A remediation after which the GPUs of its target are free, and are to be looked at."""

    def aftermath(self, task: Task) -> Aftermath | None:
        """Return what is wrong on them now; None if the target has not left them.

        Asked once, before an attempt is settled that was carried out. SourceError if a source is
        silent.
        """
        ...
