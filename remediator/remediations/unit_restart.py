"""Restart a unit of systemd that an alert speaks of, at most once, whatever dies on the way.

What is told apart is one run of a unit from the next, by systemd's InvocationID. One that an
administrator has stopped or masked is not started: that it is down is what somebody wants.
"""

import time
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.attempts import Proof, Task, Verification
from remediator.core.durations import humanize
from remediator.core.observation import Fact, Report, Source, Verdict
from remediator.core.services import UnitState
from remediator.core.targets import Service
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.remediations.interface import Steps

_RESTART = "restart"
_POLL_SECONDS = 0.2
# How long a unit has to stay up before it is called running.
SETTLES_FOR = timedelta(seconds=5)
# Starts by systemd itself after which another short wait is no help.
_IN_VAIN = 3


class Units(Protocol):
    """The units of a host, and what restarts them."""

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        """Return the state of each unit; SourceError if systemd is silent."""
        ...

    def restart(self, unit: str, within: timedelta) -> None:
        """Restart one and wait until systemd has done so, whether or not it had failed."""
        ...

    def settled(self, unit: str, for_: timedelta) -> str | None:
        """Return why a unit does not stay up, None if it does."""
        ...


class UnitRestart:
    """Looks at a unit, restarts it, and proves that the new run stays up.

    *patience* is how long a start after the alert began may take to end the alert, *settles_for*
    how long the new run is watched. A unit that *least_stop* would be killed before is restarted
    all the same, and the outcome says so.
    """

    source = Source.SYSTEMD

    def __init__(
        self,
        units: Units,
        patience: timedelta,
        settles_for: timedelta = SETTLES_FOR,
        least_stop: timedelta | None = None,
    ) -> None:
        self._units = units
        self._patience = patience
        self._settles_for = settles_for
        self._least_stop = least_stop

    def look(
        self, name: str, active_since: datetime | None, now: datetime
    ) -> tuple[Report, Mapping[str, Fact]]:
        """Return what systemd says of the unit *name*, and what an attempt will want to know."""
        try:
            state = self._units.states([name])[name]
        except SourceError as error:
            return Report(Source.SYSTEMD, Verdict.SILENT, str(error)), {}
        verdict, says = _judge(state, active_since, now, self._patience)
        facts: dict[str, Fact] = {
            "state": str(state),
            "invocation_id": state.invocation_id,
            "restarts": state.n_restarts,
            "active_since": state.active_since.isoformat() if state.active_since else None,
        }
        context: dict[str, Fact] = {"was": str(state), "invocation_id": state.invocation_id}
        return Report(Source.SYSTEMD, verdict, says, facts), context

    def restart(self, task: Task, steps: Steps) -> str:
        """Restart the unit of *task*, unless it has been started anew since it was looked at."""
        name = service_of(task).name
        try:
            state = self._units.states([name])[name]
            if _RESTART in steps.before:
                return self._go_on(self._at_rest(state, task.timeout), task, steps)
        except SourceError as error:
            raise _doubt(error, steps) from error
        _refuse_what_changed(state, task)
        return self._restart(state, task, steps)

    def verify(self, task: Task) -> Verification:
        """Return whether a run of the unit that is newer than the attempt stays up."""
        name = service_of(task).name
        try:
            state = self._units.states([name])[name]
            if state.job:
                return Verification(Proof.UNKNOWN, f"{name} is {state}")
            if not state.is_running and not state.has_done_its_work:
                return Verification(Proof.DISPROVEN, f"{name} is {state}")
            if not _is_new(state, task):
                return Verification(Proof.DISPROVEN, f"{name} is {state}, still the old run")
            trouble = self._units.settled(name, self._settles_for)
        except SourceError as error:
            return Verification(Proof.UNKNOWN, str(error))
        if trouble is not None:
            return Verification(Proof.DISPROVEN, f"{name} does not stay up: {trouble}")
        return Verification(Proof.PROVEN, f"{name} is {state}, started anew, and stays up")

    def _restart(self, state: UnitState, task: Task, steps: Steps) -> str:
        warning = self._killed_early(state)
        with steps.step(_RESTART, f"restart {state.name}, which is {state}") as say:
            self._units.restart(state.name, task.timeout)
            say(f"restarted{warning}")
        return f"{state.name} was restarted{warning}"

    def _go_on(self, state: UnitState, task: Task, steps: Steps) -> str:
        """Bring a restart to its end that may or may not have been asked for.

        systemd stops and starts as one job, without us: it has been done, or it was never asked.
        """
        if _is_new(state, task):
            return f"{state.name} had been restarted before the interruption, and is {state}"
        if state.load != "loaded" or state.active == "inactive":
            # We may have stopped it, but so may an administrator: people are told.
            return f"{state.name} is {state} after the interruption"
        return self._restart(state, task, steps)

    def _at_rest(self, state: UnitState, within: timedelta) -> UnitState:
        """Return the state once systemd has no more to do about it."""
        deadline = time.monotonic() + within.total_seconds()
        while state.job:
            if time.monotonic() >= deadline:
                raise EffectUnknownError(f"{state.name} is still {state} after the interruption")
            time.sleep(_POLL_SECONDS)
            state = self._units.states([state.name])[state.name]
        return state

    def _killed_early(self, state: UnitState) -> str:
        least, given = self._least_stop, state.stop_timeout
        if least is None or not state.sends_sigkill or given is None or given >= least:
            return ""
        return (
            f" (its unit file lets systemd kill it after {humanize(given)}: give it"
            f" TimeoutStopSec={least.total_seconds():g} or SendSIGKILL=no)"
        )


