"""Restart a container that is a service of the host: ask it to end, never force it, start it.

One run is told from the next by Docker's StartedAt. A container that somebody has stopped, paused
or never started stays as it is.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.attempts import Proof, Task, Verification
from remediator.core.containers import ContainerFacts
from remediator.core.durations import humanize
from remediator.core.observation import Fact, Report, Source, Verdict
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.interface import Steps
from remediator.remediations.unit_restart import SETTLES_FOR, service_of

_STOP, _START = "stop", "start"
_POLL_SECONDS = 0.2
# What has to be left of an attempt's time when the container has ended.
_TO_START = timedelta(seconds=30)
# How a process ends that was asked to: by itself, or by SIGINT, SIGKILL or SIGTERM (128 + n).
_ASKED_TO_END = frozenset({0, 130, 137, 143})


class Engine(Protocol):
    """The questions asked of Docker."""

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return what is known of one container, or raise TargetGoneError."""
        ...


class Hands(Protocol):
    """What changes a container."""

    def stop_softly(self, container_id: str, within: timedelta) -> None:
        """Ask it to end and wait until it has; EffectUnknownError if it takes longer."""
        ...

    def start(self, container_id: str) -> None:
        """Start it."""
        ...


class ContainerRestart:
    """Looks at a container by its name, restarts it, and proves that the new run stays up.

    It gets the whole time of the attempt to end, *least_stop* at least: one that does not end is
    left to people, since force would cost what it holds. *patience* is how long a start after the
    alert began may take to help.
    """

    source = Source.DOCKER

    def __init__(
        self,
        engine: Engine,
        hands: Hands,
        patience: timedelta,
        least_stop: timedelta,
        settles_for: timedelta = SETTLES_FOR,
        starts_for: timedelta = _TO_START,
    ) -> None:
        self._engine = engine
        self._hands = hands
        self._patience = patience
        self._least_stop = least_stop
        self._settles_for = settles_for
        self._starts_for = starts_for

    def look(
        self, name: str, active_since: datetime | None, now: datetime
    ) -> tuple[Report, Mapping[str, Fact]]:
        """Return what Docker says of the container *name*, and what an attempt wants to know."""
        try:
            facts = self._find(name)
        except TargetGoneError as error:
            return Report(Source.DOCKER, Verdict.GONE, str(error)), {}
        except SourceError as error:
            return Report(Source.DOCKER, Verdict.SILENT, str(error)), {}
        verdict, says = _judge(facts, active_since, now, self._patience)
        known: dict[str, Fact] = {
            "container_id": facts.id,
            "started_at": _stamp(facts),
            "state": facts.state,
        }
        return Report(Source.DOCKER, verdict, says, known), {**known, "was": facts.state}

    def restart(self, task: Task, steps: Steps) -> str:
        """Have the run end that was looked at, and start the container again."""
        container_id = str(task.context.get("container_id"))
        try:
            facts = self._engine.inspect(container_id)
        except SourceError as error:
            raise _doubt(error, steps) from error
        if _stamp(facts) != task.context.get("started_at"):
            if steps.before:
                return f"{facts.name} was started anew before the interruption ended"
            raise TargetGoneError(f"{facts.name} has been started anew since it was looked at")
        if facts.state == "paused":
            raise RefusedError(f"{facts.name} is paused: somebody else is at it")
        if facts.is_running:
            self._end(facts, task, steps)
        with steps.step(_START, f"start {facts.name}") as say:
            self._start(facts)
            say("started")
        return f"{facts.name} was restarted"

    def verify(self, task: Task) -> Verification:
        """Return whether a run that is newer than the attempt stays up."""
        name = service_of(task).name
        try:
            facts = self._find(name)
            if facts.state != "running":
                return Verification(Proof.DISPROVEN, f"{name} is {_state(facts)}")
            if _stamp(facts) == task.context.get("started_at"):
                return Verification(Proof.DISPROVEN, f"{name} is running, still the old run")
            deadline = time.monotonic() + self._settles_for.total_seconds()
            while time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                now = self._find(name)
                if (now.state, now.started_at) != ("running", facts.started_at):
                    says = f"{name} does not stay up: it is {_state(now)}"
                    return Verification(Proof.DISPROVEN, says)
        except TargetGoneError as error:
            return Verification(Proof.DISPROVEN, str(error))
        except SourceError as error:
            return Verification(Proof.UNKNOWN, str(error))
        return Verification(Proof.PROVEN, f"{name} is running, started anew, and stays up")

    def _find(self, name: str) -> ContainerFacts:
        facts = self._engine.inspect(name)
        if name not in {facts.name, facts.id}:
            # Docker takes the beginning of an id as well.
            raise TargetGoneError(f"there is no container called {name}")
        return facts

    def _end(self, facts: ContainerFacts, task: Task, steps: Steps) -> None:
        """Ask the container to end, and wait until this run is over."""
        patience = max(self._least_stop, task.timeout - _TO_START)
        detail = f"ask {facts.name} to end, and wait up to {humanize(patience)}"
        with steps.step(_STOP, detail) as say:
            deadline = time.monotonic() + patience.total_seconds()
            try:
                self._hands.stop_softly(facts.id, patience)
            except EffectUnknownError:
                # Whether it was told shows in whether it ends: then it has to be started again.
                pass
            except RefusedError:
                # It may have ended by itself just now.
                deadline = time.monotonic()
            say(f"ended: {self._ended(facts, deadline)}")

    def _ended(self, facts: ContainerFacts, deadline: float) -> str:
        """Return how this run has ended; EffectUnknownError if it has not by *deadline*.

        An engine that is silent for a while is waited for: what has ended must be started again.
        """
        trouble = (
            f"{facts.name} does not end when asked to and is not killed: a person has to look;"
            " should it end later, start it by hand"
        )
        while True:
            try:
                now = self._engine.inspect(facts.id)
                if not now.is_running or now.started_at != facts.started_at:
                    return _state(now)
            except SourceError as error:
                trouble = str(error)
            if time.monotonic() >= deadline:
                raise EffectUnknownError(trouble)
            time.sleep(_POLL_SECONDS)

    def _start(self, facts: ContainerFacts) -> None:
        """Start it; nothing but this brings back what we have ended, so it is tried for a while."""
        deadline = time.monotonic() + self._starts_for.total_seconds()
        while True:
            try:
                self._hands.start(facts.id)
            except (RefusedError, EffectUnknownError):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL_SECONDS)
            else:
                return


