"""What the GPUs are doing, asked in a thread that may hang so that a scrape does not.

NVML has no timeouts, and a wedged driver can hold a caller for ever. A scrape asks for a fresh
sample and waits a little; if none comes, it gets the last one, unless that is too old to be true.
For a reset the driver can be let go for a while: `GpuWatch.release` and `GpuWatch.resume`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Protocol, TypeVar

from remediator.core.gpus import Gpu, GpuGauges, GpuHealth, GpuSlot, Reading, SlotReading
from remediator.errors import SourceError

K = TypeVar("K")
T = TypeVar("T")
Names = Callable[[int], str | None]

log = logging.getLogger(__name__)


class GpuSource(Protocol):
    """What is asked of the driver."""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU with its slots."""

    def reading(self, slot: GpuSlot) -> Reading:
        """Return what a slot is doing."""

    def health(self, gpu_uuid: str) -> GpuHealth:
        """Return what the driver thinks of a GPU."""

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        """Return what a GPU's instruments show."""

    def engine_active(self, slot: GpuSlot) -> float | None:
        """Return the share of time in which a MIG device worked."""


class ProcessSource(Protocol):
    """What is asked about a process that uses a GPU."""

    def container_id_in_cgroup(self, pid: int) -> str | None:
        """Return the id of the container it is in."""

    def start_ticks(self, pid: int) -> int | None:
        """Return when it started."""

    def owner_uid(self, pid: int) -> int | None:
        """Return whose it is."""

    def comm(self, pid: int) -> str | None:
        """Return its name."""


@dataclass(frozen=True, slots=True)
class SlotProcess:
    """A process on a slot, exactly: a pid alone may be somebody else a moment later.

    ``user`` is its name, or the number where the account has none. ``kind`` is compute, graphics
    or mps.
    """

    slot: GpuSlot
    pid: int
    start_ticks: int
    container_id: str | None
    user: str
    comm: str
    memory_bytes: int | None
    uid: int | None = None
    kind: str = "compute"


@dataclass(frozen=True, slots=True)
class _Identity:
    start_ticks: int
    container_id: str | None
    uid: int
    user: str
    comm: str


@dataclass(frozen=True, slots=True)
class GpuSample:
    """All GPUs at one moment; health and gauges by UUID, active engines by a MIG device's own."""

    gpus: tuple[Gpu, ...]
    readings: tuple[SlotReading, ...] = ()
    processes: tuple[SlotProcess, ...] = ()
    health: Mapping[str, GpuHealth] = field(default_factory=dict)
    gauges: Mapping[str, GpuGauges] = field(default_factory=dict)
    engines: Mapping[str, float] = field(default_factory=dict)

    @property
    def slots(self) -> tuple[GpuSlot, ...]:
        """Every slot that can be given to a container; those of lost GPUs as last seen."""
        return tuple(slot for gpu in self.gpus for slot in gpu.slots)


def take_sample(
    source: GpuSource, processes: ProcessSource, name_of_uid: Names, *, instruments: bool = True
) -> GpuSample:
    """Ask the driver everything once; a lost GPU only lacks its readings.

    *instruments* are the gauges and active engines, which only DCGM's families need.
    """
    gpus = source.gpus()
    living = [gpu for gpu in gpus if gpu.lost is None]
    slots = [slot for gpu in living for slot in gpu.slots]
    answers = [source.reading(slot) for slot in slots]
    readings = tuple(answer for answer in answers if isinstance(answer, SlotReading))
    engines = {
        slot.uuid: ratio
        for slot, ratio in _answers(slots if instruments else [], source.engine_active)
        if ratio is not None
    }
    health = _answers(living, lambda gpu: source.health(gpu.uuid))
    gauges = _answers(living if instruments else [], lambda gpu: source.gauges(gpu.uuid))
    return GpuSample(
        gpus=gpus,
        readings=readings,
        processes=tuple(_identified(readings, processes, cache(name_of_uid))),
        health={gpu.uuid: found for gpu, found in health},
        gauges={gpu.uuid: found for gpu, found in gauges},
        engines=engines,
    )


def _answers(things: Iterable[K], ask: Callable[[K], T]) -> Iterator[tuple[K, T]]:
    for thing in things:
        try:
            answer = ask(thing)
        except SourceError as error:
            # It was lost since it was listed; its other values are missing too.
            log.debug("no answer: %s", error)
            continue
        yield thing, answer


