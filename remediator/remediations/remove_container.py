"""remove-container: remove a container that never ran, or has been stopped for too long."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from remediator.core.aftermath import Aftermath
from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.containers import ContainerFacts
from remediator.core.lifecycle import Overstay, overstay_of
from remediator.core.observation import Observation
from remediator.core.policy import Options
from remediator.core.targets import Container, UnstartedContainer
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.freed_gpus import FreedGpus
from remediator.remediations.interface import Steps
from remediator.remediations.leftover_container import LeftoverContainer, target_of
from remediator.remediations.named_container import unknown_to
from remediator.remediations.orphan_senses import Permitted
from remediator.remediations.senses import LimitsInForce, Senses


class Hands(Protocol):
    """What removes a container."""

    def remove(self, container_id: str) -> None:
        """Remove it, unless it runs; its volumes stay."""
        ...


class RemoveContainer:
    """Removes a GPU container that does not run; Docker itself refuses one that does.

    What is checked before depends on what the alert says of it.
    """

    name = "remove-container"

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
        self._eyes: Mapping[Overstay | None, LeftoverContainer] = {
            overstay: LeftoverContainer(senses, limits, overstay)
            for overstay in (Overstay.NEVER_STARTED, Overstay.STOPPED)
        }

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        """Return what the sources say of the container and of what the alert says it does."""
        del options
        eyes = self._eyes.get(overstay_of(alert.name))
        return unknown_to(self.name, alert, now) if eyes is None else eyes.observe(alert, now)

    def execute(self, task: Task, steps: Steps) -> str:
        """Remove it; the container is looked at once more right before."""
        target = _container(task)
        try:
            facts = self._senses.engine.inspect(target.id)
            _check_same(facts, target)
        except TargetGoneError as error:
            if steps.before:
                return f"after the interruption: {error}"
            raise
        except SourceError as error:
            if steps.before:
                raise EffectUnknownError(str(error)) from error
            raise RefusedError(str(error)) from error
        # A removal that was cut off may be repeated: it is the same container, and does not run.
        with steps.step("remove", f"remove {facts.name}, its volumes stay") as say:
            try:
                self._hands.remove(target.id)
            except TargetGoneError:
                say("it was gone already")
                return "it was gone already"
            say("removed")
        return "it is removed"

    def verify(self, task: Task) -> Verification:
        """Return whether the container is gone."""
        target = _container(task)
        try:
            facts = self._senses.engine.inspect(target.id)
            _check_same(facts, target)
        except TargetGoneError as error:
            return _gone(error)
        except SourceError as error:
            return Verification(Proof.UNKNOWN, str(error))
        says = f"{facts.name} is {facts.state}, not removed"
        proof = Proof.UNKNOWN if facts.state == "removing" else Proof.DISPROVEN
        return Verification(proof, says)

    def aftermath(self, task: Task) -> Aftermath | None:
        """Return what is wrong on its GPUs, once it is gone."""
        target = _container(task)
        try:
            self._senses.engine.inspect(target.id)
        except TargetGoneError:
            return self._freed.look(target.id, str(task.context.get("gpus") or ""))
        return None


class _StartedError(TargetGoneError):
    """It is there, and was started since."""


def _check_same(facts: ContainerFacts, target: Container | UnstartedContainer) -> None:
    """Raise TargetGoneError unless it is the very one that was decided about, and does not run."""
    if facts.is_running or target_of(facts) != target:
        raise _StartedError(f"{facts.name} was started since, and is {facts.state}")


def _gone(error: TargetGoneError) -> Verification:
    if isinstance(error, _StartedError):
        return Verification(Proof.DISPROVEN, str(error))
    return Verification(Proof.PROVEN, "the container is gone")


def _container(task: Task) -> Container | UnstartedContainer:
    if not isinstance(task.target, Container | UnstartedContainer):
        raise RefusedError(f"{task.target.key} is not a container")
    return task.target
