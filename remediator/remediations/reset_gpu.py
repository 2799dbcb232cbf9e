"""reset-gpu: reset a GPU that nobody holds or claims, with the services around it out of the way.

A reset is tried once. What was begun and cut off is looked at, and never begun again.
"""

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.holders import describe
from remediator.core.observation import Observation, Verdict
from remediator.core.policy import Options
from remediator.core.resets import Advice, advice_of, in_words
from remediator.core.targets import PhysicalGpu
from remediator.errors import (
    EffectUnknownError,
    RefusedError,
    RemediationError,
    SourceError,
    TargetGoneError,
)
from remediator.remediations.gpu_condition import GpuCondition, GpuSight
from remediator.remediations.gpu_evidence import Failure, GpuEvidence
from remediator.remediations.interface import Steps
from remediator.remediations.reset_senses import ResetSenses, Services
from remediator.remediations.reset_try import SMI_WITHIN, ResetTry, Smi, said_by

_POLL_SECONDS = 0.2
_QUIESCE_WITHIN = timedelta(minutes=2)
_CLOSE_WITHIN = timedelta(seconds=5)
_WHY = "a GPU is being reset"


class Lock(Protocol):
    """What keeps other programs off the driver."""

    def taken(self, within: timedelta) -> AbstractContextManager[int]:
        """Have it alone for the time of the block."""
        ...

    def is_taken(self) -> bool:
        """Tell whether somebody has it."""
        ...


@dataclass(frozen=True, slots=True)
class ResetHands:
    """What changes something: nvidia-smi, the services, and the lock on the driver."""

    smi: Smi
    services: Services
    lock: Lock


