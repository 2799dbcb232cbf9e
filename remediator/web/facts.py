"""Read what the page and the API show from the journal, and nothing else."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from remediator.clock import Clock
from remediator.core.months import Month
from remediator.core.notices import clean
from remediator.core.policy import Policy
from remediator.core.report import Report
from remediator.core.returned import by_day, by_owner, stretches
from remediator.errors import ConfigError
from remediator.journal import board, search
from remediator.journal.journal import Journal
from remediator.journal.operations import BreakerRecord, CommandRecord, PauseRecord
from remediator.journal.story import Event, tell
from remediator.reports.making import make_report, newest_whole_month
from remediator.web import shapes

_LONGEST = 500
_LONGEST_NAME = 120
# Long enough for a whole story, short enough that a hostile label cannot fill a page.
_MOST_DETAILS = 60
_RETURNED_LASTS_SECONDS = 60.0
_NO_WORD = "new"
_MOST_KEPT = 7


class Facts:
    """What is known, from the journal of one host; JournalError while there is none."""

    def __init__(
        self,
        host: str,
        open_journal: Callable[[], Journal],
        policy: Callable[[], Policy],
        clock: Clock,
    ) -> None:
        self._host = host
        self._open_journal = open_journal
        self._policy = policy
        self._clock = clock
        self._returned: dict[int, tuple[float, shapes.Returned]] = {}
        self._reports: dict[Month, tuple[float, Report]] = {}

    def state(self) -> shapes.State:
        """Return how everything stands."""
        mode, problem = self._mode()
        with self._journal() as journal:
            pause = journal.operations.pause_in_force()
            breaker = journal.operations.breaker_in_force()
            return shapes.State(
                host=self._host,
                mode=mode,
                mode_problem=problem,
                pause=_pause(pause) if pause else None,
                breaker=_breaker(breaker) if breaker else None,
                open_incidents=journal.search.count_open(),
                waiting_approvals=len(journal.board.waiting(self._clock.now())),
            )

    def incidents(self, query: search.Query, most: int) -> shapes.Incidents:
        """Return a page of the incidents that meet *query*."""
        with self._journal() as journal:
            page = journal.search.page(query, most)
        return shapes.Incidents(tuple(_incident(found) for found in page.found), page.next)

    def story(self, number: int) -> shapes.Story | None:
        """Return everything about one incident, None if there is none of that number."""
        with self._journal() as journal:
            told = tell(journal, number)
            if told is None:
                return None
            (found,) = journal.search.page(search.Query(before=number + 1), 1).found
            questions = journal.board.waiting(self._clock.now())
        waiting = [_approval(asked) for asked in questions if asked.incident == number]
        events = tuple(_event(event) for event in told.events)
        kept = _c(told.kept) if told.kept else None
        return shapes.Story(_incident(found), events, waiting[0] if waiting else None, kept)

    def approvals(self) -> shapes.Approvals:
        """Return the questions that wait."""
        with self._journal() as journal:
            waiting = journal.board.waiting(self._clock.now())
        return shapes.Approvals(tuple(_approval(asked) for asked in waiting))

    def actions(self, most: int) -> shapes.Actions:
        """Return what Remediator and its operators did lately."""
        with self._journal() as journal:
            done = [_done(attempt) for attempt in journal.board.latest_attempts(most)]
            given = [_given(command) for command in journal.board.latest_commands(most)]
        newest = sorted([*done, *given], key=lambda action: action.at, reverse=True)
        return shapes.Actions(tuple(newest[:most]))

    def returned(self, days: int) -> shapes.Returned:
        """Return the GPU-hours returned on the last *days* days, today's so far included.

        It is reckoned anew once a minute at most: it changes slowly, and the page asks often.
        """
        at, known = self._returned.get(days, (0.0, None))
        if known is None or time.monotonic() - at > _RETURNED_LASTS_SECONDS:
            known = self._reckoned(days)
            self._returned = {days: (time.monotonic(), known), **_without(self._returned, days)}
        return known

    def report(self, month: Month | None) -> Report:
        """Return the report of a month, of the last whole one if none is named.

        ReportError says why there is none. It is made anew once a minute at most.
        """
        now = self._clock.now()
        month = month or newest_whole_month(now)
        at, known = self._reports.get(month, (0.0, None))
        if known is None or time.monotonic() - at > _RETURNED_LASTS_SECONDS:
            with self._journal() as journal:
                known = make_report(journal, self._host, month, now)
            kept = list(self._reports.items())[-_MOST_KEPT:]
            self._reports = {**dict(kept), month: (time.monotonic(), known)}
        return known

    def answer_to(self, inbox: str, number: int) -> shapes.Command | None:
        """Return what became of a command, None while no worker has taken it."""
        with self._journal() as journal:
            record = journal.operations.answer_to(inbox, number)
        if record is None:
            return None
        return shapes.Command(
            number=number,
            given_at=record.given_at,
            accepted=record.accepted,
            answer=_c(record.answer),
            action=_c(record.action),
            by=_c(record.actor),
            taken_at=record.taken_at,
        )

    def _reckoned(self, days: int) -> shapes.Returned:
        now = self._clock.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        first = midnight - timedelta(days=days - 1)
        with self._journal() as journal:
            found = stretches(journal.board.stops(first))
        daily, owners = by_day(found, first, now), by_owner(found, first, now)
        return shapes.Returned(
            total_gpu_hours=round(sum(daily.values()), 2),
            days=tuple(shapes.DayReturned(d.date(), round(h, 2)) for d, h in daily.items()),
            owners=tuple(shapes.OwnerReturned(_c(o), round(h, 2)) for o, h in owners.items()),
        )

    def _mode(self) -> tuple[str | None, str | None]:
        try:
            return self._policy().mode.value, None
        except ConfigError as error:
            return None, _c(f"the policy file cannot be used: {error.problems[0]}")

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal]:
        """Open the journal for one answer: it may have been put in place of another."""
        journal = self._open_journal()
        try:
            yield journal
        finally:
            journal.close()


def _pause(pause: PauseRecord) -> shapes.Pause:
    return shapes.Pause(pause.began_at, _c(pause.actor), _c(pause.reason))


def _breaker(breaker: BreakerRecord) -> shapes.OpenBreaker:
    return shapes.OpenBreaker(breaker.opened_at, _c(breaker.because))


def _incident(found: search.Found) -> shapes.Incident:
    incident = found.incident
    undecided = f"held: {found.last_reason}" if found.last_reason else "being remediated"
    standing = incident.outcome or (undecided if found.is_decided else _NO_WORD)
    return shapes.Incident(
        id=incident.id,
        state="open" if incident.closed_at is None else "closed",
        fault=_c(incident.fault),
        title=_name(incident.title),
        subject=_c(incident.subject),
        owner=_maybe(incident.owner),
        opened_at=incident.opened_at,
        closed_at=incident.closed_at,
        outcome=_maybe(incident.outcome),
        standing=_c(standing),
    )


def _event(event: Event) -> shapes.Event:
    details = tuple(_c(detail) for detail in event.details[:_MOST_DETAILS])
    left = len(event.details) - len(details)
    more = (f"and {left} more lines",) if left else ()
    return shapes.Event(event.at, event.what, _c(event.text), (*details, *more))


def _approval(asked: board.Waiting) -> shapes.Approval:
    return shapes.Approval(
        question=asked.id,
        incident=asked.incident,
        title=_name(asked.title),
        owner=_maybe(asked.owner),
        fault=_c(asked.fault),
        remediation=_c(asked.remediation),
        policy_rule=_c(asked.policy_rule),
        target=_c(asked.target_key),
        asked_at=asked.asked_at,
        expires_at=asked.expires_at,
    )


def _done(done: board.Done) -> shapes.Action:
    return shapes.Action(
        at=done.ended_at or done.planned_at,
        what=_c(done.remediation),
        by="Remediator",
        incident=done.incident,
        title=_name(done.title),
        result=done.state.value,
        message=_maybe(done.message),
    )


def _given(command: CommandRecord) -> shapes.Action:
    reason = command.argument.get("reason", "")
    return shapes.Action(
        at=command.taken_at,
        what=_c(command.action),
        by=_c(command.actor),
        incident=command.incident,
        title=None,
        result="accepted" if command.accepted else "refused",
        message=_maybe(reason if command.accepted else command.answer),
    )


def _without(
    known: dict[int, tuple[float, shapes.Returned]], days: int
) -> dict[int, tuple[float, shapes.Returned]]:
    """Return at most a few others, so that nobody can fill the memory by asking for all numbers."""
    return {d: value for d, value in list(known.items())[:7] if d != days}


def _name(text: str) -> str:
    return clean(text, _LONGEST_NAME)


def _c(text: object) -> str:
    return clean(str(text), _LONGEST)


def _maybe(text: str | None) -> str | None:
    return _c(text) if text else None
