"""systemd in memory, with the units of `tests.peers.units` and their habits.

It keeps the promises of `Services`; `tests/contracts/test_services.py` runs over both.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from remediator.core.containers import KeptContainer
from remediator.core.services import UnitLinks, UnitState, unit_name
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from tests.builders import NOON


@dataclass(frozen=True, slots=True)
class Habit:
    """How a unit behaves: ``stops_in`` seconds, by force where ``is_killed``.

    ``patience`` is how long systemd waits for it to stop, in seconds.
    """

    requires: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    stops_in: float = 0
    patience: float = 90
    is_killed: bool = False
    restart: str = "no"
    kind: str = "simple"
    ends: bool = False
    fails: bool = False
    loops: bool = False


HABITS: Mapping[str, Habit] = {
    "good.service": Habit(restart="always"),
    "dependent.service": Habit(requires=("good.service",)),
    "wanting.service": Habit(wants=("wanted.service",)),
    "wanted.service": Habit(),
    "slowstop.service": Habit(stops_in=2, patience=10),
    "hungstop.service": Habit(stops_in=3, is_killed=True),
    "stuck.service": Habit(stops_in=60, is_killed=True),
    "crashloop.service": Habit(restart="always", loops=True),
    "limited.service": Habit(),
    "socketed.socket": Habit(starts=("socketed.service",)),
    "socketed.service": Habit(),
    "timed.timer": Habit(starts=("timed.service",)),
    "timed.service": Habit(),
    "oneshot.service": Habit(kind="oneshot", ends=True),
    "remains.service": Habit(kind="oneshot"),
    "failing.service": Habit(kind="oneshot", fails=True),
    "noprogram.service": Habit(fails=True),
    "idle.service": Habit(),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One change that was asked for."""

    verb: str
    unit: str
    alone: bool = False


