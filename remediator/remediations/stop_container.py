"""stop-container: stop a container that idles or runs for too long, remove it, check its GPUs."""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.aftermath import Aftermath
from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.containers import ContainerFacts
from remediator.core.durations import humanize
from remediator.core.gpus import LostReading
from remediator.core.lifecycle import Overstay, overstay_of
from remediator.core.observation import Observation
from remediator.core.policy import Options
from remediator.core.targets import Container
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.freed_gpus import FreedGpus
from remediator.remediations.idle_container import IdleContainer
from remediator.remediations.interface import Say, Steps
from remediator.remediations.named_container import unknown_to
from remediator.remediations.orphan_senses import Permitted
from remediator.remediations.runtime_container import RuntimeContainer
from remediator.remediations.senses import LimitsInForce, Senses

_POLL_SECONDS = 0.2
# What the engine may take on top of the grace to kill and to tell.
_SLACK = timedelta(seconds=10)
# How long after the end of the grace an interrupted stop may still be brought to its end.
_STILL_FRESH = timedelta(seconds=30)
# What the kernel leaves of a process ended by SIGKILL: 128 + 9.
_KILLED = 137


class Hands(Protocol):
    """What changes a container."""

    def stop(self, container_id: str, grace: timedelta, timeout: timedelta) -> None:
        """Stop it, by force once the grace is over."""
        ...

    def remove(self, container_id: str) -> None:
        """Remove it once it is stopped."""
        ...


class Eyes(Protocol):
    """What sees whether an alert is right about a container."""

    def observe(self, alert: Alert, now: datetime) -> Observation:
        """Return what the sources say."""
        ...


