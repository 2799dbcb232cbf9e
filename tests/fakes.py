"""A GPU host in memory, and the other things the engine talks to, for tests without peers.

Each fake keeps the promises of the Protocol it stands for; `tests/contracts` runs the same tests
over it and over the real thing. What a fake adds is a way to say what happens: a container that
ignores its stop signal, a driver that falls silent, a mail that is refused.
"""

import contextlib
import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from remediator.core.alerts import Alert
from remediator.core.attempts import Proof, Task, Verification
from remediator.core.clock_steps import ClockMark
from remediator.core.containers import ContainerFacts, ContainerSummary
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import (
    Gpu,
    GpuGauges,
    GpuHealth,
    GpuProcess,
    GpuSlot,
    LostReading,
    PowerLimits,
    Reading,
    SlotReading,
)
from remediator.core.limits import LimitsBook
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Audience, Options
from remediator.core.targets import Container, Target, subject_of
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError
from remediator.notifiers.interface import Envelope
from remediator.remediations.interface import Steps
from remediator.sources.prometheus import Confirmation, Sample
from tests.builders import HOUR, NOON, SECOND, THREE_SOURCES

T = TypeVar("T")

CPU = "ds01_container_cpu_usage_seconds_total"
RECEIVED = "ds01_container_network_receive_bytes_total"
SENT = "ds01_container_network_transmit_bytes_total"
_STOPPED, _KILLED = 143, 137
_UUID = re.compile(r'UUID="(GPU-[^"]+)"')
_ID = re.compile(r'container_id="([0-9a-f]{64})"')


