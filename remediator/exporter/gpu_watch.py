"""What the GPUs are doing, asked in a thread that may hang so that a scrape does not.

NVML has no timeouts, and a wedged driver can hold a caller for ever. A scrape asks for a fresh
sample and waits a little; if none comes, it gets the last one, unless that is too old to be true.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from remediator.core.gpus import Gpu, GpuSlot, Reading, SlotReading
from remediator.errors import SourceError


class GpuSource(Protocol):
    """What is asked of the driver."""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU with its slots."""

    def reading(self, slot: GpuSlot) -> Reading:
        """Return what a slot is doing."""

    def temperature(self, gpu_uuid: str) -> float | None:
        """Return degrees Celsius."""

    def power(self, gpu_uuid: str) -> float | None:
        """Return watts."""


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
    """A process on a slot, exactly: a pid alone may be somebody else a moment later."""

    slot: GpuSlot
    pid: int
    start_ticks: int
    container_id: str | None
    user: str
    comm: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """All GPUs at one moment."""

    gpus: tuple[Gpu, ...]
    readings: tuple[SlotReading, ...] = ()
    processes: tuple[SlotProcess, ...] = ()
    temperatures: dict[str, float] = field(default_factory=dict)
    powers: dict[str, float] = field(default_factory=dict)

    @property
    def slots(self) -> tuple[GpuSlot, ...]:
        """Every slot that can be given to a container; those of lost GPUs as last seen."""
        return tuple(slot for gpu in self.gpus for slot in gpu.slots)


def take_sample(
    source: GpuSource, processes: ProcessSource, name_of_uid: Callable[[int], str | None]
) -> GpuSample:
    """Ask the driver everything once; a lost GPU only lacks its readings."""
    gpus = source.gpus()
    living = [gpu for gpu in gpus if gpu.lost is None]
    answers = [source.reading(slot) for gpu in living for slot in gpu.slots]
    readings = tuple(answer for answer in answers if isinstance(answer, SlotReading))
    return GpuSample(
        gpus=gpus,
        readings=readings,
        processes=tuple(
            found
            for reading in readings
            for process in reading.processes
            if (
                found := _identify(
                    processes, reading.slot, process.pid, process.memory_bytes, name_of_uid
                )
            )
        ),
        temperatures=_of_each(living, source.temperature),
        powers=_of_each(living, source.power),
    )


def _identify(
    source: ProcessSource,
    slot: GpuSlot,
    pid: int,
    memory_bytes: int | None,
    name_of_uid: Callable[[int], str | None],
) -> SlotProcess | None:
    """Return who a process is; None if it ended meanwhile."""
    started = source.start_ticks(pid)
    uid = source.owner_uid(pid)
    if started is None or uid is None:
        return None
    return SlotProcess(
        slot=slot,
        pid=pid,
        start_ticks=started,
        container_id=source.container_id_in_cgroup(pid),
        user=name_of_uid(uid) or str(uid),
        comm=source.comm(pid) or "",
        memory_bytes=memory_bytes,
    )


def _of_each(gpus: list[Gpu], ask: Callable[[str], float | None]) -> dict[str, float]:
    found = {}
    for gpu in gpus:
        try:
            value = ask(gpu.uuid)
        except SourceError:
            # It was lost since it was listed; its other values are missing too.
            continue
        if value is not None:
            found[gpu.uuid] = value
    return found


class GpuWatch:
    """Takes samples on request, in one thread of its own."""

    def __init__(
        self,
        sample: Callable[[], GpuSample],
        *,
        patience: timedelta = timedelta(seconds=1),
        keep_for: timedelta = timedelta(seconds=30),
    ) -> None:
        self._sample = sample
        self._patience = patience.total_seconds()
        self._keep_for = keep_for.total_seconds()
        self._condition = threading.Condition()
        self._wanted = False
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

    def latest(self) -> GpuSample:
        """Return a sample taken just now, or the last one if the driver is slow to answer.

        SourceError if the driver refused, or has been silent for too long.
        """
        with self._condition:
            before = self._finished
            self._wanted = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._finished > before, self._patience)
            last, age = self._last, time.monotonic() - self._taken_at
        if isinstance(last, SourceError):
            raise SourceError(str(last)) from last
        if age > self._keep_for:
            raise SourceError(f"the NVIDIA driver has not answered for {age:.0f} s")
        return last

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._wanted or self._stopping)
                if self._stopping:
                    return
                self._wanted = False
            try:
                last: GpuSample | SourceError = self._sample()
            except SourceError as error:
                last = error
            with self._condition:
                self._last = last
                self._taken_at = time.monotonic()
                self._finished += 1
                self._condition.notify_all()
