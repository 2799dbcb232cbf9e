"""One reset by nvidia-smi, and what its answer means."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from remediator.actuators.nvidia_smi import SmiAnswer
from remediator.core.notices import clean
from remediator.core.resets import ResetAnswer, answer_of
from remediator.errors import EffectUnknownError, RefusedError
from remediator.remediations.interface import Steps

SMI_WITHIN = timedelta(seconds=20)
_LONGEST_ANSWER = 300


class Smi(Protocol):
    """nvidia-smi."""

    def problem(self) -> str | None:
        """Return why it cannot be run, None if it can."""
        ...

    def reset(self, uuids: Sequence[str], within: timedelta, locks: Sequence[int]) -> SmiAnswer:
        """Reset GPUs together; EffectUnknownError if it does not end in time."""
        ...

    def set_persistence(self, uuids: Sequence[str], within: timedelta, *, on: bool) -> None:
        """Switch persistence mode."""
        ...

    def query(self, uuids: Sequence[str], within: timedelta) -> SmiAnswer:
        """Return all it tells about GPUs."""
        ...


class ResetTry:
    """Resets the GPUs *uuids* together, nobody holding them.

    ``was_reset`` is what is known of it: False before, None while it goes on or nobody can tell.
    """

    def __init__(self, smi: Smi, uuids: Sequence[str], steps: Steps) -> None:
        self._smi = smi
        self._uuids = uuids
        self._steps = steps
        self.was_reset: bool | None = False

    def run(self, persistent: Sequence[str], within: timedelta, locks: Sequence[int]) -> None:
        """Do it; RefusedError if nothing was reset, EffectUnknownError if something may have been.

        *persistent* are those of the GPUs whose persistence mode is on.
        """
        answer = self._try("reset", within, locks)
        if _kind(answer) is ResetAnswer.IN_USE and persistent:
            answer = self._try_unpersistent(persistent, within, locks)
        self._judge(answer)

    def _try(self, step: str, within: timedelta, locks: Sequence[int]) -> SmiAnswer:
        with self._steps.step(step, f"nvidia-smi --gpu-reset -i {','.join(self._uuids)}") as say:
            self.was_reset = None
            answer = self._smi.reset(self._uuids, within, locks)
            if _kind(answer).has_changed_nothing:
                self.was_reset = False
            say(f"exit status {answer.status}: {said_by(answer)}")
        return answer

    def _try_unpersistent(
        self, persistent: Sequence[str], within: timedelta, locks: Sequence[int]
    ) -> SmiAnswer:
        """Try again without persistence mode, which counts as a user where it is not ended.

        nvidia-smi ends it itself where it reaches nvidia-persistenced's socket; else it refuses
        (NVSentinel #1690, #1243). The first try was refused, so nothing was reset by it.
        """
        what = f"persistence mode of {','.join(persistent)}"
        try:
            with self._steps.step("persistence-off", f"switch off {what}: nobody else uses it"):
                self._smi.set_persistence(persistent, SMI_WITHIN, on=False)
            return self._try("reset-again", within, locks)
        finally:
            with self._steps.step("persistence-on", f"switch on {what}"):
                self._smi.set_persistence(persistent, SMI_WITHIN, on=True)

    def _judge(self, answer: SmiAnswer) -> None:
        """Raise what the answer means, unless it is that the GPUs were reset."""
        kind = _kind(answer)
        if kind is ResetAnswer.DONE:
            self.was_reset = True
            return
        said = f"nvidia-smi ended with {answer.status} and said: {said_by(answer)}"
        message = f"it was not reset: {kind.value} ({said})"
        if kind.has_changed_nothing:
            raise RefusedError(message)
        if kind is not ResetAnswer.UNCLEAR:
            self.was_reset = False
        raise EffectUnknownError(message)


def said_by(answer: SmiAnswer) -> str:
    """Return what nvidia-smi said, on one line."""
    return clean(answer.text, _LONGEST_ANSWER) or "nothing"


def _kind(answer: SmiAnswer) -> ResetAnswer:
    return answer_of(answer.status, answer.text)