class HandClock:
    """A clock that stands still until somebody sets it."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self.boot = "boot-1"
        self.uptime = timedelta(hours=1)

    def now(self) -> datetime:
        return self._now

    def mark(self) -> ClockMark:
        return ClockMark(self.boot, self.uptime, self._now)

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
        self.uptime += by

    def step(self, by: timedelta) -> None:
        """Set the clock, as an administrator or a daemon does: no time passes."""
        self._now += by

    def reboot(self, off: timedelta = timedelta()) -> None:
        """Start the machine anew after it was off for a while."""
        self._now += off
        self.boot, self.uptime = f"{self.boot}+", timedelta()


@dataclass(slots=True)
class FakeContainer:
    """One container, with how it behaves."""

    facts: ContainerFacts
    ignores_sigterm: bool = False
    auto_remove: bool = False
    leaves_orphans: bool = False
    keep_alive: tuple[datetime, datetime] | None = None


class FakeDocker:
    """A Docker engine: both what is asked of it and what is done with it.

    ``calls`` lists what changed or tried to change a container; ``before_stop`` happens after
    the engine was told to stop one and before it does, ``before_inspect`` before each look. While
    ``silent`` is set it answers nothing, and nobody knows whether it acts.
    """

    def __init__(self, clock: HandClock, kernel: "FakeKernel", driver: "FakeDriver") -> None:
        self._clock = clock
        self._kernel = kernel
        self._driver = driver
        self._containers: dict[str, FakeContainer] = {}
        self.calls: list[tuple[str, str]] = []
        self.graces: list[timedelta] = []
        self._removed: dict[str, Mapping[str, str]] = {}
        self.silent = ""
        self.loses_answers = False
        self.refuses_removal = False
        self.before_stop: Callable[[], None] = lambda: None
        self.before_inspect: Callable[[], None] = lambda: None

    def add(self, container: FakeContainer) -> None:
        self._containers[container.facts.id] = container

    def get(self, container_id: str) -> FakeContainer:
        return self._containers[container_id]

    def exists(self, container_id: str) -> bool:
        return container_id in self._containers

    def inspect(self, container_id: str) -> ContainerFacts:
        self.before_inspect()
        return self._find(container_id).facts

    def list(self) -> tuple[ContainerSummary, ...]:
        if self.silent:
            raise SourceError(self.silent)
        facts = [container.facts for container in self._containers.values()]
        return tuple(ContainerSummary(found.id, found.name, found.state) for found in facts)

    def labels_of_removed(self, container_id: str) -> Mapping[str, str] | None:
        if self.silent:
            raise SourceError(self.silent)
        return self._removed.get(container_id)

    def forget_the_past(self) -> None:
        """Forget what was removed, as an engine does that is restarted."""
        self._removed.clear()

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        if self.silent:
            raise SourceError(self.silent)
        container = self._containers.get(facts.id)
        return container.keep_alive if container else None

    def stop(self, container_id: str, grace: timedelta, timeout: timedelta) -> None:
        assert timeout >= grace, "nobody would wait for the end of the grace"
        container = self._told("stop", container_id)
        self.graces.append(grace)
        self.before_stop()
        if container.facts.is_running:
            self.end(container_id, _KILLED if container.ignores_sigterm else _STOPPED)
        self._answer("stop", container_id)

    def stop_softly(self, container_id: str, within: timedelta) -> None:
        container = self._told("stop-softly", container_id)
        self.before_stop()
        if container.ignores_sigterm and container.facts.is_running:
            raise EffectUnknownError(f"container {container_id} takes too long to stop")
        if container.facts.is_running:
            self.end(container_id, _STOPPED)
        self._answer("stop", container_id)

    def start(self, container_id: str) -> None:
        container = self._told("start", container_id)
        if not container.facts.is_running:
            self.restart(container_id, self._kernel.next_pid())
        self._answer("start", container_id)

    def remove(self, container_id: str) -> None:
        container = self._told("remove", container_id)
        if container.facts.is_running or self.refuses_removal:
            raise RefusedError(f"Docker refused to remove {container_id}: stop it first")
        self._drop(container_id)
        self._answer("remove", container_id)

    def end(self, container_id: str, exit_code: int = 0) -> None:
        """Let its processes end, for whatever reason."""
        container = self._containers[container_id]
        pid = container.facts.pid
        container.facts = replace(
            container.facts,
            state="exited",
            pid=0,
            exit_code=exit_code,
            finished_at=self._clock.now(),
        )
        if not container.leaves_orphans:
            self._kernel.forget(pid)
            self._driver.forget(pid)
        if container.auto_remove:
            self._drop(container_id)

    def restart(self, container_id: str, pid: int) -> None:
        """Let its owner start it anew."""
        container = self._containers[container_id]
        self._kernel.forget(container.facts.pid)
        self._driver.forget(container.facts.pid)
        container.facts = replace(
            container.facts,
            state="running",
            pid=pid,
            exit_code=None,
            started_at=self._clock.now(),
        )
        self._kernel.put(pid, container_id)

    def vanish(self, container_id: str) -> None:
        """Let somebody else remove it by force."""
        self.end(container_id, _KILLED)
        if container_id in self._containers:
            self._drop(container_id)

    def _drop(self, container_id: str) -> None:
        self._removed[container_id] = self._containers.pop(container_id).facts.labels

    def _find(self, container_id: str) -> FakeContainer:
        if self.silent:
            raise SourceError(self.silent)
        for container in self._containers.values():
            # Docker takes the name as well, and the beginning of an id.
            if container_id in {container.facts.name, container.facts.id[:12]}:
                return container
        if container_id not in self._containers:
            raise TargetGoneError(f"container {container_id} no longer exists")
        return self._containers[container_id]

    def _told(self, verb: str, container_id: str) -> FakeContainer:
        if self.silent:
            raise RefusedError(f"Docker cannot be reached to {verb} {container_id}: {self.silent}")
        container = self._find(container_id)
        self.calls.append((verb, container_id))
        return container

    def _answer(self, verb: str, container_id: str) -> None:
        if self.loses_answers:
            raise EffectUnknownError(f"no answer from Docker when told to {verb} {container_id}")


class FakeDriver:
    """The NVIDIA driver: slots, who is on them, how busy they are; silent with a reason.

    ``health``, ``gauges``, ``power_of`` and ``lost`` go by the UUID of a GPU, ``engines`` by a MIG
    device's own.
    """

    def __init__(self) -> None:
        self._slots: dict[str, GpuSlot] = {}
        self._pids: dict[str, list[int]] = {}
        self.utilization: dict[str, float | None] = {}
        self.shares: dict[str, Mapping[int, float] | None] = {}
        self.lost: dict[str, str] = {}
        self.health_of: dict[str, GpuHealth] = {}
        self.gauges_of: dict[str, GpuGauges] = {}
        self.power_of: dict[str, PowerLimits | None] = {}
        self.engines: dict[str, float] = {}
        self.groups: dict[str, tuple[str, ...]] = {}
        self.persistent: dict[str, bool] = {}
        self.closed_because = ""
        self.silent = ""

    def add(self, slot: GpuSlot, utilization: float | None = 0.0) -> None:
        self._slots[slot.uuid] = slot
        self._pids[slot.uuid] = []
        self.utilization[slot.uuid] = utilization
        self.shares[slot.uuid] = None

    def remove(self, uuid: str) -> None:
        del self._slots[uuid]

    def use(self, uuid: str, pid: int) -> None:
        self._pids[uuid].append(pid)

    def forget(self, pid: int) -> None:
        for pids in self._pids.values():
            if pid in pids:
                pids.remove(pid)

    def uuids(self) -> tuple[str, ...]:
        """Return the physical GPUs, whether the driver answers or not."""
        return tuple(slot.parent_uuid for slot in self._slots.values())

    def pids_on(self, gpu_uuid: str) -> tuple[int, ...]:
        """Return the processes on a physical GPU; SourceError while the driver is silent."""
        self._answer_of(gpu_uuid)
        own = (uuid for uuid, slot in self._slots.items() if slot.parent_uuid == gpu_uuid)
        return tuple(pid for uuid in own for pid in self._pids[uuid])

    def gpus(self) -> tuple[Gpu, ...]:
        self._answer()
        slots = sorted(self._slots.values(), key=lambda slot: slot.gpu)
        gpus = {slot.parent_uuid: slot for slot in slots}
        return tuple(
            Gpu(
                index=slot.gpu,
                uuid=uuid,
                model="NVIDIA A100-SXM4-80GB",
                pci_bus_id=f"00000000:{slot.gpu + 1:02X}:00.0",
                mig_enabled=slot.mig_enabled,
                slots=tuple(own for own in slots if own.parent_uuid == uuid),
                lost=self.lost.get(uuid),
            )
            for uuid, slot in gpus.items()
        )

    def reading(self, slot: GpuSlot) -> Reading:
        self._answer()
        return self._reading(slot)

    def health(self, gpu_uuid: str) -> GpuHealth:
        self._answer_of(gpu_uuid)
        return self.health_of.get(gpu_uuid, GpuHealth(recovery_action=0))

    def reset_group(self, gpu_uuid: str) -> tuple[str, ...]:
        self._answer_of(gpu_uuid)
        return self.groups.get(gpu_uuid, (gpu_uuid,))

    def is_persistent(self, gpu_uuid: str) -> bool | None:
        self._answer_of(gpu_uuid)
        return self.persistent.get(gpu_uuid, True)

    @contextlib.contextmanager
    def closed(self, why: str, within: timedelta) -> Iterator[None]:
        self.closed_because = why
        try:
            yield
        finally:
            self.closed_because = ""

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        self._answer_of(gpu_uuid)
        return self.gauges_of.get(gpu_uuid, GpuGauges(temperature_celsius=35))

    def power_limits(self, gpu_uuid: str) -> PowerLimits | None:
        self._answer()
        if gpu_uuid not in {slot.parent_uuid for slot in self._slots.values()}:
            raise TargetGoneError(f"the driver knows no GPU {gpu_uuid}")
        self._answer_of(gpu_uuid)
        return self.power_of.get(gpu_uuid, PowerLimits(400_000, 400_000, 400_000, 100_000, 400_000))

    def engine_active(self, slot: GpuSlot) -> float | None:
        self._answer_of(slot.parent_uuid)
        return self.engines.get(slot.uuid)

    def inventory(self) -> tuple[GpuSlot, ...]:
        self._answer()
        return tuple(self._slots.values())

    def readings(self) -> tuple[Reading, ...]:
        return tuple(self._reading(slot) for slot in self.inventory())

    def process_utilization(self, slot: GpuSlot) -> Mapping[int, float] | None:
        self._answer()
        return None if slot.gpu_instance is not None else self.shares[slot.uuid]

    def _reading(self, slot: GpuSlot) -> Reading:
        if slot.parent_uuid in self.lost:
            return LostReading(slot, self.lost[slot.parent_uuid])
        processes = tuple(GpuProcess(pid, None, "compute") for pid in self._pids[slot.uuid])
        busy = None if slot.gpu_instance is not None else self.utilization[slot.uuid]
        return SlotReading(slot, busy, 0, 80 * 2**30, processes, memory_reserved_bytes=0)

    def _answer_of(self, gpu_uuid: str) -> None:
        self._answer()
        if gpu_uuid in self.lost:
            raise SourceError(self.lost[gpu_uuid])

    def _answer(self) -> None:
        if self.silent or self.closed_because:
            raise SourceError(self.silent or self.closed_because)


@dataclass(slots=True)
class FakeProcess:
    """What the kernel counts of one process; ``network`` is None in the host's network.

    ``state`` is the letter of ps(1): a zombie has ended, one in D hears no signal.
    """

    container_id: str | None
    cpu_seconds: float = 100.0
    network: tuple[int, int] | None = (1000, 1000)
    uid: int = 1001
    comm: str | None = "python"
    command: str = "python train.py"
    start_ticks: int = 70
    state: str = "S"
    is_hosts: bool = True
    unit: str | None = None
    outer_ids: tuple[str, ...] = ()


class FakeKernel:
    """The processes of the host."""

    def __init__(self) -> None:
        self.processes: dict[int, FakeProcess] = {}
        self.silent = ""
        self.boot = "boot-1"

    def put(self, pid: int, container_id: str | None) -> FakeProcess:
        self.processes[pid] = FakeProcess(container_id)
        return self.processes[pid]

    def forget(self, pid: int) -> None:
        self.processes.pop(pid, None)

    def next_pid(self) -> int:
        return max(self.processes, default=4000) + 1

    def container_of(self, pid: int, known_ids: Collection[str]) -> str | None:
        process = self._find(pid)
        found = process.container_id if process else None
        return found if found in known_ids else None

    def comm(self, pid: int) -> str | None:
        process = self._find(pid)
        return process.comm if process else None

    def owner_uid(self, pid: int) -> int | None:
        process = self._find(pid)
        return process.uid if process else None

    def unit_of(self, pid: int) -> str | None:
        process = self._find(pid)
        return process.unit if process else None

    def boot_id(self) -> str:
        if self.silent:
            raise SourceError(self.silent)
        return self.boot

    def start_ticks(self, pid: int) -> int | None:
        process = self._find(pid)
        return process.start_ticks if process else None

    def has_ended(self, pid: int) -> bool:
        process = self._find(pid)
        return process is None or process.state == "Z"

    def is_kernel_thread(self, pid: int) -> bool:
        process = self._find(pid)
        return process is not None and process.comm == "kthreadd"

    def standing(self, pid: int) -> str | None:
        process = self._find(pid)
        if process is None:
            return None
        return "state D (uninterruptible)" if process.state == "D" else f"state {process.state}"

    def command(self, pid: int) -> str | None:
        process = self._find(pid)
        return process.command if process else None

    def container_ids_in_cgroup(self, pid: int) -> tuple[str, ...]:
        process = self._find(pid)
        if process is None or process.container_id is None:
            return ()
        return (*process.outer_ids, process.container_id)

    def is_in_hosts_namespaces(self, pid: int) -> bool | None:
        process = self._find(pid)
        if process is None:
            return None
        return process.is_hosts and process.container_id is None

    def cpu_seconds(self, pid: int, container_id: str | None = None) -> float | None:
        process = self._find(pid)
        if process is None or container_id not in {None, process.container_id}:
            return None
        return process.cpu_seconds

    def network_bytes(self, pid: int) -> tuple[int, int] | None:
        process = self._find(pid)
        return process.network if process else None

    def _find(self, pid: int) -> FakeProcess | None:
        if self.silent:
            raise SourceError(self.silent)
        return self.processes.get(pid)


@dataclass(frozen=True, slots=True)
class FakeFiring:
    """An alert of Prometheus's own."""

    labels: Mapping[str, str]
    active_since: datetime
    state: str = "firing"
    value: float | None = None
    evaluated_ago: timedelta = SECOND


