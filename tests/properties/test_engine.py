"""Whatever is delivered, repeated, resolved, commanded, killed or set: the promises hold.

The engine is real, with its journal and inbox on disk; what it changes is a ledger in memory, which
like the machine outlives it. A life of the worker may end after any single write.
"""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from remediator.core.alerts import Alert, Status
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Limit, Options, Policy
from remediator.core.targets import Container
from remediator.journal.operations import Operations
from remediator.remediations.interface import Steps
from tests.builders import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    THREE_SOURCES,
    a_policy,
    a_rule,
    an_alert,
)
from tests.fakes import FakeRemediation, HandClock
from tests.unit.engine_site import EngineSite, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

LIMIT = Limit(2, HOUR)
NAMES = "abcdef"


@dataclass(frozen=True)
class Stop:
    """One effect on the machine; ``era`` counts how often a person has taken responsibility."""

    target: str
    at: timedelta
    era: int
    paused: bool
    breaker_open: bool


@dataclass
class Machine:
    """What outlives every life of the worker: the ledger, the clock, the deliveries made."""

    folder: Path
    policy: Policy
    clock: HandClock = field(default_factory=HandClock)
    ledger: list[Stop] = field(default_factory=list)
    delivered: set[tuple[str, str]] = field(default_factory=set)
    firing: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    ended: set[str] = field(default_factory=set)
    era: int = 0

    def alert(self, name: str, status: Status = Status.FIRING) -> Alert:
        return an_alert(
            {"container_id": name * 64},
            status=status,
            fingerprint=name,
            starts_at=f"{self.begin(name):%Y-%m-%dT%H:%M:%SZ}",
        )

    def begin(self, name: str) -> datetime:
        """When the alert began that Prometheus has now."""
        return NOON - HOUR + self.firing[name] * MINUTE

    def has_ended(self, alert: Alert) -> bool:
        """Tell whether Prometheus has ended this very firing."""
        name = alert.firing.fingerprint
        return name in self.ended and self.alert(name).starts_at == alert.starts_at

    @contextmanager
    def worker(self, writes: int) -> Iterator[EngineSite]:
        """Give it a life that ends after so many writes, or when the block does."""
        database = open_journal(self.folder)
        database.rows("PRAGMA synchronous = OFF")
        mortal = MortalDatabase(database, writes)
        stop = _Stopping(self, database)
        site = EngineSite(
            self.folder,
            self.policy,
            {stop.name: stop, "notify-only": FakeRemediation("notify-only")},
            self.clock,
            mortal,  # type: ignore[arg-type]
        )
        try:
            yield site
        except DiedError:
            pass
        finally:
            site.close()


class _Stopping:
    """stop-container on the machine: an entry in the ledger, which can be looked at."""

    name = "stop-container"

    def __init__(self, machine: Machine, database: object) -> None:
        self._machine = machine
        self._operations = Operations(database)  # type: ignore[arg-type]

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        target = Container(alert.labels["container_id"], alert.starts_at)
        gone = any(stop.target == target.key for stop in self._machine.ledger)
        has_ended = self._machine.has_ended(alert)
        verdicts = {
            Source.PROMETHEUS: Verdict.DISAGREES if has_ended else Verdict.AGREES,
            Source.DOCKER: Verdict.GONE if gone else Verdict.AGREES,
        }
        reports = tuple(Report(s, verdicts.get(s, Verdict.AGREES), "so") for s in THREE_SOURCES)
        return Observation(
            at=now,
            target=target,
            reports=reports,
            confirmed_labels=alert.labels,
            active_since=None if has_ended else alert.starts_at,
        )

    def execute(self, task: Task, steps: Steps) -> str:
        machine, key = self._machine, task.target.key
        if steps.before and any(stop.target == key for stop in machine.ledger):
            return "it had been stopped"
        with steps.step("stop", "stop it"):
            machine.ledger.append(
                Stop(
                    key,
                    machine.clock.uptime,
                    machine.era,
                    paused=not steps.before and self._operations.pause_reason() is not None,
                    breaker_open=not steps.before
                    and self._operations.breaker().open_because is not None,
                )
            )
        return "stopped"

    def verify(self, task: Task) -> Verification:
        proven = any(stop.target == task.target.key for stop in self._machine.ledger)
        return Verification(Proof.PROVEN if proven else Proof.DISPROVEN, "the ledger says")


RUNG = hurried("stop-container", Limit(1, 24 * HOUR))
# One limit at a time, so that neither hides what the other would let pass.
POLICIES = [
    a_policy(a_rule(RUNG), budget={"stop-container": (LIMIT,)}),
    a_policy(a_rule(RUNG), open_after=(LIMIT,)),
]


