"""Follow the wish to keep a container: find it, cap the wish, and stop a running countdown."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.attempts import AttemptState
from remediator.core.durations import humanize, parse_duration
from remediator.core.extensions import Extension, Granted, Keepable, Via, clock_of, grant
from remediator.core.notices import clean
from remediator.errors import CommandError, RefusedError, SourceError, TargetGoneError
from remediator.journal.journal import Journal

_SUBJECT = "container:"


class Containers(Protocol):
    """Knows the containers of this host."""

    def find(self, name: str, now: datetime) -> Keepable:
        """Return the one container of that name, id or beginning of an id.

        TargetGoneError if there is none, RefusedError if it is not to be kept or not the only one,
        SourceError if nobody can tell.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of which container, before anything is decided about it."""

    kept: Keepable
    asked: timedelta
    via: Via


class Extending:
    """Finds what is meant, and grants what may be granted."""

    def __init__(self, journal: Journal, containers: Containers) -> None:
        self._journal = journal
        self._containers = containers

    def find(self, argument: Mapping[str, str], now: datetime) -> Wish | CommandError:
        """Return the wish of a command, or why there is none.

        It asks Docker, which may take its time: call it outside any transaction.
        """
        try:
            return self._wish(argument, now)
        except CommandError as error:
            return error
        except (TargetGoneError, RefusedError, SourceError, ValueError) as error:
            return CommandError(str(error))

    def follow(self, wish: Wish, actor: str, reason: str, now: datetime) -> str:
        """Grant a wish and return the answer; CommandError if it comes too late."""
        kept, target = wish.kept, wish.kept.target
        self._refuse_late(wish)
        last = self._journal.extensions.last(target.id, target.started_at)
        granted = grant(wish.asked, kept.longest, last, now)
        if granted.is_new:
            extension = Extension(granted.until, actor, wish.via, now)
            self._journal.extensions.give(kept, extension, reason)
            self._journal.incidents.look_at(_SUBJECT + target.id, now)
        if wish.asked > timedelta():
            return _kept(wish, granted, last, now)
        return _ended(kept, granted)

    def incident_of(self, wish: Wish) -> int | None:
        """Return the newest open incident about the container, None without one."""
        return self._journal.incidents.newest_about(_SUBJECT + wish.kept.target.id)

    def _wish(self, argument: Mapping[str, str], now: datetime) -> Wish:
        asked = parse_duration(argument.get("duration", ""))
        kept = self._find(argument.get("container", ""), now)
        started_at = kept.target.started_at.isoformat()
        if argument.get("started_at", started_at) != started_at:
            raise CommandError(f"{clean(kept.name)} was started anew and is another one now")
        return Wish(kept, asked, Via.of(argument.get("via", "")))

    def _find(self, name: str, now: datetime) -> Keepable:
        if not name:
            raise CommandError("extend needs a container: its name, its id or an incident's number")
        try:
            return self._containers.find(name, now)
        except TargetGoneError:
            container = self._container_of_incident(name)
            if container is None:
                raise
        return self._containers.find(container, now)

    def _container_of_incident(self, number: str) -> str | None:
        """Return which container an incident is about, if *number* is one's."""
        if not (number.isascii() and number.isdecimal() and len(number) < len("9" * 12)):
            return None
        incident = self._journal.incidents.incident(int(number))
        if incident is None:
            return None
        if not incident.subject.startswith(_SUBJECT):
            raise CommandError(f"incident {number} is not about a container")
        return incident.subject.removeprefix(_SUBJECT)

    def _refuse_late(self, wish: Wish) -> None:
        for attempt in self._journal.attempts.unsettled():
            begun = attempt.state is not AttemptState.PLANNED
            if begun and attempt.target_key == wish.kept.target.key:
                raise CommandError(
                    f"too late: {attempt.remediation} of {clean(wish.kept.name)} has begun"
                )


def _kept(wish: Wish, granted: Granted, last: Extension | None, now: datetime) -> str:
    name, until = clean(wish.kept.name), clock_of(granted.until)
    if not granted.is_new and last is not None:
        return f"{name} is kept until {until} already, {last.by}: nothing is changed"
    lasts = humanize(granted.until - now)
    if granted.was_cut:
        lasts += ", which is the most at a time"
    return (
        f"{name} is kept from the idle stop until {until} ({lasts}); its maximum runtime counts on"
    )


def _ended(kept: Keepable, granted: Granted) -> str:
    if not granted.is_new:
        raise CommandError(f"nobody keeps {clean(kept.name)} by a command")
    return f"{clean(kept.name)} is not kept any more; a warning comes before anything is done"