def _judge(
    facts: ContainerFacts, active_since: datetime | None, now: datetime, patience: timedelta
) -> tuple[Verdict, str]:
    """Return whether a restart can help, and is nobody else's matter."""
    says = f"{facts.name} is {_state(facts)}"
    if facts.state == "restarting":
        return Verdict.AGREES, says
    if facts.state == "exited" and facts.exit_code not in _ASKED_TO_END:
        return Verdict.AGREES, says
    if facts.state != "running":
        return Verdict.DISAGREES, f"{says}, as somebody wanted it: they start it again"
    if active_since is None or facts.started_at is None:
        return Verdict.SILENT, f"{says}, and nobody tells since when the alert is active"
    says += f" since {facts.started_at:%Y-%m-%d %H:%M:%S} UTC"
    if facts.started_at > active_since and now - facts.started_at < patience:
        says += f", after the alert began: that has {humanize(patience)} to help"
        return Verdict.DISAGREES, says
    return Verdict.AGREES, says


def _state(facts: ContainerFacts) -> str:
    return facts.state if facts.exit_code is None else f"{facts.state} ({facts.exit_code})"


def _stamp(facts: ContainerFacts) -> str | None:
    return facts.started_at.isoformat() if facts.started_at else None


def _doubt(error: SourceError, steps: Steps) -> RefusedError | EffectUnknownError:
    return EffectUnknownError(str(error)) if steps.before else RefusedError(str(error))
