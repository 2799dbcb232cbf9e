"""Bring back what was stopped: exactly what ran, and the record is kept until it runs."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from remediator.clock import Clock
from remediator.core.quiescing import Member, MemberKind, restore_order
from remediator.core.services import UnitState, unsettled
from remediator.errors import RecordError, RemediationError, SourceError
from remediator.quiesce.interface import Hands
from remediator.quiesce.record import QuiesceRecord, Record, Recorded

log = logging.getLogger(__name__)

_TRIES = 3


@dataclass(frozen=True, slots=True)
class RestoreTimes:
    """How long to wait: for one start, until it counts as staying up, and between two tries.

    A start also waits for a stop that still goes on, which may take systemd's 90 s and more.
    """

    start: timedelta = timedelta(minutes=3)
    settle: timedelta = timedelta(seconds=2)
    rest: timedelta = timedelta(seconds=1)


class Restoring:
    """Restores everything in the record that is outstanding; the caller holds the lock."""

    def __init__(self, hands: Hands, record: Record, clock: Clock, times: RestoreTimes) -> None:
        self._services = hands.services
        self._containers = hands.containers
        self._record = record
        self._clock = clock
        self._times = times

    def restore(
        self, known: QuiesceRecord | None = None, *, tries: int = _TRIES
    ) -> Mapping[str, str]:
        """Restore all, trying a few times; return what does not run again, and why.

        *known* is what the caller remembers of its own, should the record be lost meanwhile.
        """
        troubles = self._restore_once(known)
        for _ in range(tries - 1):
            if not troubles:
                break
            time.sleep(self._times.rest.total_seconds())
            troubles = self._restore_once(known)
        return troubles

    def _restore_once(self, known: QuiesceRecord | None) -> dict[str, str]:
        troubles: dict[str, str] = {}
        for quiesce in self._unfinished(known):
            troubles |= self._restore_one(quiesce)
        return troubles

    def _unfinished(self, known: QuiesceRecord | None) -> tuple[QuiesceRecord, ...]:
        try:
            return self._record.unfinished()
        except RecordError as error:
            if known is None:
                raise
            log.error("what was stopped is restored from memory: %s", error)  # noqa: TRY400
            return (known,)

    def _restore_one(self, quiesce: QuiesceRecord) -> dict[str, str]:
        """Start what is outstanding, in order; one that fails keeps none of the others down."""
        by_name = {recorded.member.name: recorded for recorded in quiesce.members}
        troubles: dict[str, str] = {}
        up: list[Recorded] = []
        reopened: set[str] = set()
        for member in restore_order([recorded.member for recorded in quiesce.members]):
            if not by_name[member.name].is_outstanding and member.name not in reopened:
                continue
            try:
                if member.kind is MemberKind.CONTAINER:
                    self._start_container(member)
                else:
                    reopened |= self._make_way(member, by_name)
                    self._start_unit(member)
            except (RemediationError, SourceError, RecordError) as error:
                troubles[member.name] = str(error)
            else:
                up.append(by_name[member.name])
        # What was dealt with, and had to make way for another after that, has the next try.
        left = reopened - {recorded.member.name for recorded in up} - set(troubles)
        troubles |= dict.fromkeys(left, "it had to make way for a socket")
        troubles |= self._unsettled(up)
        self._write_down(quiesce, up, troubles)
        return troubles

    def _start_unit(self, member: Member) -> None:
        state = self._state(member.name)
        if not state.is_running:
            log.info("%s is started again", member.name)
            self._services.start(member.name, self._times.start, alone=member.alone)

    def _make_way(self, member: Member, by_name: Mapping[str, Recorded]) -> set[str]:
        """Stop what keeps a socket from being started: its service, while that runs.

        A crash may have come after the socket was stopped and before its service was. What would
        start the service again at once is stopped as well. Only what is in the record is touched,
        and taken up in it again before: the names are returned, and started after the socket.
        """
        if not member.name.endswith(".socket") or self._state(member.name).is_running:
            return set()
        services = self._services.links([member.name])[member.name].starts
        running = [name for name in services if self._state(name).is_running]
        if not all(name in by_name and by_name[name].member.ran for name in running):
            return set()
        starters = [n for name in running for n in self._services.links([name])[name].started_by]
        ours = [n for n in starters if n in by_name and by_name[n].member.ran]
        way = [n for n in ours if self._state(n).is_running] + running
        for name in way:
            self._record.reopen(by_name[name].quiesce, by_name[name].position)
            self._services.stop(name, self._times.start)
        return set(way)

    def _start_container(self, member: Member) -> None:
        found = self._containers.look(member.name)
        if found is None or found.id != member.identity:
            # Whoever made another one, or none, in its place has decided about it since.
            log.warning("container %s is not the one that was stopped: left alone", member.name)
        elif not found.is_running:
            log.info("container %s is started again", member.name)
            self._containers.start(found.id)

    def _unsettled(self, up: list[Recorded]) -> dict[str, str]:
        """Return which units do not stay up, watched together; a crash loop may be one again."""
        steady = {
            recorded.member.name: recorded.member.steady
            for recorded in up
            if recorded.member.kind is MemberKind.UNIT
        }
        if not steady:
            return {}
        try:
            before = self._services.states(steady)
            time.sleep(self._times.settle.total_seconds())
            now = self._services.states(steady)
        except SourceError as error:
            return dict.fromkeys(steady, str(error))
        found = {
            name: unsettled(before[name], now[name]) if is_steady else _is_down(now[name])
            for name, is_steady in steady.items()
        }
        return {name: f"it does not stay up: {why}" for name, why in found.items() if why}

    def _write_down(
        self, quiesce: QuiesceRecord, up: list[Recorded], troubles: Mapping[str, str]
    ) -> None:
        now = self._clock.now()
        for recorded in up:
            if recorded.member.name not in troubles:
                with _said_only(recorded.member.name):
                    self._record.restored(quiesce.id, recorded.position, now)
        for recorded in quiesce.members:
            if trouble := troubles.get(recorded.member.name):
                with _said_only(recorded.member.name):
                    self._record.troubled(quiesce.id, recorded.position, trouble)

    def _state(self, name: str) -> UnitState:
        return self._services.states([name])[name]


def _is_down(state: UnitState) -> str | None:
    return None if state.is_running or state.has_done_its_work else f"it is {state}"


@contextlib.contextmanager
def _said_only(name: str) -> Iterator[None]:
    """Go on when the record cannot be written: to start the others matters more."""
    try:
        yield
    except RecordError as error:
        log.error("%s: what became of it cannot be recorded: %s", name, error)  # noqa: TRY400
