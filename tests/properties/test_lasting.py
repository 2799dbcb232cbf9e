"""Whatever happens, and however often the worker dies: no limit outlives its cause.

The engine and cap-power are real; the driver is in memory and, like the machine, outlives them.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediator.core.alerts import Alert, Status
from remediator.core.gpus import GpuGauges
from remediator.core.policy import Limit, Policy, PolicyRule
from remediator.remediations.cap_power import CapPower
from tests.builders import DAY, HOUR, MINUTE, NOON, SECOND, a_policy, a_rule, an_alert
from tests.fakes import FakeHost, FakeRemediation, HandClock
from tests.fakes_power import FakePower
from tests.unit.engine_site import EngineSite, body_of, hurried, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

HIGH, CRITICAL = "high", "critical"
GPUS = ("GPU-0", "GPU-1")


def limiting(name: str, percent: int) -> PolicyRule:
    rung = replace(hurried("cap-power", Limit(50, DAY)), options={"limit": percent})
    told = hurried("notify-only", Limit(1, HOUR))
    return a_rule(replace(rung, cooldown=SECOND), told, alertname=name, name=name)


POLICY: Policy = a_policy(limiting(HIGH, 80), limiting(CRITICAL, 60))


@dataclass
class Machine:
    """What outlives every life of the worker."""

    folder: Path
    clock: HandClock = field(default_factory=HandClock)
    firings: dict[tuple[str, str], int] = field(default_factory=dict)
    active: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.host = FakeHost(self.clock)
        self.power = FakePower(self.host.driver)
        self.cap = CapPower(self.host.prometheus, self.host.driver, self.power)

    def alert(self, gpu: str, name: str, status: Status = Status.FIRING) -> Alert:
        starts_at = NOON - 5 * HOUR + self.firings.get((gpu, name), 0) * MINUTE
        return an_alert(
            {"alertname": name, "UUID": gpu, "container_id": ""},
            status=status,
            fingerprint=gpu + name,
            starts_at=f"{starts_at:%Y-%m-%dT%H:%M:%SZ}",
        )

    @contextmanager
    def worker(self, writes: int) -> Iterator[EngineSite]:
        """Give it a life that ends after so many writes, or when the block does."""
        database = open_journal(self.folder)
        database.rows("PRAGMA synchronous = OFF")
        remediations = {"cap-power": self.cap, "notify-only": FakeRemediation("notify-only")}
        mortal = MortalDatabase(database, writes)
        site = EngineSite(
            self.folder,
            POLICY,
            remediations,
            self.clock,
            mortal,  # type: ignore[arg-type]
        )
        try:
            yield site
        except DiedError:
            pass
        finally:
            site.close()

    def limits(self) -> list[int]:
        found = [self.host.driver.power_limits(gpu) for gpu in GPUS]
        return [limits.current for limits in found if limits is not None]


gpus, names = st.sampled_from(GPUS), st.sampled_from([HIGH, CRITICAL])
operations = st.one_of(
    st.tuples(st.just("heat"), gpus, names),
    st.tuples(st.just("cool"), gpus, names),
    st.tuples(st.just("pass"), st.sampled_from([1, 60, 3600])),
    st.tuples(st.just("command"), st.sampled_from(["pause", "resume"])),
    st.tuples(st.just("driver"), st.sampled_from(["", "no driver"])),
    st.tuples(st.just("answers"), st.booleans()),
    st.tuples(st.just("dies"), st.booleans()),
    st.tuples(st.just("clock"), st.sampled_from([-3600, 3600])),
)
lives = st.lists(
    st.tuples(st.lists(operations, max_size=8), st.integers(1, 60)), min_size=1, max_size=4
)


def die() -> None:
    raise DiedError


def happen(machine: Machine, site: EngineSite, operation: tuple[object, ...]) -> None:
    """Let one thing happen, and the worker do what it then does."""
    kind, *details = operation
    if kind in {"heat", "cool"}:
        gpu, name = str(details[0]), str(details[1])
        change(machine, site, gpu, name, hot=kind == "heat")
    elif kind == "pass":
        machine.clock.advance(int(str(details[0])) * SECOND)
    elif kind == "clock":
        machine.clock.step(int(str(details[0])) * SECOND)
    elif kind == "command":
        site.command(str(details[0]), reason="because")
    elif kind == "driver":
        machine.host.driver.silent = str(details[0])
    elif kind == "answers":
        machine.power.loses_answers = bool(details[0])
    else:
        machine.power.after_set = die if details[0] else lambda: None
    site.round()


def change(machine: Machine, site: EngineSite, gpu: str, name: str, *, hot: bool) -> None:
    """Let an alert fire or end."""
    if hot == ((gpu, name) in machine.active):
        return
    if hot:
        machine.firings[gpu, name] = machine.firings.get((gpu, name), 0) + 1
        machine.active.add((gpu, name))
        machine.host.fire(machine.alert(gpu, name), value=92)
    else:
        machine.active.discard((gpu, name))
        labels = machine.alert(gpu, name).labels
        own = machine.host.prometheus.alerts
        own[:] = [firing for firing in own if firing.labels != labels]
    busy = any(active == gpu for active, _ in machine.active)
    machine.host.driver.gauges_of[gpu] = GpuGauges(temperature_celsius=92 if busy else 60)
    site.store(body_of(machine.alert(gpu, name, Status.FIRING if hot else Status.RESOLVED)))


def recover(machine: Machine) -> None:
    """End every alert, and let a last worker live on in peace, paused or not."""
    machine.host.driver.silent = ""
    machine.power.loses_answers = False
    machine.power.after_set = lambda: None
    with machine.worker(10**9) as site:
        for gpu, name in sorted(machine.active):
            change(machine, site, gpu, name, hot=False)
        for gpu, name in sorted(machine.firings):
            site.store(body_of(machine.alert(gpu, name, Status.RESOLVED)))
        for _ in range(8):
            site.round()
            machine.clock.advance(20 * MINUTE)
        assert site.journal.lasting.in_force() == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives)
def test_when_nothing_fires_every_limit_is_as_it_was(
    story: list[tuple[list[tuple[object, ...]], int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        for happenings, writes in story:
            with machine.worker(writes) as site:
                for operation in happenings:
                    happen(machine, site, operation)
            machine.clock.advance(SECOND)
        recover(machine)

    assert machine.limits() == [400_000, 400_000]