class StopContainer:
    """Stops a GPU container with its grace, removes it, and checks the GPUs it leaves.

    What is checked before depends on what the alert says of it; an alert that says nothing that
    can be checked stops nobody.
    """

    name = "stop-container"

    def __init__(
        self,
        senses: Senses,
        hands: Hands,
        limits: LimitsInForce,
        permitted: Permitted | None = None,
    ) -> None:
        self._senses = senses
        self._freed = FreedGpus(senses, permitted or Permitted())
        self._hands = hands
        self._eyes: Mapping[Overstay | None, Eyes] = {
            Overstay.IDLE: IdleContainer(senses, limits),
            Overstay.RUNTIME: RuntimeContainer(senses, limits),
        }

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what the sources say of the container and of what the alert says it does."""
        del options
        eyes = self._eyes.get(overstay_of(alert.name))
        return unknown_to(self.name, alert, now) if eyes is None else eyes.observe(alert, now)

    def execute(self, task: Task, steps: Steps) -> str:
        """Stop and remove it; the container is looked at once more right before."""
        target = _container(task)
        grace = timedelta(seconds=float(task.context.get("grace_seconds") or 0))
        try:
            facts = self._senses.engine.inspect(target.id)
        except TargetGoneError:
            if steps.before:
                return self._check_gpus(task, steps, "it was gone after the interruption")
            raise
        except SourceError as error:
            raise _doubt(error, steps) from error
        if facts.started_at != target.started_at:
            raise TargetGoneError(f"{facts.name} was started anew at {facts.started_at}")
        said = self._stop(facts, grace, task, steps)
        if task.options.get("remove", True):
            said += ", " + self._remove(facts, steps)
        return self._check_gpus(task, steps, said)

    def verify(self, task: Task) -> Verification:
        """Return whether this run of the container is over and its GPUs are free of it."""
        target = _container(task)
        keep = not task.options.get("remove", True)
        try:
            facts = self._senses.engine.inspect(target.id)
            if facts.started_at != target.started_at:
                # Whatever is on a GPU now is the new run's.
                says = f"that run of {facts.name} is over, it was started anew"
                return Verification(Proof.PROVEN if keep else Proof.DISPROVEN, says)
            if facts.is_running:
                return Verification(Proof.DISPROVEN, f"{facts.name} is {facts.state}")
            if not keep:
                proof = Proof.UNKNOWN if facts.state == "removing" else Proof.DISPROVEN
                return Verification(proof, f"{facts.name} is {facts.state}, not removed")
        except TargetGoneError:
            pass
        except SourceError as error:
            return Verification(Proof.UNKNOWN, str(error))
        try:
            left = self._processes_of(target.id, str(task.context.get("gpus") or ""))
        except SourceError as error:
            return Verification(Proof.UNKNOWN, str(error))
        if left:
            return Verification(Proof.DISPROVEN, f"processes of it are left on a GPU: {left}")
        gone = "stopped" if keep else "gone"
        return Verification(Proof.PROVEN, f"the container is {gone}, no GPU runs a process of it")

    def aftermath(self, task: Task) -> Aftermath | None:
        """Return what is wrong on its GPUs, if this run of the container is over."""
        target = _container(task)
        try:
            facts = self._senses.engine.inspect(target.id)
            if facts.is_running:
                return None
        except TargetGoneError:
            pass
        return self._freed.look(target.id, str(task.context.get("gpus") or ""))

    def _stop(self, facts: ContainerFacts, grace: timedelta, task: Task, steps: Steps) -> str:
        given = task.options.get("grace")
        grace = given if isinstance(given, timedelta) else grace
        since = steps.age_of("stop")
        if not facts.is_running:
            if since is None:
                # Its owner has stopped it meanwhile, and may want to look at what it left.
                raise TargetGoneError(f"{facts.name} was stopped by somebody else")
            return "it stopped as it had been told before the interruption"
        if since is not None:
            return self._finish_stop(facts, grace, since, task, steps)
        detail = f"stop signal to {facts.name}, kill after {humanize(grace)}"
        with steps.step("stop", detail, fresh=True) as say:
            return self._ask_to_end(facts, grace, task, say)

    def _ask_to_end(self, facts: ContainerFacts, grace: timedelta, task: Task, say: Say) -> str:
        began = time.monotonic()
        self._hands.stop(facts.id, grace, max(task.timeout, grace + _SLACK))
        took = timedelta(seconds=time.monotonic() - began)
        ended = self._ended(facts.id)
        say(f"{ended} after {took.total_seconds():.1f} s")
        return f"it {ended}"

    def _ended(self, container_id: str) -> str:
        try:
            code = self._senses.engine.inspect(container_id).exit_code
        except (TargetGoneError, SourceError):
            return "stopped"
        killed = " (killed: it did not stop in its grace)" if code == _KILLED else ""
        return f"stopped with exit code {code}{killed}"

    def _remove(self, facts: ContainerFacts, steps: Steps) -> str:
        with steps.step("remove", f"remove {facts.name}, its volumes stay") as say:
            try:
                self._hands.remove(facts.id)
            except TargetGoneError:
                say("it was gone already")
                return "gone"
            except RefusedError as error:
                # It is stopped by now, so it is not true that nothing was changed.
                raise EffectUnknownError(str(error)) from error
            say("removed")
        return "removed"

    def _check_gpus(self, task: Task, steps: Steps, said: str) -> str:
        gpus = str(task.context.get("gpus") or "none")
        with steps.step("check-gpu", f"look for processes left on GPU {gpus}") as say:
            try:
                left = self._processes_of(_container(task).id, gpus)
            except SourceError as error:
                say(f"cannot be told: {error}")
                return said
            say(f"left over: {left}" if left else "none left")
        return said

    def _finish_stop(
        self, facts: ContainerFacts, grace: timedelta, since: timedelta, task: Task, steps: Steps
    ) -> str:
        """Bring a stop to its end that was cut off *since* then.

        The engine forgets the force when its client dies, or was never told at all. Nobody is
        killed who was not asked to end, so the container is asked once more, and only shortly
        after its grace: later, what the decision was made from is no longer true, and it is to be
        made anew. By a clock that was set back nobody can tell.
        """
        is_fresh = timedelta() <= since <= grace + _STILL_FRESH
        left = max(grace - since, timedelta()) if is_fresh else timedelta()
        if self._has_stopped(_container(task), left):
            return "it stopped as it had been told before the interruption"
        if not is_fresh:
            raise EffectUnknownError("it was told to stop before the interruption, and still runs")
        detail = f"stop signal to {facts.name} once more: nobody knows whether it had the first"
        with steps.step("stop-again", f"{detail}, kill after {humanize(grace)}") as say:
            return f"{self._ask_to_end(facts, grace, task, say)}, asked again after an interruption"

    def _has_stopped(self, target: Container, within: timedelta) -> bool:
        """Return whether this run ends *within* that time; it is looked at at least once."""
        deadline = time.monotonic() + within.total_seconds()
        while True:
            try:
                facts = self._senses.engine.inspect(target.id)
            except TargetGoneError:
                return True
            except SourceError as error:
                raise EffectUnknownError(str(error)) from error
            if not facts.is_running or facts.started_at != target.started_at:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)

    def _processes_of(self, container_id: str, gpus: str) -> str:
        """Return the pids that a container has on any GPU, as text; nothing if there are none.

        SourceError if one of *gpus*, the names of its own separated by commas, does not answer.
        """
        readings = self._senses.driver.readings()
        answering = {r.slot.slot for r in readings if not isinstance(r, LostReading)}
        silent = [name for name in gpus.split(", ") if name and name not in answering]
        if silent:
            raise SourceError(f"GPU {', '.join(silent)} does not answer")
        found = [
            f"{process.pid} on GPU {reading.slot.slot}"
            for reading in readings
            if not isinstance(reading, LostReading)
            for process in reading.processes
            if self._senses.kernel.container_of(process.pid, {container_id})
        ]
        return ", ".join(sorted(found))


def _container(task: Task) -> Container:
    if not isinstance(task.target, Container):
        raise RefusedError(f"{task.target.key} is not a container")
    return task.target


def _doubt(error: SourceError, steps: Steps) -> RefusedError | EffectUnknownError:
    return EffectUnknownError(str(error)) if steps.before else RefusedError(str(error))