class FakePrometheus:
    """A Prometheus with its alerts, the counters it scraped, and exporters that may be down."""

    def __init__(self, freshness: timedelta = timedelta(minutes=2)) -> None:
        self._freshness = freshness
        self.alerts: list[FakeFiring] = []
        self.counters: dict[str, dict[str, list[Sample]]] = {}
        self.values: dict[str, float] = {}
        self.xids: dict[str, list[tuple[str, str]]] = {}
        self.down: set[str] = set()
        self.silent = ""

    def confirm(
        self, alert: Alert, now: datetime, *, exporter_must_answer: bool = True
    ) -> Confirmation:
        del now  # as there: how old an evaluation is, is asked of Prometheus's own clock
        if self.silent:
            return _says(Verdict.SILENT, self.silent)
        found = next((own for own in self.alerts if _is_it(own, alert)), None)
        if found is None:
            return _says(Verdict.DISAGREES, f"{alert.name} is not firing with these labels")
        if found.state != "firing":
            return _says(Verdict.DISAGREES, f"{alert.name} is only {found.state}, not firing")
        if found.evaluated_ago > self._freshness:
            return _says(Verdict.SILENT, f"{alert.name} was evaluated long ago")
        if exporter_must_answer and found.labels.get("instance") in self.down:
            return _says(Verdict.SILENT, f"the exporter {found.labels['instance']} is down")
        says, facts = f"{alert.name} is firing", {"value": found.value}
        report = Report(Source.PROMETHEUS, Verdict.AGREES, says, facts)
        told = {"summary": "it lies idle"}
        return Confirmation(report, found.active_since, told, found.labels)

    def samples(
        self, selector: str, window: timedelta
    ) -> list[tuple[Mapping[str, str], list[Sample]]]:
        del window
        self._answer()
        gpu = _UUID.search(selector)
        if gpu:
            return [
                ({"xid": xid, "advice": advice}, []) for xid, advice in self.xids.get(gpu[1], ())
            ]
        named = _ID.search(selector)
        counters = self.counters.get(named[1], {}) if named else {}
        return [({"__name__": name}, samples) for name, samples in counters.items()]

    def value(self, expression: str) -> float | None:
        self._answer()
        known = (value for part, value in self.values.items() if part in expression)
        return max(known, default=None)

    def _answer(self) -> None:
        if self.silent:
            raise SourceError(self.silent)