class FakeServices:
    """Units that are all down until they are started.

    ``before_call`` and ``after_call`` happen around each change, ``silent`` is what is the matter
    when nothing is answered; a unit in ``refused`` is refused, one in ``broken`` fails when it is
    started, and one in ``eager`` starts its service as soon as that is stopped.
    """

    def __init__(self, habits: Mapping[str, Habit] = HABITS) -> None:
        self._habits = dict(habits)
        self._units = {
            name: UnitState(
                name,
                kind=habit.kind,
                restart=habit.restart,
                stop_timeout=timedelta(seconds=habit.patience),
            )
            for name, habit in habits.items()
        }
        self._units["masked.service"] = UnitState("masked.service", load="masked", can_start=False)
        self._runs = 0
        self.calls: list[Call] = []
        self.silent = ""
        self.refused: set[str] = set()
        self.broken: set[str] = set()
        self.eager: set[str] = set()
        self.before_call: Callable[[Call], None] = lambda _call: None
        self.after_call: Callable[[Call], None] = lambda _call: None

    def put(self, *units: str) -> None:
        """Have *units* running, and what they require."""
        for unit in units:
            self.put(*self._habit(unit_name(unit)).requires)
            self._start(unit_name(unit))

    def assume(self, state: UnitState) -> None:
        """Have a unit in just this state."""
        self._units[state.name] = state

    def running(self) -> set[str]:
        """Return which units run."""
        return {name for name, state in self._units.items() if state.is_running}

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        self._answer(units)
        return {unit: self._find(unit_name(unit)) for unit in units}

    def links(self, units: Collection[str]) -> Mapping[str, UnitLinks]:
        self._answer(units)
        return {unit: self._links(unit_name(unit)) for unit in units}

    def stop(self, unit: str, within: timedelta) -> None:
        call = self._told(Call("stop", unit_name(unit)))
        state = self._find(call.unit)
        if self._habit(call.unit).stops_in > within.total_seconds() and not state.is_quiet:
            stopping = replace(state, active="deactivating", sub="stop-sigterm")
            self._units[call.unit] = replace(stopping, job=1, job_type="stop")
            raise EffectUnknownError(f"{call.unit} takes too long to stop")
        self._take_down(call.unit)
        if not self._find(call.unit).is_quiet:
            raise EffectUnknownError(f"{call.unit} was told to stop, and is active")
        self.after_call(call)

    def start(self, unit: str, within: timedelta, *, alone: bool = False) -> None:
        call = self._told(Call("start", unit_name(unit), alone))
        self._up(call.unit, alone=alone)
        self.after_call(call)

    def restart(self, unit: str, within: timedelta) -> None:
        call = self._told(Call("restart", unit_name(unit)))
        self._end(call.unit)
        self._up(call.unit, alone=False)
        self.after_call(call)

    def settled(self, unit: str, for_: timedelta) -> str | None:
        state = self.states([unit])[unit]
        return None if state.active == "active" or state.has_done_its_work else f"it is {state}"

    def _answer(self, units: Collection[str]) -> None:
        if self.silent and units:
            raise SourceError(self.silent)

    def _told(self, call: Call) -> Call:
        """Raise what systemd would, before anything is done; else remember the call."""
        self.before_call(call)
        if self.silent:
            raise RefusedError(f"systemd cannot be reached to {call.verb} {call.unit}")
        state = self._find(call.unit)
        if state.load == "not-found":
            raise TargetGoneError(f"there is no unit {call.unit}")
        if call.unit in self.refused or (state.load == "masked" and call.verb != "stop"):
            raise RefusedError(f"systemd refused to {call.verb} {call.unit}: it is {state.load}")
        self.calls.append(call)
        return call

    def _up(self, name: str, *, alone: bool, seen: frozenset[str] = frozenset()) -> None:
        """Do what a job to start does, and raise where it does not come up.

        As in systemd, what a unit pulls in is pulled in even where the unit itself runs already.
        """
        habit, state = self._habit(name), self._find(name)
        blocked = any(self._find(service).is_running for service in habit.starts)
        if name.endswith(".socket") and blocked and not state.is_running:
            raise EffectUnknownError(f"{name} was started, and is inactive (dead)")
        if not alone:
            for other in {*habit.requires, *habit.wants} - seen:
                self._up(other, alone=False, seen=seen | {name})
        if habit.fails or name in self.broken:
            failed = replace(state, active="failed", sub="failed", result="exit-code")
            self._units[name] = replace(failed, job=0, job_type="")
            raise EffectUnknownError(f"{name} was started, and is failed (exit-code)")
        self._start(name)

    def _start(self, name: str) -> None:
        state, habit = self._find(name), self._habit(name)
        if state.is_running or habit.ends:
            return
        self._runs += 1
        run = replace(state, invocation_id=f"{self._runs:032x}", active_since=NOON)
        up = replace(run, active="active", sub="running", job=0, job_type="", result="success")
        self._units[name] = (
            replace(up, active="activating", sub="auto-restart") if habit.loops else up
        )

    def _take_down(self, name: str) -> None:
        """Stop a unit and all that requires it; what is eager starts it again."""
        for other in self._links(name).takes_down:
            self._take_down(other)
        was_up = not self._find(name).is_quiet
        self._end(name)
        starters = self._links(name).started_by
        if was_up and any(s in self.eager and self._find(s).is_running for s in starters):
            self._start(name)

    def _end(self, name: str) -> None:
        state = self._find(name)
        if state.load != "loaded" or state.is_quiet:
            return
        word = "failed" if self._habit(name).is_killed else "inactive"
        result = "timeout" if word == "failed" else "success"
        down = replace(state, active=word, sub="dead", result=result, job=0, job_type="")
        self._units[name] = down

    def _find(self, name: str) -> UnitState:
        return self._units.get(name) or UnitState(name, load="not-found", can_start=False)

    def _habit(self, name: str) -> Habit:
        return self._habits.get(name, Habit())

    def _links(self, name: str) -> UnitLinks:
        habit = self._habit(name)
        return UnitLinks(
            started_by=tuple(n for n, other in self._habits.items() if name in other.starts),
            takes_down=tuple(n for n, other in self._habits.items() if name in other.requires),
            pulls_in=(*habit.requires, *habit.wants),
            starts=habit.starts,
        )


class FakeContainers:
    """The host's containers: ``running`` has the ids of those that run."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.running: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.ignores_signals = False
        self.silent = ""

    def put(self, name: str, container_id: str = "c" * 64, *, running: bool = True) -> None:
        """Have a container of that name."""
        self.ids[name] = container_id
        if running:
            self.running.add(container_id)

    def look(self, name: str) -> KeptContainer | None:
        if self.silent:
            raise SourceError(self.silent)
        found = self.ids.get(name)
        return None if found is None else KeptContainer(found, found in self.running)

    def stop_softly(self, container_id: str, within: timedelta) -> None:
        self._told("stop", container_id)
        if self.ignores_signals:
            raise EffectUnknownError(f"container {container_id} takes too long to stop")
        self.running.discard(container_id)

    def start(self, container_id: str) -> None:
        self._told("start", container_id)
        self.running.add(container_id)

    def _told(self, verb: str, container_id: str) -> None:
        if self.silent:
            raise RefusedError(f"Docker cannot be reached to {verb} {container_id}")
        if container_id not in self.ids.values():
            raise TargetGoneError(f"container {container_id} no longer exists")
        self.calls.append((verb, container_id))
