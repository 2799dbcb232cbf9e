"""The containers of the host, kept up to date without being asked.

One list at the start, then the engine's events: each container is inspected once at its birth and
once at each change of state. Now and then the list is compared again, and always after the
connection broke. Scrapes read what is known and never wait for Docker; `Snapshot.confirmed_at`
says how old it is.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from remediator.core.containers import ContainerEvent, ContainerFacts, ContainerSummary
from remediator.core.ownership import Owner
from remediator.errors import SourceError, TargetGoneError

log = logging.getLogger(__name__)

# Events that change what inspect would say. Health checks and execs come by the second.
_CHANGES = frozenset({"create", "start", "die", "pause", "unpause", "rename", "update"})
_FIRST_WAIT = 0.2
_LONGEST_WAIT = 10.0
# Full comparisons also happen while events keep coming.
_QUIET_ROUNDS = 8
# Engine and exporter may have slightly different clocks; hearing an event twice is harmless.
_OVERLAP = timedelta(seconds=2)


class EventFeed(Protocol):
    """Running events; ends when the connection does or after a silence."""

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Return the events as they come."""

    def close(self) -> None:
        """End the feed from any thread."""


class Engine(Protocol):
    """What the inventory asks of Docker."""

    def list(self) -> tuple[ContainerSummary, ...]:
        """Return all containers."""

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return one container; TargetGoneError if there is none such."""

    def events(self, since: datetime | None = None, *, silence: timedelta) -> EventFeed:
        """Return the events from *since* on."""

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        """Return the times of the keep-alive file, if there is one."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A container with what was found out about it: its owner and its keep-alive file's times."""

    facts: ContainerFacts
    owner: Owner
    keep_alive: tuple[datetime, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known now; ``confirmed_at`` None and ``problem`` set until Docker first answered."""

    containers: tuple[Tracked, ...]
    confirmed_at: datetime | None
    problem: str | None


class Inventory:
    """Follows one engine in threads of its own.

    *owner_of* finds a container's owner; it is asked when the container is inspected. The list is
    compared every *resync*, keep-alive files are looked at every *keep_alive_every*.
    """

    def __init__(
        self,
        engine: Engine,
        owner_of: Callable[[ContainerFacts], Owner],
        *,
        resync: timedelta = timedelta(seconds=5),
        keep_alive_every: timedelta = timedelta(seconds=10),
    ) -> None:
        self._engine = engine
        self._owner_of = owner_of
        self._resync = resync
        self._keep_alive_every = keep_alive_every
        self._lock = threading.Lock()
        self._known: dict[str, Tracked] = {}
        self._confirmed_at: datetime | None = None
        self._problem: str | None = "Docker was not asked yet"
        self._stopping = threading.Event()
        self._feed: EventFeed | None = None
        self._last_event: ContainerEvent | None = None
        self._threads = [
            threading.Thread(target=self._follow, name="inventory", daemon=True),
            threading.Thread(target=self._watch_keep_alive, name="keep-alive", daemon=True),
        ]

    def start(self) -> None:
        """Begin to follow the engine, whether it answers yet or not."""
        for thread in self._threads:
            thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """End; a thread that waits for a hung Docker longer than *within* is left behind."""
        self._stopping.set()
        with self._lock:
            feed = self._feed
        if feed is not None:
            feed.close()
        for thread in self._threads:
            thread.join(within.total_seconds())

    def snapshot(self) -> Snapshot:
        """Return what is known now, at once."""
        with self._lock:
            return Snapshot(tuple(self._known.values()), self._confirmed_at, self._problem)

    def _follow(self) -> None:
        since: datetime | None = None
        wait = _FIRST_WAIT
        everything = True
        while not self._stopping.is_set():
            try:
                since, everything = self._listen(since, everything=everything)
                wait = _FIRST_WAIT
                continue
            except SourceError as error:
                self._failed(str(error))
            except Exception as error:
                # Without this thread the list would stand still, whatever went wrong.
                log.debug("following Docker failed", exc_info=error)
                self._failed(repr(error))
            everything = True
            self._stopping.wait(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _listen(self, since: datetime | None, *, everything: bool) -> tuple[datetime, bool]:
        """Compare the list, then take events until they end; return where and how to go on.

        The feed is opened before the list is read, so that nothing falls between the two.
        """
        last = datetime.now(UTC) - _OVERLAP
        heard_at = opened_at = time.monotonic()
        feed = self._engine.events(since, silence=self._resync)
        try:
            with self._lock:
                self._feed = feed
            self._compare(everything=everything)
            for event in feed:
                # A feed from the time of the last event on begins with that event.
                if event != self._last_event:
                    self._take(event)
                self._last_event = event
                last, heard_at = event.at, time.monotonic()
                if heard_at - opened_at > _QUIET_ROUNDS * self._resync.total_seconds():
                    return last, False
        finally:
            feed.close()
            with self._lock:
                self._feed = None
        # A feed that ended before the silence was over broke off: the engine may have restarted,
        # and a container with it, which the list does not show.
        return last, time.monotonic() - heard_at < self._resync.total_seconds()

    def _compare(self, *, everything: bool) -> None:
        """Bring what is known in line with the list; look anew at all that run if *everything*."""
        listed = {summary.id: summary for summary in self._engine.list()}
        with self._lock:
            known = dict(self._known)
            for gone in known.keys() - listed.keys():
                del self._known[gone]
        for summary in listed.values():
            tracked = known.get(summary.id)
            if (
                tracked is None
                or (tracked.facts.state, tracked.facts.name) != (summary.state, summary.name)
                or (everything and tracked.facts.is_running)
            ):
                self._look_at(summary.id)
        self._confirm()

    def _take(self, event: ContainerEvent) -> None:
        if event.action == "destroy":
            with self._lock:
                self._known.pop(event.container_id, None)
        elif event.action in _CHANGES:
            self._look_at(event.container_id)
        self._confirm()

    def _look_at(self, container_id: str) -> None:
        try:
            facts = self._engine.inspect(container_id)
        except TargetGoneError:
            with self._lock:
                self._known.pop(container_id, None)
            return
        with self._lock:
            before = self._known.get(container_id)
        owner = self._owner(facts, before)
        keep_alive = self._keep_alive_of(facts) if before is None else before.keep_alive
        with self._lock:
            self._known[container_id] = Tracked(facts, owner, keep_alive)

    def _owner(self, facts: ContainerFacts, before: Tracked | None) -> Owner:
        """Return the owner; one known by the main process stays known when that ends."""
        owner = self._owner_of(facts)
        return before.owner if before is not None and not owner.is_known else owner

    def _confirm(self) -> None:
        with self._lock:
            if self._problem is not None and self._confirmed_at is not None:
                log.info("Docker answers again")
            self._problem = None
            self._confirmed_at = datetime.now(UTC)

    def _failed(self, problem: str) -> None:
        with self._lock:
            new = self._problem != problem
            self._problem = problem
        if new and not self._stopping.is_set():
            log.warning("the containers are shown as last known: %s", problem)

    def _watch_keep_alive(self) -> None:
        """Look at one after the other, spread over the time there is, so that Docker has rest."""
        pause = every = self._keep_alive_every.total_seconds()
        while not self._stopping.wait(pause):
            known = self.snapshot().containers
            gpus = [t for t in known if t.facts.is_running and t.facts.claims.is_gpu]
            pause = every / max(len(gpus), 1)
            for tracked in gpus:
                self._update_keep_alive(tracked)
                if self._stopping.wait(pause):
                    return

    def _update_keep_alive(self, tracked: Tracked) -> None:
        keep_alive = self._keep_alive_of(tracked.facts, tracked.keep_alive)
        with self._lock:
            now = self._known.get(tracked.facts.id)
            if now is not None and now.keep_alive != keep_alive:
                self._known[tracked.facts.id] = replace(now, keep_alive=keep_alive)

    def _keep_alive_of(
        self, facts: ContainerFacts, last: tuple[datetime, datetime] | None = None
    ) -> tuple[datetime, datetime] | None:
        if not facts.claims.is_gpu:
            return None
        try:
            return self._engine.keep_alive_at(facts)
        except TargetGoneError:
            return None
        except SourceError as error:
            # What protected a moment ago goes on protecting; it runs out by itself.
            log.debug("keep-alive of %s as last known: %s", facts.id, error)
            return last