def _is_it(own: FakeFiring, alert: Alert) -> bool:
    return (
        own.labels.get("alertname") == alert.name
        and own.labels.items() <= alert.labels.items()
        and subject_of(own.labels) == subject_of(alert.labels)
    )


def _says(verdict: Verdict, says: str) -> Confirmation:
    return Confirmation(Report(Source.PROMETHEUS, verdict, says))


class FakeUsers:
    """The accounts of the host."""

    def __init__(self, accounts: Mapping[str, int]) -> None:
        self._accounts = accounts

    def exists(self, name: str) -> bool:
        return name in self._accounts

    def name_of_uid(self, uid: int) -> str | None:
        return next((name for name, known in self._accounts.items() if known == uid), None)


@dataclass(slots=True)
class FakeLimits:
    """The limits file."""

    book: LimitsBook = field(default_factory=LimitsBook)
    is_good: bool = True

    def refresh(self) -> None:
        """Nothing changes but what a test sets."""


class FakeHost:
    """A host with two whole GPUs, on which containers run."""

    def __init__(self, clock: HandClock, gpus: int = 2) -> None:
        self.clock = clock
        self.kernel = FakeKernel()
        self.driver = FakeDriver()
        self.docker = FakeDocker(clock, self.kernel, self.driver)
        self.prometheus = FakePrometheus()
        self.limits = FakeLimits()
        self.users = FakeUsers({"alice": 1001, "bob": 1002})
        self._next_pid = 4000
        for index in range(gpus):
            self.driver.add(a_gpu(index))

    def run(
        self,
        name: str = "idle",
        *,
        gpus: Sequence[str] = ("GPU-0",),
        claims: GpuClaims | None = None,
        labels: Mapping[str, str] | None = None,
        network_mode: str = "bridge",
        age: timedelta = 5 * HOUR,
    ) -> FakeContainer:
        """Start a container that has been idle ever since, with a process on each of *gpus*.

        It is what an alert names: `firing` makes Prometheus say so.
        """
        container_id = f"{len(name):x}{name.encode().hex()}".ljust(64, "0")[:64]
        pid = self.a_process(container_id)
        for uuid in gpus:
            self.driver.use(uuid, pid)
        started_at = self.clock.now() - age
        self._scrape(container_id, pid)
        container = FakeContainer(
            ContainerFacts(
                id=container_id,
                name=name,
                image="pytorch",
                labels=labels or {"ds01.user": "alice"},
                state="running",
                pid=pid,
                created_at=started_at,
                started_at=started_at,
                finished_at=None,
                exit_code=None,
                claims=GpuClaims(ids=tuple(gpus)) if claims is None else claims,
                network_mode=network_mode,
            )
        )
        self.docker.add(container)
        return container

    def create(
        self, name: str = "created", *, claims: GpuClaims | None = None, age: timedelta = HOUR
    ) -> FakeContainer:
        """Make a container that is not started."""
        container = self.run(name, gpus=(), claims=claims or GpuClaims(ids=("GPU-0",)), age=age)
        self.kernel.forget(container.facts.pid)
        container.facts = replace(container.facts, state="created", pid=0, started_at=None)
        return container

    def a_process(self, container_id: str | None = None, on: Sequence[str] = ()) -> int:
        """Start a process, of a container or of the host, that uses the slots *on*."""
        self._next_pid += 1
        self.kernel.put(self._next_pid, container_id)
        for uuid in on:
            self.driver.use(uuid, self._next_pid)
        return self._next_pid

    def fire(
        self,
        alert: Alert,
        *,
        since: timedelta = HOUR,
        state: str = "firing",
        value: float | None = None,
    ) -> None:
        """Let Prometheus say that *alert* is what it says."""
        firing = FakeFiring(alert.labels, self.clock.now() - since, state, value)
        self.prometheus.alerts.append(firing)

    def quench(self) -> None:
        """Let no alert fire any more."""
        self.prometheus.alerts.clear()

    def _scrape(self, container_id: str, pid: int) -> None:
        process = self.kernel.processes[pid]
        at = self.clock.now() - 30 * SECOND
        assert process.network is not None
        self.prometheus.counters[container_id] = {
            CPU: [Sample(at, process.cpu_seconds)],
            RECEIVED: [Sample(at, float(process.network[0]))],
            SENT: [Sample(at, float(process.network[1]))],
        }