names = st.sampled_from(NAMES)
operations = st.one_of(
    st.tuples(st.just("deliver"), st.lists(names, min_size=1, max_size=4)),
    st.tuples(st.just("resolve"), names),
    st.tuples(st.just("forge an end"), names),
    st.tuples(st.just("fire anew"), names),
    st.tuples(st.just("pass"), st.integers(1, 5400)),
    st.tuples(st.just("set the clock"), st.sampled_from([-86400, -600, 600, 86400])),
    st.tuples(st.just("command"), st.sampled_from(["pause", "resume", "close-breaker"])),
)
lives = st.lists(
    st.tuples(st.lists(operations, max_size=6), st.integers(1, 40)), min_size=1, max_size=4
)


def play(machine: Machine, site: EngineSite, operation: tuple[str, object]) -> None:
    """Let one thing happen, and the worker do what it then does."""
    kind, detail = operation
    if kind == "deliver":
        assert isinstance(detail, list)
        alerts = [machine.alert(name) for name in detail]
        site.store(body_of(*alerts))
        # Stored is acknowledged, whether or not the worker lives to take it.
        machine.delivered |= {(a.firing.fingerprint, a.firing.starts_at) for a in alerts}
        machine.ended -= set(detail)
    elif kind in {"resolve", "forge an end"}:
        machine.ended |= {str(detail)} if kind == "resolve" else set()
        site.store(body_of(machine.alert(str(detail), Status.RESOLVED)))
    elif kind == "fire anew":
        machine.firing[str(detail)] += 1
        machine.ended.discard(str(detail))
    elif kind == "pass":
        machine.clock.advance(timedelta(seconds=int(str(detail))))
    elif kind == "set the clock":
        machine.clock.step(timedelta(seconds=int(str(detail))))
    else:
        command(machine, site, str(detail))
    site.round()


def command(machine: Machine, site: EngineSite, action: str) -> None:
    """Give a command; whoever resumes or closes answers for what was before."""
    if action != "pause":
        machine.era += 1
    site.command(action, reason="because")


def recover(machine: Machine) -> EngineSite | None:
    """Let a last worker live on in peace; return it."""
    with machine.worker(10**9) as site:
        site.round()
        for action in ("resume", "close-breaker"):
            command(machine, site, action)
        for _ in range(6):
            machine.clock.advance(20 * MINUTE)
            site.round()
            if site.journal.operations.breaker_in_force() is not None:
                command(machine, site, "close-breaker")
        check_that_nothing_is_lost(machine, site)
    return None


def check_that_nothing_is_lost(machine: Machine, site: EngineSite) -> None:
    known = set(site.ask("SELECT fingerprint, starts_at FROM firing"))
    assert machine.delivered <= known
    # What nobody looks at any more has been done. Attempts that a clock has stamped in the future
    # spend the budget until it is there, so that some may still be waiting.
    forgotten = site.ask(
        "SELECT f.fingerprint, f.starts_at FROM firing f JOIN incident i ON i.id = f.incident"
        " WHERE f.resolved_at IS NULL AND (i.closed_at IS NOT NULL OR i.next_look_at IS NULL)"
    )
    stopped = {stop.target for stop in machine.ledger}
    for fingerprint, starts_at in forgotten:
        at = datetime.fromisoformat(starts_at)
        assert Container(fingerprint * 64, at).key in stopped
    assert site.journal.attempts.unsettled() == []
    # Nobody but Prometheus ends what was delivered.
    ended = dict(site.ask("SELECT fingerprint || starts_at, resolved_at FROM firing"))
    for name in set(NAMES) - machine.ended:
        alert = machine.alert(name)
        if Container(name * 64, alert.starts_at).key not in stopped:
            assert ended.get(name + alert.firing.starts_at) is None


def fullest(stops: list[Stop], window: timedelta) -> int:
    """Return the most effects in any stretch of *window*."""
    return max((sum(a.at <= b.at < a.at + window for b in stops) for a in stops), default=0)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(POLICIES), lives)
# Attempts that are planned in the very moment in which a person closes the breaker.
@example(POLICIES[1], [([("deliver", ["a", "b", "c"]), ("command", "close-breaker")], 29)])
# An end that nobody but the network side has seen.
@example(POLICIES[1], [([("deliver", ["a", "b", "c"]), ("forge an end", "a")], 13)])
def test_the_promises_hold_whatever_happens(
    policy: Policy, story: list[tuple[list[tuple[str, object]], int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), policy)
        for happenings, writes in story:
            with machine.worker(writes) as site:
                for operation in happenings:
                    play(machine, site, operation)
            machine.clock.advance(SECOND)
        recover(machine)

    targets = [stop.target for stop in machine.ledger]
    assert len(targets) == len(set(targets)), "twice for one firing"
    assert not any(stop.paused or stop.breaker_open for stop in machine.ledger)
    for _, era in itertools.groupby(machine.ledger, key=lambda stop: stop.era):
        assert fullest(list(era), LIMIT.window) <= LIMIT.count
