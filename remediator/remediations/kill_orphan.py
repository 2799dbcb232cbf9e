"""kill-orphan: end a process on a GPU that belongs to no living container and no permitted user."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.durations import humanize
from remediator.core.observation import Observation, Verdict
from remediator.core.policy import Options
from remediator.core.targets import Process
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.interface import Steps
from remediator.remediations.orphan_process import OrphanProcess, Place
from remediator.remediations.orphan_senses import OrphanSenses, Permitted

# How far apart the two looks before the first signal are. Something that only looks like an orphan
# for a moment, such as a process of a container that Docker is about to call running, has passed.
SETTLING = timedelta(seconds=5)
_WAIT = timedelta(seconds=10)
# How long the kernel may take to end a process that was killed: it gives back its GPU's memory.
DYING = timedelta(seconds=10)
# How long after its time an interrupted attempt may still be brought to its end.
_STILL_FRESH = timedelta(seconds=30)


class Held(Protocol):
    """One process that is held, so that nobody else can take its place."""

    def send(self, number: signal.Signals, check: Callable[[], object]) -> None:
        """Send a signal right after *check*, which raises whatever speaks against it."""
        ...

    def ends_within(self, time: timedelta) -> bool:
        """Wait for its end, at most for *time*; tell whether it came."""
        ...


class Hands(Protocol):
    """What ends processes."""

    def hold(self, target: Process) -> AbstractContextManager[Held]:
        """Hold exactly *target*; TargetGoneError or RefusedError."""
        ...

    def has_ended(self, target: Process) -> bool:
        """Tell whether exactly *target* has ended; RefusedError if that cannot be told."""
        ...


class KillOrphan:
    """Asks an orphan to end, and ends it by force if it does not within its time."""

    name = "kill-orphan"

    def __init__(
        self,
        senses: OrphanSenses,
        hands: Hands,
        permitted: Permitted,
        settling: timedelta = SETTLING,
        dying: timedelta = DYING,
    ) -> None:
        self._senses = senses
        self._hands = hands
        self._eyes = OrphanProcess(senses, permitted)
        self._settling = settling
        self._dying = dying

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what Prometheus, Docker, NVML and /proc say of the process the alert names."""
        return self._eyes.observe(alert, now, options)

    def execute(self, task: Task, steps: Steps) -> str:
        """End it; it is looked at twice before, and once more right before each signal.

        The looks come before the first step, so that what they speak against was never begun.
        """
        target = _process(task)
        try:
            with self._hands.hold(target) as process:
                return self._end(task, steps, process)
        except TargetGoneError as error:
            if steps.before:
                return f"it has ended since it was asked to, before the interruption: {error}"
            raise
        except RefusedError as error:
            if steps.before:
                # A signal may have gone out, so it is not true that nothing was changed.
                raise EffectUnknownError(str(error)) from error
            raise

    def verify(self, task: Task) -> Verification:
        """Return whether this very process has ended, and no GPU lists it."""
        target = _process(task)
        try:
            if not self._hands.has_ended(target):
                says = f"process {target.pid} is there: {self._stands(target.pid)}"
                return Verification(Proof.DISPROVEN, says)
            # Another one may have its number by now, and be on the GPU by rights.
            if self._senses.kernel.start_ticks(target.pid) in {None, target.start_ticks} and (
                self._eyes.is_listed(target.pid, str(task.context.get("UUID") or ""))
            ):
                says = f"process {target.pid} has ended, but the driver still lists it"
                return Verification(Proof.DISPROVEN, says)
        except (RefusedError, SourceError) as error:
            return Verification(Proof.UNKNOWN, str(error))
        return Verification(Proof.PROVEN, f"process {target.pid} has ended and is on no GPU")

    def _end(self, task: Task, steps: Steps, process: Held) -> str:
        wait = task.options.get("wait")
        wait = wait if isinstance(wait, timedelta) else _WAIT
        if _is_stale(wait, steps):
            message = "it was asked to end before the interruption, and still runs"
            raise EffectUnknownError(message)
        title = self._look_twice(task, process)
        left = _left_of(wait, steps)
        if left is None:
            self._ask(task, steps, process, title)
            left = wait
        with steps.step("wait", f"wait for its end, for {humanize(left)}") as say:
            if process.ends_within(left):
                say("it ended")
                return "it ended when it was asked to"
            say("it did not end")
        return self._force(task, steps, process, wait)

    def _ask(self, task: Task, steps: Steps, process: Held, title: str) -> None:
        """Send SIGTERM.

        Where the program died around an earlier one, nobody knows whether it arrived. It is sent
        once more: force without having been asked would be worse than to be asked twice.
        """
        again = "sigterm" in steps.before
        with steps.step("sigterm-again" if again else "sigterm", f"SIGTERM to {title}") as say:
            process.send(signal.SIGTERM, lambda: self._check(task))
            say("sent")

    def _force(self, task: Task, steps: Steps, process: Held, wait: timedelta) -> str:
        said = f"it ignored SIGTERM for {humanize(wait)}"
        pid = _process(task).pid
        with steps.step("sigkill", f"SIGKILL to pid {pid}: {said}") as say:
            process.send(signal.SIGKILL, lambda: self._check(task))
            if not process.ends_within(self._dying):
                raise EffectUnknownError(f"it does not end by SIGKILL either: {self._stands(pid)}")
            say("it ended")
        return f"{said} and was ended by force"

    def _stands(self, pid: int) -> str:
        try:
            return self._senses.kernel.standing(pid) or "nobody knows in which state"
        except SourceError as error:
            return str(error)

    def _look_twice(self, task: Task, process: Held) -> str:
        """Return what was seen; raise what speaks against ending it at either of two moments."""
        self._check(task)
        if process.ends_within(self._settling):
            raise TargetGoneError(f"process {_process(task).pid} has ended by itself")
        return self._check(task)

    def _check(self, task: Task) -> str:
        """Look at it anew and return what it is; TargetGoneError or RefusedError speak for it."""
        context = task.context
        place = Place(str(context.get("UUID") or ""), str(context.get("GPU_I_ID") or ""))
        seen = self._eyes.look(_process(task), place)
        against = seen.objection
        if against is None:
            return seen.title
        message = f"{against.source.value}: {against.says}"
        raise TargetGoneError(message) if against.verdict is Verdict.GONE else RefusedError(message)


def _is_stale(wait: timedelta, steps: Steps) -> bool:
    """Tell whether what the decision was made from is too old to bring the attempt to its end."""
    ages = [age for name in steps.before if (age := steps.age_of(name)) is not None]
    return bool(ages) and min(ages) > wait + _STILL_FRESH


def _left_of(wait: timedelta, steps: Steps) -> timedelta | None:
    """Return how much of the wait an earlier life has left; None if it is still to be asked to end.

    A clock that was set back must not make the wait longer.
    """
    for name in ("wait", "sigterm-again"):
        age = steps.age_of(name)
        if age is not None:
            return max(min(wait - age, wait), timedelta())
    return None


def _process(task: Task) -> Process:
    if not isinstance(task.target, Process):
        raise RefusedError(f"{task.target.key} is not a process")
    return task.target