def a_gpu(index: int) -> GpuSlot:
    return GpuSlot(index, str(index), f"GPU-{index}", f"GPU-{index}", minor=index)


def a_mig_device(index: int = 1, position: int = 0, instance: int = 7) -> GpuSlot:
    return GpuSlot(
        gpu=index,
        slot=f"{index}.{position}",
        uuid=f"MIG-{index}-{position}",
        parent_uuid=f"GPU-{index}",
        profile="1g.10gb",
        fraction=1 / 7,
        gpu_instance=instance,
        compute_instance=0,
        mig_enabled=True,
        minor=index,
    )


class MemorySteps:
    """The journal of one attempt, in memory: what was begun, and what came of it.

    *ages* are the steps that an earlier life of the program began, with how long ago that was.
    ``before_step`` happens before each step is begun. Where what was seen is not fresh any more,
    ``seen_is_old``.
    """

    def __init__(self, ages: Mapping[str, timedelta] | None = None) -> None:
        self._ages = dict(ages or {})
        self.names: list[str] = []
        self.said: dict[str, str] = {}
        self.before_step: Callable[[str], None] = lambda _name: None
        self.seen_is_old = False

    @property
    def before(self) -> frozenset[str]:
        return frozenset(self._ages)

    def age_of(self, name: str) -> timedelta | None:
        return self._ages.get(name)

    def step(self, name: str, detail: str, *, fresh: bool = False) -> "_MemoryStep":
        assert detail
        if fresh and self.seen_is_old:
            raise RefusedError("what was seen is old")
        self.before_step(name)
        self.names.append(name)
        return _MemoryStep(self, name)