def service_of(task: Task) -> Service:
    """Return the service that *task* is about; RefusedError if it is about something else."""
    if not isinstance(task.target, Service):
        raise RefusedError(f"{task.target.key} is not a service")
    return task.target


def _judge(
    state: UnitState, active_since: datetime | None, now: datetime, patience: timedelta
) -> tuple[Verdict, str]:
    """Return whether a restart can help *state*, and is nobody else's matter."""
    name = state.name
    if state.load == "not-found":
        return Verdict.GONE, f"there is no unit {name}"
    if state.load != "loaded":
        return Verdict.DISAGREES, f"{name} is {state}: an administrator has to change that"
    if state.job:
        return Verdict.DISAGREES, f"systemd is at it: {name} is {state}"
    if state.active == "failed" or state.sub == "auto-restart":
        return Verdict.AGREES, f"{name} is {state}"
    if state.active == "inactive":
        says = f"{name} is {state} and has not failed: whoever stopped it starts it again"
        return Verdict.DISAGREES, says
    if state.active == "deactivating":
        return Verdict.DISAGREES, f"{name} is {state}"
    return _judge_running(state, active_since, now, patience)


def _judge_running(
    state: UnitState, active_since: datetime | None, now: datetime, patience: timedelta
) -> tuple[Verdict, str]:
    started_at = state.active_since
    if active_since is None or started_at is None:
        missing = "the alert" if active_since is None else state.name
        return Verdict.SILENT, f"{state.name} is {state}, and nobody tells since when {missing} is"
    says = f"{state.name} is {state} since {started_at:%Y-%m-%d %H:%M:%S} UTC"
    if state.n_restarts >= _IN_VAIN:
        return Verdict.AGREES, f"{says}, started by systemd {state.n_restarts} times in vain"
    if started_at > active_since and now - started_at < patience:
        says += f", after the alert began: that has {humanize(patience)} to help"
        return Verdict.DISAGREES, says
    return Verdict.AGREES, says


def _refuse_what_changed(state: UnitState, task: Task) -> None:
    """Raise unless *state* is still what the decision was made from."""
    if state.load == "not-found":
        raise TargetGoneError(f"there is no unit {state.name}")
    if _is_new(state, task):
        raise TargetGoneError(f"{state.name} has been started anew since it was looked at")
    if state.load != "loaded" or state.job or state.active == "inactive":
        raise RefusedError(f"{state.name} is {state}: somebody else is at it")


def _is_new(state: UnitState, task: Task) -> bool:
    """Tell whether this is another run than the one that was looked at."""
    return state.invocation_id not in {"", task.context.get("invocation_id")}


def _doubt(error: SourceError, steps: Steps) -> RefusedError | EffectUnknownError:
    return EffectUnknownError(str(error)) if steps.before else RefusedError(str(error))