def _identified(
    readings: Iterable[SlotReading], source: ProcessSource, name_of_uid: Names
) -> Iterator[SlotProcess]:
    """Yield who the processes are; without those that ended meanwhile."""
    known: dict[int, _Identity | None] = {}
    for reading in readings:
        for process in reading.processes:
            if process.pid not in known:
                known[process.pid] = _identity(source, process.pid, name_of_uid)
            who = known[process.pid]
            if who is not None:
                yield SlotProcess(
                    slot=reading.slot,
                    pid=process.pid,
                    start_ticks=who.start_ticks,
                    container_id=who.container_id,
                    user=who.user,
                    comm=who.comm,
                    memory_bytes=process.memory_bytes,
                    uid=who.uid,
                    kind=process.kind,
                )


def _identity(source: ProcessSource, pid: int, name_of_uid: Names) -> _Identity | None:
    try:
        started = source.start_ticks(pid)
        uid = source.owner_uid(pid)
        if started is None or uid is None:
            return None
        return _Identity(
            start_ticks=started,
            container_id=source.container_id_in_cgroup(pid),
            uid=uid,
            user=name_of_uid(uid) or str(uid),
            comm=source.comm(pid) or "",
        )
    except SourceError as error:
        # One that the kernel hides must not hide the others.
        log.debug("process %d on a GPU is not shown: %s", pid, error)
        return None


class GpuWatch:
    """Takes samples in one thread of its own: every so often, and on request.

    A sample younger than twice *every* is good enough for a scrape, so that none waits for the
    driver while it answers as it should.
    *close* lets the driver go within a time and says whether it did; it is asked while no sample
    is being taken.
    """

    def __init__(
        self,
        sample: Callable[[], GpuSample],
        close: Callable[[timedelta], bool] = lambda _: True,
        *,
        every: timedelta = timedelta(0),
        patience: timedelta = timedelta(seconds=1),
        keep_for: timedelta = timedelta(seconds=30),
    ) -> None:
        self._sample = sample
        self._close = close
        self._every = every.total_seconds()
        self._patience = patience.total_seconds()
        self._keep_for = keep_for.total_seconds()
        self._condition = threading.Condition()
        self._wanted = False
        self._is_asking = False
        self._is_released = False
        self._stopping = False
        self._finished = 0
        self._last: GpuSample | SourceError = SourceError("the GPUs were not asked yet")
        self._taken_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="gpu-watch", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """End; a thread that hangs in the driver is left behind."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(within.total_seconds())

    def release(self, within: timedelta = timedelta(seconds=5)) -> bool:
        """Take no more samples until `resume`, and let the driver go; False if it holds us.

        Until then the last sample is served, as long as it can be true.
        """
        deadline = time.monotonic() + within.total_seconds()
        with self._condition:
            self._is_released = True
            is_idle = self._condition.wait_for(lambda: not self._is_asking, within.total_seconds())
        left = max(deadline - time.monotonic(), 0)
        return is_idle and self._close(timedelta(seconds=left))

    def resume(self) -> None:
        """Take samples again."""
        with self._condition:
            self._is_released = False
            self._condition.notify_all()

    def latest(self) -> GpuSample:
        """Return a sample taken lately, or the last one if the driver is slow to answer.

        SourceError if the driver refused, or has been silent for too long.
        """
        with self._condition:
            if not self._is_released and not self._is_fresh():
                self._ask()
            last, age = self._last, time.monotonic() - self._taken_at
        if isinstance(last, SourceError):
            raise SourceError(str(last)) from last
        if age > self._keep_for:
            raise SourceError(f"the NVIDIA driver has not answered for {age:.0f} s")
        return last

    def _is_fresh(self) -> bool:
        return self._finished > 0 and time.monotonic() - self._taken_at < 2 * self._every

    def _ask(self) -> None:
        before = self._finished
        self._wanted = True
        self._condition.notify_all()
        self._condition.wait_for(
            lambda: self._finished > before or self._is_released, self._patience
        )

    def _has_work(self) -> bool:
        return self._stopping or (self._wanted and not self._is_released)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(self._has_work, self._every or None)
                if self._stopping:
                    return
                if self._is_released:
                    continue
                self._wanted = False
                self._is_asking = True
            try:
                last: GpuSample | SourceError = self._sample()
            except SourceError as error:
                last = error
            except Exception as error:
                # A bug must not end the thread, and with it every sample to come.
                log.exception("the GPUs could not be sampled")
                last = SourceError(f"the GPUs could not be sampled: {error!r}")
            with self._condition:
                self._last = last
                self._taken_at = time.monotonic()
                self._is_asking = False
                self._finished += 1
                self._condition.notify_all()
