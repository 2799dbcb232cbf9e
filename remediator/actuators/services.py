"""Stop, start and restart units of systemd, and wait until it has been done.

A call to systemd only queues a job: whoever does not wait for its end acts on a service that still
runs. Waiting means to ask until the unit has no job; it outlives a restart of the bus.
"""

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from remediator.core.services import UnitLinks, UnitState, unit_name, unsettled
from remediator.errors import EffectUnknownError, SourceError
from remediator.system_bus import Manager, SystemBus

_POLL_SECONDS = 0.05
_SETTLING_POLL_SECONDS = 0.2
# systemd's infinity, in microseconds.
_FOR_EVER = 2**64 - 1
_LINKS = {
    "started_by": ("TriggeredBy", "UpheldBy"),
    "takes_down": ("RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"),
    "pulls_in": ("Requires", "Requisite", "Wants", "BindsTo", "Upholds"),
    "starts": ("Triggers", "Upholds"),
}


class Services:
    """The units of one systemd; a name without a suffix is a service's."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus

    def states(self, units: Collection[str]) -> Mapping[str, UnitState]:
        """Return the state of each of *units* by the name it was asked by; SourceError if silent.

        A unit that does not exist or is masked is a value; ``name`` is what systemd calls it.
        """
        return {unit: state for unit, (state, _) in self._look(units).items()}

    def links(self, units: Collection[str]) -> Mapping[str, UnitLinks]:
        """Return what each of *units* hangs together with; SourceError if systemd is silent."""
        return {unit: links for unit, (_, links) in self._look(units).items()}

    def stop(self, unit: str, within: timedelta) -> None:
        """Stop *unit* and wait until it is down; one that had to be killed is down as well.

        TargetGoneError if there is none, RefusedError if nothing was done, EffectUnknownError if
        it is not down *within* that time, or up again.
        """
        state = self._change("stop", unit, "replace", within)
        if not state.is_quiet:
            raise EffectUnknownError(f"{state.name} was told to stop, and is {state}")

    def start(self, unit: str, within: timedelta, *, alone: bool = False) -> None:
        """Start *unit*, also one that has failed too often, and wait until systemd has done so.

        With *alone* nothing that it requires or wants is started along with it. Whether it stays
        up is for `settled` to say. Errors as for `stop`.
        """
        state = self._change("start", unit, "ignore-dependencies" if alone else "replace", within)
        if not state.is_running and not state.has_done_its_work:
            raise EffectUnknownError(f"{state.name} was started, and is {state}")

    def restart(self, unit: str, within: timedelta) -> None:
        """Restart *unit*, which leaves what requires it running. Otherwise as `start`."""
        state = self._change("restart", unit, "replace", within)
        if not state.is_running and not state.has_done_its_work:
            raise EffectUnknownError(f"{state.name} was restarted, and is {state}")

    def settled(self, unit: str, for_: timedelta) -> str | None:
        """Watch *unit* *for_* that long; None if it stays up, else why not.

        systemd calls a job done although the program has already ended, or was never there.
        SourceError if systemd falls silent.
        """
        deadline = time.monotonic() + for_.total_seconds()
        before = self.states([unit])[unit]
        while True:
            now = self.states([unit])[unit]
            trouble = unsettled(before, now)
            if trouble is not None or time.monotonic() >= deadline:
                return trouble
            time.sleep(_SETTLING_POLL_SECONDS)

    def _change(self, verb: str, unit: str, mode: str, within: timedelta) -> UnitState:
        """Queue one job, wait for its end, and return the state the unit is in then."""
        name = unit_name(unit)
        deadline = time.monotonic() + within.total_seconds()
        with self._bus.acting(verb, name) as manager:
            if verb != "stop":
                # Else the limit on starts in a row may refuse this one, and leave it down.
                manager.reset_failed(name)
            manager.queue(f"{verb.capitalize()}Unit", name, mode)
        while True:
            try:
                with self._bus.asking(f"whether {name} has been told to {verb}") as manager:
                    return _at_the_end(manager, verb, name, deadline)
            except SourceError as error:
                if time.monotonic() >= deadline:
                    raise EffectUnknownError(f"{verb} of {name}: {error}") from error
            time.sleep(_POLL_SECONDS)

    def _look(self, units: Collection[str]) -> dict[str, tuple[UnitState, UnitLinks]]:
        if not units:
            return {}
        names = [unit_name(unit) for unit in units]
        with self._bus.asking(f"how {', '.join(names)} are") as manager:
            rows = manager.rows(names)
            if len(rows) != len(names):
                raise SourceError(f"not all of these are names of units: {', '.join(names)}")
            return {unit: _seen(manager, row) for unit, row in zip(units, rows, strict=True)}


def _at_the_end(manager: Manager, verb: str, name: str, deadline: float) -> UnitState:
    while True:
        row = manager.rows([name])[0]
        if not row[7]:
            return _seen(manager, row)[0]
        if time.monotonic() >= deadline:
            raise EffectUnknownError(f"{name} takes too long to {verb}: it is {row[3]} ({row[4]})")
        time.sleep(_POLL_SECONDS)


def _seen(manager: Manager, row: tuple[Any, ...]) -> tuple[UnitState, UnitLinks]:
    """Return state and links of the unit of one row, with one more question for each."""
    name, _, load, active, sub, _, path, job, job_type, *_ = row
    unit = manager.properties(path, "Unit")
    service = manager.properties(path, "Service") if name.endswith(".service") else {}
    entered = int(unit.get("ActiveEnterTimestamp", 0))
    state = UnitState(
        name=name,
        load=load,
        active=active,
        sub=sub,
        job=int(job),
        job_type=job_type,
        kind=service.get("Type", ""),
        restart=service.get("Restart", "no"),
        result=service.get("Result", "success"),
        invocation_id=bytes(unit.get("InvocationID", ())).hex(),
        n_restarts=int(service.get("NRestarts", 0)),
        active_since=datetime.fromtimestamp(entered / 1e6, UTC) if entered else None,
        can_start=bool(unit.get("CanStart", True)),
        can_stop=bool(unit.get("CanStop", True)),
        is_transient=bool(unit.get("Transient", False)),
        stop_timeout=_patience(int(service.get("TimeoutStopUSec", _FOR_EVER))),
        sends_sigkill=bool(service.get("SendSIGKILL", True)),
    )
    links = {
        field: tuple(dict.fromkeys(other for name in names for other in unit.get(name, ())))
        for field, names in _LINKS.items()
    }
    return state, UnitLinks(**links)


def _patience(microseconds: int) -> timedelta | None:
    return None if microseconds == _FOR_EVER else timedelta(microseconds=microseconds)
