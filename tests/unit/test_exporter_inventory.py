"""The inventory against an engine made of lists: what is asked, how often, and what is kept."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from remediator.core.containers import ContainerEvent, ContainerFacts, ContainerSummary
from remediator.core.gpu_claims import GpuClaims
from remediator.core.ownership import Owner
from remediator.errors import SourceError, TargetGoneError
from remediator.exporter.inventory import Inventory, Tracked
from tests.eventually import eventually

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = Owner("alice", "process")
NOBODY = Owner("unknown", "none")


def facts_of(container_id: str, state: str = "running", pid: int = 7) -> ContainerFacts:
    return ContainerFacts(
        id=container_id,
        name=f"name-{container_id}",
        image="image",
        labels={},
        state=state,
        pid=pid,
        created_at=NOON,
        started_at=NOON,
        finished_at=None,
        exit_code=None,
        claims=GpuClaims(all=True),
    )


class Feed:
    """Events put in by a test; ended by None."""

    def __init__(self) -> None:
        self.events: queue.Queue[ContainerEvent | None] = queue.Queue()

    def __iter__(self) -> Iterator[ContainerEvent]:
        return iter(self.events.get, None)

    def close(self) -> None:
        self.events.put(None)


class FakeEngine:
    """An engine that counts what it is asked."""

    def __init__(self, *containers: ContainerFacts) -> None:
        self.containers = {facts.id: facts for facts in containers}
        self.down = False
        self.bug: Exception | None = None
        self.inspected: list[str] = []
        self.listed = 0
        self.keep_alive: tuple[datetime, datetime] | None = None
        self.keep_alive_broken = False
        self.keep_alive_looks = 0
        self.feeds: list[Feed] = []

    def list(self) -> tuple[ContainerSummary, ...]:
        self.listed += 1
        if self.bug is not None:
            raise self.bug
        return tuple(ContainerSummary(f.id, f.name, f.state) for f in self.containers.values())

    def inspect(self, container_id: str) -> ContainerFacts:
        self.inspected.append(container_id)
        if container_id not in self.containers:
            raise TargetGoneError(container_id)
        return self.containers[container_id]

    def events(self, since: datetime | None = None, *, silence: timedelta) -> Feed:
        if self.down:
            raise SourceError("Docker is down")
        self.feeds.append(Feed())
        return self.feeds[-1]

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        self.keep_alive_looks += 1
        if self.keep_alive_broken:
            raise SourceError("unreadable")
        return self.keep_alive

    def change(self, facts: ContainerFacts, action: str) -> None:
        self.containers[facts.id] = facts
        self.feeds[-1].events.put(ContainerEvent(facts.id, action, NOON))

    def remove(self, container_id: str) -> None:
        del self.containers[container_id]
        self.feeds[-1].events.put(ContainerEvent(container_id, "destroy", NOON))


@contextmanager
def following(engine: FakeEngine, owner: Owner = ALICE) -> Iterator[Inventory]:
    """An inventory that has seen the first list, if the engine answers."""
    owners = {True: owner, False: NOBODY}
    inventory = Inventory(
        engine,
        lambda facts: owners[facts.pid > 0],
        resync=timedelta(hours=1),
        keep_alive_every=timedelta(milliseconds=10),
    )
    inventory.start()
    try:
        if not engine.down:
            eventually(lambda: inventory.snapshot().confirmed_at, 5, "the first list")
        yield inventory
    finally:
        inventory.stop()


def known(inventory: Inventory) -> dict[str, Tracked]:
    return {tracked.facts.id: tracked for tracked in inventory.snapshot().containers}


def test_each_container_is_inspected_once_and_again_when_it_changes() -> None:
    engine = FakeEngine(facts_of("a"), facts_of("b", "exited", 0))
    with following(engine) as inventory:
        engine.change(facts_of("c"), "start")
        engine.change(facts_of("c"), "exec_start")
        engine.change(facts_of("a", "paused"), "pause")
        eventually(lambda: known(inventory)["a"].facts.state == "paused", 5, "a is paused")

    assert engine.inspected == ["a", "b", "c", "a"]
    assert engine.listed == 1


def test_a_removed_container_is_forgotten_at_once() -> None:
    engine = FakeEngine(facts_of("a"), facts_of("b"))
    with following(engine) as inventory:
        engine.remove("a")

        eventually(lambda: set(known(inventory)) == {"b"}, 5, "a is gone")


def test_a_container_that_ended_before_it_was_looked_at_is_no_trouble() -> None:
    engine = FakeEngine()
    with following(engine) as inventory:
        engine.feeds[0].events.put(ContainerEvent("short", "start", NOON))
        engine.change(facts_of("a"), "start")

        eventually(lambda: set(known(inventory)) == {"a"}, 5, "only a is known")


def test_an_owner_known_by_the_main_process_stays_known_when_it_ends() -> None:
    engine = FakeEngine(facts_of("a"))
    with following(engine) as inventory:
        engine.change(facts_of("a", "exited", 0), "die")
        eventually(lambda: known(inventory)["a"].facts.state == "exited", 5, "a has ended")

        assert known(inventory)["a"].owner == ALICE


def test_after_a_broken_connection_everything_that_runs_is_looked_at_again() -> None:
    engine = FakeEngine(facts_of("a"), facts_of("b", "exited", 0), facts_of("c"))
    with following(engine) as inventory:
        later = NOON + timedelta(minutes=5)
        engine.containers["a"] = replace(facts_of("a"), started_at=later)
        del engine.containers["c"]
        engine.feeds[0].close()

        eventually(lambda: known(inventory)["a"].facts.started_at == later, 5, "a is seen again")
        assert set(known(inventory)) == {"a", "b"}
    assert engine.inspected == ["a", "b", "c", "a"]


def test_an_engine_that_is_down_is_tried_again_and_told_of() -> None:
    engine = FakeEngine(facts_of("a"))
    engine.down = True
    with following(engine) as inventory:
        eventually(
            lambda: inventory.snapshot().problem == "Docker is down", 5, "the problem is told"
        )
        assert inventory.snapshot().confirmed_at is None
        engine.down = False

        eventually(lambda: known(inventory), 5, "a is known")
        eventually(lambda: inventory.snapshot().problem is None, 5, "the problem is over")


def test_an_error_that_nobody_thought_of_is_told_and_survived() -> None:
    engine = FakeEngine(facts_of("a"))
    with following(engine) as inventory:
        engine.bug = ZeroDivisionError("a bug")
        engine.feeds[0].close()
        eventually(
            lambda: inventory.snapshot().problem == "ZeroDivisionError('a bug')", 5, "it is told"
        )
        engine.bug = None
        engine.containers["b"] = facts_of("b")

        eventually(lambda: set(known(inventory)) == {"a", "b"}, 5, "it goes on")


def test_what_was_known_stays_while_the_engine_is_down() -> None:
    engine = FakeEngine(facts_of("a"))
    with following(engine) as inventory:
        engine.down = True
        engine.feeds[0].close()

        eventually(lambda: inventory.snapshot().problem, 5, "the problem is told")
        assert set(known(inventory)) == {"a"}
        assert inventory.snapshot().confirmed_at is not None


def test_a_keep_alive_is_seen_and_survives_a_failing_look() -> None:
    engine = FakeEngine(facts_of("a"))
    with following(engine) as inventory:
        assert known(inventory)["a"].keep_alive is None
        engine.keep_alive = (NOON, NOON)
        eventually(lambda: known(inventory)["a"].keep_alive, 5, "the keep-alive is seen")
        engine.keep_alive_broken = True
        engine.change(facts_of("a", "paused"), "pause")
        eventually(lambda: known(inventory)["a"].facts.state == "paused", 5, "a is paused")
        assert known(inventory)["a"].keep_alive == (NOON, NOON)

        engine.keep_alive_broken = False
        engine.keep_alive = None
        eventually(lambda: known(inventory)["a"].keep_alive is None, 5, "it was taken away")


def test_a_container_without_change_stays_the_same_object() -> None:
    engine = FakeEngine(facts_of("a"))
    engine.keep_alive = (NOON, NOON)
    with following(engine) as inventory:
        before, looks = known(inventory)["a"], engine.keep_alive_looks
        eventually(lambda: engine.keep_alive_looks > looks + 2, 5, "it is looked at again")

        assert known(inventory)["a"] is before


def test_an_event_that_a_new_feed_repeats_is_taken_once() -> None:
    engine = FakeEngine()
    with following(engine) as inventory:
        engine.change(facts_of("a"), "start")
        eventually(lambda: known(inventory), 5, "a is known")
        engine.feeds[0].events.put(ContainerEvent("a", "start", NOON))
        engine.change(facts_of("b"), "start")
        eventually(lambda: "b" in known(inventory), 5, "b is known")

    assert engine.inspected == ["a", "b"]


def test_nothing_is_kept_of_containers_that_are_gone() -> None:
    engine = FakeEngine(facts_of("a"))
    with following(engine) as inventory:
        for number in range(1000):
            engine.change(facts_of(f"c{number}"), "start")
            engine.remove(f"c{number}")
        engine.change(facts_of("last"), "start")
        eventually(lambda: "last" in known(inventory), 5, "all events are heard")

        assert set(known(inventory)) == {"a", "last"}
        held = [value for value in vars(inventory).values() if isinstance(value, (dict, list, set))]
        assert sum(map(len, held)) < 10
