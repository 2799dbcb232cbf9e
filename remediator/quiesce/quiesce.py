"""Stop what uses the GPUs for the time of some work, and have exactly that run again.

The order that keeps the promise: the state of everything is on the disk before anything is touched;
each stop is waited for; what ran is restored whatever happens to the work; and the record of a
service is closed only when it was seen running. A process that dies on the way leaves the record,
and `Recovery` goes on with it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from remediator.clock import Clock
from remediator.core.quiescing import (
    Member,
    MemberKind,
    involved,
    obstacles,
    plan,
    pulled_in,
)
from remediator.core.services import UnitLinks, UnitState, unit_name
from remediator.errors import (
    EffectUnknownError,
    RecordError,
    RefusedError,
    RemediationError,
    SourceError,
)
from remediator.quiesce.interface import Hands
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.record import QuiesceRecord, Record
from remediator.quiesce.restoring import RestoreTimes, Restoring

log = logging.getLogger(__name__)

# An exporter that is asked to end may be in the middle of a long collection.
_CONTAINER_GRACE = timedelta(seconds=45)


@dataclass(frozen=True, slots=True)
class Quiesced:
    """What a quiesce is about: units, in the order in which to stop them, and containers."""

    units: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()


class Quiesce:
    """Stops and restores the same units and containers, once at a time on the whole machine."""

    def __init__(
        self,
        asked: Quiesced,
        hands: Hands,
        record: Record,
        lock: QuiesceLock,
        clock: Clock,
        times: RestoreTimes = RestoreTimes(),  # noqa: B008 - frozen
    ) -> None:
        self._asked = asked
        self._services = hands.services
        self._containers = hands.containers
        self._record = record
        self._clock = clock
        self._restoring = Restoring(hands, record, clock, times)
        self.lock = lock

    @contextlib.contextmanager
    def quiesced(self, why: str, within: timedelta) -> Iterator[tuple[str, ...]]:
        """Have everything stopped inside the block; yield the names of what was running.

        RefusedError before the block: it was not entered, and all that ran runs. EffectUnknownError
        after it, or in place of it: something does not run again, and is tried again every minute
        by the worker. An error of the block itself is passed on, once all was restored.
        """
        with self.lock.held(why):
            known = self._begin(why)
            try:
                self._stop_all(known, within)
            except (RemediationError, SourceError, RecordError) as error:
                self._take_back(known, error)
            except BaseException:
                self._report(self._restoring.restore(known))
                raise
            try:
                yield tuple(recorded.member.name for recorded in known.outstanding)
            except BaseException:
                self._report(self._restoring.restore(known))
                raise
            troubles = self._restoring.restore(known)
            if troubles:
                self._report(troubles)
                raise EffectUnknownError(_not_running(troubles))

    def recover(self) -> Mapping[str, str] | None:
        """Restore what earlier lives have left stopped; return what does not run again, and why.

        None if somebody is about it, or has stopped it for a purpose that is not over.
        """
        if not self._record.unfinished():
            return {}
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.lock.held("restoring what was stopped"))
            except RefusedError:
                return None
            return self._restoring.restore(tries=2)

    def give_up(self, name: str) -> bool:
        """Let go of what is outstanding under *name*; False if nothing is. Hold the lock."""
        return self._record.give_up(name, self._clock.now())

    def _begin(self, why: str) -> QuiesceRecord:
        """Look at everything and write it down, before anything is touched."""
        try:
            members = self._planned(tuple(self._kept_containers()))
            return self._record.begin(why, members, self._clock.now())
        except (SourceError, RecordError) as error:
            raise RefusedError(f"nothing was stopped: {error}") from error

    def _planned(self, containers: tuple[Member, ...]) -> tuple[Member, ...]:
        if not self._asked.units:
            return containers
        known = self._services.states([unit_name(unit) for unit in self._asked.units])
        asked = tuple(dict.fromkeys(state.name for state in known.values()))
        states: dict[str, UnitState] = {}
        links: dict[str, UnitLinks] = {}
        self._look_on(lambda: involved(asked, states, links), states, links)
        names = tuple(states)
        if reasons := obstacles(asked, states):
            raise RefusedError(f"nothing was stopped: {'; '.join(reasons)}")
        self._look_on(lambda: pulled_in(names, states, links), states, links)
        return plan(asked, states, links, self._clock.now(), containers)

    def _look_on(
        self,
        wanted: Callable[[], tuple[str, ...]],
        states: dict[str, UnitState],
        links: dict[str, UnitLinks],
    ) -> None:
        """Look at what is *wanted* until nothing unknown is; what is seen may make it more."""
        while new := [name for name in wanted() if name not in states]:
            states |= self._services.states(new)
            links |= self._services.links(new)

    def _kept_containers(self) -> Iterator[Member]:
        for name in self._asked.containers:
            found = self._containers.look(name)
            running = found is not None and found.is_running
            yield Member(
                name=name,
                kind=MemberKind.CONTAINER,
                was="not there" if found is None else "running" if running else "stopped",
                ran=running,
                must_stop=running,
                steady=running,
                identity="" if found is None else found.id,
            )

    def _stop_all(self, quiesce: QuiesceRecord, within: timedelta) -> None:
        deadline = time.monotonic() + within.total_seconds()
        for position, member in enumerate(recorded.member for recorded in quiesce.members):
            if not member.must_stop:
                continue
            left = timedelta(seconds=deadline - time.monotonic())
            if left <= timedelta():
                raise EffectUnknownError(f"no time was left to stop {member.name}")
            self._record.stopping(quiesce.id, position, self._clock.now())
            self._stop(member, left)
            self._record.stopped(quiesce.id, position, self._clock.now())
        self._check_quiet([recorded.member for recorded in quiesce.members])

    def _stop(self, member: Member, left: timedelta) -> None:
        log.info("%s is stopped: it was %s", member.name, member.was)
        if member.kind is MemberKind.CONTAINER:
            self._containers.stop_softly(member.identity, min(left, _CONTAINER_GRACE))
        else:
            self._services.stop(member.name, left)

    def _check_quiet(self, members: Sequence[Member]) -> None:
        """Look at all units once more: something may have started one that was down already."""
        names = [member.name for member in members if member.kind is MemberKind.UNIT]
        states = self._services.states(names) if names else {}
        back = [f"{name} is {state}" for name, state in states.items() if not state.is_quiet]
        if back:
            raise EffectUnknownError(f"something starts again what was stopped: {', '.join(back)}")

    def _take_back(self, known: QuiesceRecord, error: Exception) -> NoReturn:
        """Restore what was stopped so far, and say what came of it."""
        troubles = self._restoring.restore(known)
        self._report(troubles)
        if troubles:
            raise EffectUnknownError(f"{error}; {_not_running(troubles)}") from error
        raise RefusedError(f"{error}; all that ran runs again") from error

    def _report(self, troubles: Mapping[str, str]) -> None:
        for name, why in troubles.items():
            log.error("%s was stopped by us and does not run again: %s", name, why)


def _not_running(troubles: Mapping[str, str]) -> str:
    said = "; ".join(f"{name}: {why}" for name, why in troubles.items())
    return f"not running again: {said}"