@dataclass(frozen=True, slots=True)
class Around:
    """What is stopped for a reset, by name, and which of it shows DCGM's metrics."""

    units: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    dcgm: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait until nobody holds the GPU, and until it is well after the reset."""

    free: timedelta = timedelta(seconds=15)
    well: timedelta = timedelta(seconds=30)


class ResetGpu:
    """Resets a GPU that the driver wants to be reset, and all that can only be reset with it."""

    name = "reset-gpu"

    def __init__(
        self,
        senses: ResetSenses,
        hands: ResetHands,
        evidence: GpuEvidence,
        around: Around,
        patience: Patience = Patience(),
    ) -> None:
        self._senses = senses
        self._smi = hands.smi
        self._services = hands.services
        self._lock = hands.lock
        self._evidence = evidence
        self._around = around
        self._patience = patience
        self._eyes = GpuCondition(senses, around.units, around.containers)
        # What this process has seen of its own resets: where the driver gives no advice, nothing
        # else tells whether one happened.
        self._was_reset: dict[str, bool | None] = {}

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what Prometheus, NVML, /proc and Docker say of the GPU the alert names."""
        return self._eyes.observe(alert, now, options)

    def execute(self, task: Task, steps: Steps) -> str:
        """Reset it; the GPU is looked at once more right before.

        Services that were stopped are restored, whatever happens. A failure leaves evidence.
        """
        gpu = _gpu(task)
        # Not at once after an interruption: a reset may go on, and to look is to hold the GPU.
        seen = None if steps.before else self._eyes.look(gpu.uuid)
        if seen is not None:
            self._check_ready(seen)
        before = self._evidence.units(self._around.units)
        self._was_reset[gpu.key] = None if "reset" in steps.before else False
        try:
            if seen is None:
                return self._after_interruption(task, steps)
            return self._reset(gpu, seen, task, steps)
        except RemediationError as error:
            why = _with_context(error)
            at = seen or self._eyes.look(gpu.uuid)
            kept = self._evidence.keep(Failure(why, gpu.uuid, at.group, at.gpus, before))
            raise type(error)(f"{why}; {kept}") from error

    def verify(self, task: Task) -> Verification:
        """Return whether the GPU answers and wants nothing any more, and all services are back."""
        was_reset = self._was_reset.get(_gpu(task).key)
        try:
            trouble = self._unwell(_uuids(task))
            down = self._services.unrestored()
            is_told = all(self._is_advised(uuid) for uuid in _uuids(task))
        except SourceError as error:
            return Verification(Proof.UNKNOWN, str(error))
        if trouble is not None:
            return Verification(Proof.DISPROVEN, trouble)
        if down:
            return Verification(Proof.DISPROVEN, f"not running again: {', '.join(down)}")
        if was_reset is False:
            return Verification(Proof.DISPROVEN, "it was not reset")
        if not is_told and was_reset is None:
            return Verification(Proof.UNKNOWN, "the driver does not tell whether it was reset")
        return Verification(Proof.PROVEN, "the GPU answers, and the driver advises nothing more")

    def _check_ready(self, seen: GpuSight) -> None:
        objection = seen.objection
        if objection is not None:
            gone = objection.verdict is Verdict.GONE
            raise (TargetGoneError if gone else RefusedError)(objection.says)
        problem = self._smi.problem()
        if problem is None and self._lock.is_taken():
            problem = "an earlier reset on this host has not ended yet"
        if problem is not None:
            raise RefusedError(problem)

    def _reset(self, gpu: PhysicalGpu, seen: GpuSight, task: Task, steps: Steps) -> str:
        persistent = [uuid for uuid in seen.uuids if self._is_persistent(uuid)]
        trying = ResetTry(self._smi, seen.uuids, steps)
        with self._quiesced(steps) as stopped, self._lock.taken(_CLOSE_WITHIN) as lock:
            with self._driver_closed(seen, steps):
                try:
                    trying.run(persistent, task.timeout, (lock, self._services.held_by()))
                finally:
                    self._was_reset[gpu.key] = trying.was_reset
            self._check_health(seen, steps)
        linked = len(seen.group) - 1
        together = f" with {linked} that it is linked to" if linked else ""
        return f"{seen.title} was reset{together} and is well; {self._tell_services(stopped)}"

    @contextlib.contextmanager
    def _quiesced(self, steps: Steps) -> Iterator[tuple[str, ...]]:
        """Have the services stopped for the time of the block; both ends are steps."""
        with contextlib.ExitStack() as block:
            with steps.step("quiesce", "stop the services that keep GPUs open") as say:
                names = tuple(block.enter_context(self._services.quiesced(_WHY, _QUIESCE_WITHIN)))
                say(f"stopped: {', '.join(names)}" if names else "none ran")
            before = ""
            try:
                yield names
            except RemediationError as error:
                before = f"{error}; and then "
                raise
            finally:
                with steps.step("restore", "start again what ran before") as say:
                    try:
                        block.close()
                    except RemediationError as error:
                        raise EffectUnknownError(f"{before}{error}") from error
                    say(f"running again: {', '.join(names)}" if names else "nothing was stopped")

    @contextlib.contextmanager
    def _driver_closed(self, seen: GpuSight, steps: Steps) -> Iterator[None]:
        """Have our own driver closed for the time of the block, which nobody holding the GPU opens.

        RefusedError if somebody does.
        """
        with contextlib.ExitStack() as block:
            with steps.step("free", "close the driver and wait until nobody holds the GPU") as say:
                try:
                    block.enter_context(self._senses.driver.closed(_WHY, _CLOSE_WITHIN))
                    self._wait_until_free(seen)
                except SourceError as error:
                    raise RefusedError(str(error)) from error
                say("nobody holds it, no container was given it")
            yield

    def _wait_until_free(self, seen: GpuSight) -> None:
        deadline = time.monotonic() + self._patience.free.total_seconds()
        while strangers := self._eyes.strangers(seen.group):
            if time.monotonic() >= deadline:
                who = "; ".join(describe(holder) for holder in strangers)
                raise RefusedError(f"it is still held by {who}")
            time.sleep(_POLL_SECONDS)
        claimants = self._eyes.claimants.of(seen.uuids, seen.gpus)
        if claimants:
            raise RefusedError(f"it was given meanwhile to {', '.join(map(str, claimants))}")

    def _check_health(self, seen: GpuSight, steps: Steps) -> None:
        """Look whether the GPU is well; EffectUnknownError if it is not, or is silent."""
        with steps.step("check", "look whether the GPU answers and wants nothing more") as say:
            deadline = time.monotonic() + self._patience.well.total_seconds()
            while trouble := self._trouble(seen.uuids):
                if time.monotonic() >= deadline:
                    raise EffectUnknownError(f"it was reset, and is not well: {trouble}")
                time.sleep(_POLL_SECONDS)
            try:
                answer = self._smi.query(seen.uuids, SMI_WITHIN)
            except SourceError as error:
                raise EffectUnknownError(f"it was reset, but cannot be checked: {error}") from error
            if answer.status != 0:
                message = f"it was reset, but nvidia-smi -q fails: {said_by(answer)}"
                raise EffectUnknownError(message)
            say("it answers, and the driver advises nothing more")

    def _trouble(self, uuids: Sequence[str]) -> str | None:
        """Return what is the matter with the GPUs, silence too; None if nothing is."""
        try:
            return self._unwell(uuids)
        except SourceError as error:
            return str(error)

    def _unwell(self, uuids: Sequence[str]) -> str | None:
        """Return for which GPU the driver still advises something; SourceError if one is silent."""
        for uuid in uuids:
            health = self._senses.driver.health(uuid)
            if advice_of(health) not in {Advice.NOTHING, Advice.UNTOLD}:
                return f"for {uuid} the driver advises {in_words(health)}"
        return None

    def _is_advised(self, uuid: str) -> bool:
        return advice_of(self._senses.driver.health(uuid)) is not Advice.UNTOLD

    def _is_persistent(self, uuid: str) -> bool:
        try:
            return bool(self._senses.driver.is_persistent(uuid))
        except SourceError:
            return False

    def _tell_services(self, stopped: Sequence[str]) -> str:
        """Return which services were restarted; the DCGM exporter keeps the last XID otherwise."""
        told = f"running again: {', '.join(stopped)}" if stopped else "no service had to be stopped"
        if set(self._around.dcgm).isdisjoint(stopped):
            told += "; DCGM's exporter was not among them: where one runs, it shows the old XID"
            told += " until it is restarted"
        return told

    def _after_interruption(self, task: Task, steps: Steps) -> str:
        """Find out what became of a reset that was cut off; it is not begun again.

        A nvidia-smi of the worker's earlier life may still be at work, and has the lock until it
        ends.
        """
        if "reset" not in steps.before:
            raise RefusedError("the worker was interrupted before the GPU was reset")
        self._wait_for_lock(task.timeout)
        # At the start nothing was restored, if nvidia-smi was still at work.
        self._services.recover()
        if "persistence-off" in steps.before:
            with steps.step("persistence-on", "switch persistence mode on again"):
                self._smi.set_persistence(_uuids(task), SMI_WITHIN, on=True)
        trouble = self._trouble(_uuids(task))
        if trouble is not None:
            raise EffectUnknownError(f"the worker was interrupted during the reset: {trouble}")
        return "the worker was interrupted during the reset; the GPU is well"

    def _wait_for_lock(self, within: timedelta) -> None:
        deadline = time.monotonic() + within.total_seconds()
        while self._lock.is_taken():
            if time.monotonic() >= deadline:
                raise EffectUnknownError("nvidia-smi has not ended since before the interruption")
            time.sleep(_POLL_SECONDS)


def _gpu(task: Task) -> PhysicalGpu:
    if not isinstance(task.target, PhysicalGpu):
        raise RefusedError(f"{task.target.key} is not a GPU")
    return task.target


def _uuids(task: Task) -> list[str]:
    """Return the GPUs that are reset together, as they were when it was decided."""
    return str(task.context.get("gpus") or _gpu(task).uuid).split(",")


def _with_context(error: RemediationError) -> str:
    """Return what went wrong; where something else had gone wrong before that, both."""
    first = error.__context__
    if isinstance(first, RemediationError) and error.__cause__ is not first:
        return f"{first}; and then {error}"
    return str(error)
