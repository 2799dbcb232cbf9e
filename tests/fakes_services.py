"""systemd in memory, with the units of `tests.peers.units` and their habits.

It keeps the promises of `Services`; `tests/contracts/test_services.py` runs over both.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from remediator.core.services import UnitLinks, UnitState, unit_name
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from tests.builders import NOON

# How long a unit with this habit takes to stop, in seconds.
_STOPS_IN = {"slowstop.service": 2, "hungstop.service": 3, "stuck.service": 60}
_KILLED = frozenset({"hungstop.service", "stuck.service"})
_TRIGGERS = {"socketed.service": "socketed.socket", "timed.service": "timed.timer"}
_REQUIRES = {"dependent.service": "good.service"}
_WANTS = {"wanting.service": "wanted.service"}
_ENDS = frozenset({"oneshot.service"})
_FAILS = frozenset({"failing.service", "noprogram.service"})
_KNOWN = (
    *("good", "dependent", "wanting", "wanted", "slowstop", "hungstop", "stuck", "crashloop"),
    *("limited", "socketed", "timed", "oneshot", "remains", "failing", "noprogram", "idle"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One change that was asked for."""

    verb: str
    unit: str
    alone: bool = False


class FakeServices:
    """Units that are all down until they are started.

    ``before_call`` happens before each change, ``silent`` is what is the matter when nothing is
    answered; a unit in ``refused`` is refused, one in ``broken`` fails when it is started.
    """

    def __init__(self) -> None:
        names = [f"{name}.service" for name in _KNOWN] + list(_TRIGGERS.values())
        self._units = {name: _down(name) for name in names}
        self._units["masked.service"] = UnitState("masked.service", load="masked", can_start=False)
        self._runs = 0
        self.calls: list[Call] = []
        self.silent = ""
        self.refused: set[str] = set()
        self.broken: set[str] = set()
        self.before_call: Callable[[Call], None] = lambda _call: None

    def put(self, *units: str) -> None:
        """Have *units* running."""
        for unit in units:
            self._start(unit_name(unit))

    def assume(self, state: UnitState) -> None:
        """Have a unit in just this state."""
        self._units[state.name] = state

    def running(self) -> set[str]:
        """Return which units run."""
        return {name for name, state in self._units.items() if state.is_running}

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        if self.silent and units:
            raise SourceError(self.silent)
        return {unit: self._find(unit_name(unit)) for unit in units}

    def links(self, units: Collection[str]) -> Mapping[str, UnitLinks]:
        if self.silent and units:
            raise SourceError(self.silent)
        return {unit: self._links(unit_name(unit)) for unit in units}

    def stop(self, unit: str, within: timedelta) -> None:
        name = self._told(Call("stop", unit_name(unit)))
        takes = _STOPS_IN.get(name, 0)
        if self._units[name].is_running and takes > within.total_seconds():
            self._units[name] = replace(
                self._units[name], active="deactivating", sub="stop-sigterm", job=1, job_type="stop"
            )
            raise EffectUnknownError(f"{name} takes too long to stop")
        for other in (name, *self._links(name).takes_down):
            self._end(other)

    def start(self, unit: str, within: timedelta, *, alone: bool = False) -> None:
        name = self._told(Call("start", unit_name(unit), alone))
        self._up(name, alone=alone)

    def restart(self, unit: str, within: timedelta) -> None:
        name = self._told(Call("restart", unit_name(unit)))
        self._end(name)
        self._up(name, alone=False)

    def settled(self, unit: str, for_: timedelta) -> str | None:
        state = self.states([unit])[unit]
        if state.has_done_its_work:
            return None
        if state.active != "active":
            return f"it is {state}"
        return None

    def _told(self, call: Call) -> str:
        """Return the name of the unit, or raise what systemd would; the call is remembered."""
        self.before_call(call)
        if self.silent:
            raise RefusedError(f"systemd cannot be reached to {call.verb} {call.unit}")
        state = self._find(call.unit)
        if state.load == "not-found":
            raise TargetGoneError(f"there is no unit {call.unit}")
        if call.unit in self.refused or (state.load == "masked" and call.verb != "stop"):
            raise RefusedError(f"systemd refused to {call.verb} {call.unit}: it is {state.load}")
        self.calls.append(call)
        return call.unit

    def _up(self, name: str, *, alone: bool) -> None:
        state = self._units[name]
        if state.is_running and state.job_type != "stop":
            return
        blocking = [s for s, trigger in _TRIGGERS.items() if trigger == name]
        if name.endswith(".socket") and any(self._units[s].is_running for s in blocking):
            raise EffectUnknownError(f"{name} was started, and is inactive (dead)")
        if name in self.broken | _FAILS:
            self._units[name] = replace(
                state, active="failed", sub="failed", job=0, job_type="", result="exit-code"
            )
            raise EffectUnknownError(f"{name} was started, and is failed (exit-code)")
        for other in () if alone else self._links(name).pulls_in:
            self._start(other)
        self._start(name)

    def _start(self, name: str) -> None:
        state = self._units[name]
        if state.is_running or name in _ENDS:
            return
        self._runs += 1
        up = replace(state, active="active", sub="running", job=0, job_type="", result="success")
        up = replace(up, invocation_id=f"{self._runs:032x}", active_since=NOON)
        if name == "crashloop.service":
            up = replace(up, active="activating", sub="auto-restart")
        self._units[name] = up

    def _end(self, name: str) -> None:
        state = self._units[name]
        if state.load != "loaded" or (state.active == "failed" and state.job == 0):
            return
        killed = name in _KILLED and state.is_running
        self._units[name] = replace(
            state,
            active="failed" if killed else "inactive",
            sub="failed" if killed else "dead",
            result="timeout" if killed else "success",
            job=0,
            job_type="",
        )

    def _find(self, name: str) -> UnitState:
        return self._units.get(name) or UnitState(name, load="not-found", can_start=False)

    def _links(self, name: str) -> UnitLinks:
        pulls_in = [table[name] for table in (_REQUIRES, _WANTS) if name in table]
        return UnitLinks(
            started_by=(_TRIGGERS[name],) if name in _TRIGGERS else (),
            takes_down=tuple(n for n, other in _REQUIRES.items() if other == name),
            pulls_in=tuple(pulls_in),
            starts=tuple(n for n, other in _TRIGGERS.items() if other == name),
        )


def _down(name: str) -> UnitState:
    kind = "oneshot" if name.startswith(("oneshot", "remains", "failing")) else "simple"
    always = name in {"good.service", "crashloop.service"}
    return UnitState(name, kind=kind, restart="always" if always else "no")