class _MemoryStep:
    def __init__(self, steps: MemorySteps, name: str) -> None:
        self._steps = steps
        self._name = name

    def __enter__(self) -> Callable[[str], None]:
        return lambda text: self._steps.said.__setitem__(self._name, text)

    def __exit__(self, *error: object) -> None:
        return None


Outcome = str | Exception
Look = Callable[[Alert, datetime], Observation]


def agreeing(target: Target | None = None, owner: str | None = "alice") -> Look:
    """Return eyes that agree with every alert about the container it names."""

    def look(alert: Alert, now: datetime) -> Observation:
        container_id = alert.labels.get("container_id", "c" * 64)
        return Observation(
            at=now,
            target=target or Container(container_id, NOON - 5 * HOUR),
            reports=tuple(Report(source, Verdict.AGREES, "so it is") for source in THREE_SOURCES),
            owner=owner,
            title=alert.labels.get("container", "thing"),
            context={"summary": "it lies idle"},
        )

    return look


class FakeRemediation:
    """A remediation that does as it is told.

    Each look, execution and verification takes the next of its list, and the last one again and
    again. An execution that is not refused begins its step first, as the engine's journal wants.
    """

    def __init__(self, name: str = "stop-container") -> None:
        self.name = name
        self.looks: deque[Look | Exception] = deque([agreeing()])
        self.outcomes: deque[Outcome] = deque(["it is done"])
        self.verdicts: deque[Verification | Exception] = deque(
            [Verification(Proof.PROVEN, "it is so")]
        )
        self.refuses: str = ""
        self.executed: list[frozenset[str]] = []
        self.observed = 0
        self.verified = 0
        self._lock = threading.Lock()

    def observe(self, alert: Alert, now: datetime, options: Options) -> Observation:
        with self._lock:
            self.observed += 1
            look = _next(self.looks)
        if isinstance(look, Exception):
            raise look
        return look(alert, now)

    def execute(self, task: Task, steps: Steps) -> str:
        assert task.target.key
        if self.refuses:
            raise RefusedError(self.refuses)
        with self._lock:
            outcome = _next(self.outcomes)
        with steps.step("do", "do it", fresh=not steps.before) as say:
            self.executed.append(steps.before)
            if isinstance(outcome, Exception):
                raise outcome
            say(outcome)
        return outcome

    def verify(self, task: Task) -> Verification:
        assert task.target.key
        with self._lock:
            self.verified += 1
            verdict = _next(self.verdicts)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class FakeNotifier:
    """A way to tell people; it fails with what is in ``failures`` before it delivers."""

    def __init__(self, name: str = "mail") -> None:
        self.name = name
        self.sent: list[Envelope] = []
        self.failures: deque[Exception] = deque()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.before_send: Callable[[], None] = lambda: None

    def send(self, envelope: Envelope) -> str:
        self.before_send()
        self.goes_on.wait(10)
        if self.failures:
            raise self.failures.popleft()
        self.sent.append(envelope)
        return f"{self.name} took it"


@dataclass(frozen=True, slots=True)
class FakeAddressee:
    notifier: str
    address: str


class FakeDirectory:
    """Reaches the owner by mail and wall, the admins by mail."""

    def recipients(
        self, audiences: Iterable[Audience], owner: str | None
    ) -> Sequence[FakeAddressee]:
        found: list[FakeAddressee] = []
        for audience in audiences:
            if audience == Audience.ADMINS or owner is None:
                found.append(FakeAddressee("mail", "admins"))
            else:
                found += [FakeAddressee("wall", owner), FakeAddressee("mail", owner)]
        return list(dict.fromkeys(found))


def _next(queue: deque[T]) -> T:
    return queue[0] if len(queue) == 1 else queue.popleft()
