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

    def restore(self, tries: int = _TRIES) -> Mapping[str, str]:
        """Restore all, trying a few times; return what does not run again, and why."""
        troubles = self._restore_once()
        for _ in range(tries - 1):
            if not troubles:
                break
            time.sleep(self._times.rest.total_seconds())
            troubles = self._restore_once()
        return troubles

    def _restore_once(self) -> dict[str, str]:
        troubles: dict[str, str] = {}
        for quiesce in self._record.unfinished():
            troubles |= self._restore_one(quiesce)
        return troubles

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
            except (RemediationError, SourceError) as error:
                troubles[member.name] = str(error)
            else:
                up.append(by_name[member.name])
        troubles |= self._unsettled(up)
        self._write_down(quiesce, up, troubles)
        return troubles

    def _start_unit(self, member: Member) -> None:
        state = self._state(member.name)
        if not state.is_running:
            log.info("%s is started again", member.name)
            self._services.start(member.name, self._times.start, alone=member.alone)

    def _make_way(self, member: Member, by_name: Mapping[str, Recorded]) -> set[str]:
        """Stop the services that keep a socket from being started; they are started after it.

        A crash may have come after the socket was stopped and before its service was. Only what is
        in the record is stopped, so that the record brings it back.
        """
        if not member.name.endswith(".socket") or self._state(member.name).is_running:
            return set()
        made = set()
        for name in self._services.links([member.name])[member.name].starts:
            recorded = by_name.get(name)
            if recorded is None or not recorded.member.ran or not self._state(name).is_running:
                continue
            self._record.reopen(recorded.quiesce, recorded.position)
            self._services.stop(name, self._times.start)
            made.add(name)
        return made

    def _start_container(self, member: Member) -> None:
        found = self._containers.look(member.name)
        if found is None or found.id != member.identity:
            # Whoever made another one, or none, in its place has decided about it since.
            log.warning("container %s is not the one that was stopped: left alone", member.name)
        elif not found.is_running:
            log.info("container %s is started again", member.name)
            self._containers.start(found.id)

    def _unsettled(self, up: list[Recorded]) -> dict[str, str]:
        """Return which units that were up steadily before are not so now, watched together."""
        names = [
            recorded.member.name
            for recorded in up
            if recorded.member.steady and recorded.member.kind is MemberKind.UNIT
        ]
        if not names:
            return {}
        try:
            before = self._services.states(names)
            time.sleep(self._times.settle.total_seconds())
            now = self._services.states(names)
        except SourceError as error:
            return dict.fromkeys(names, str(error))
        found = {name: unsettled(before[name], now[name]) for name in names}
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


@contextlib.contextmanager
def _said_only(name: str) -> Iterator[None]:
    """Go on when the record cannot be written: to start the others matters more."""
    try:
        yield
    except RecordError as error:
        log.error("%s: what became of it cannot be recorded: %s", name, error)  # noqa: TRY400
