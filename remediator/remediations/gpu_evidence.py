"""Put together what a person needs who has to look into a reset that failed."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from remediator.actuators.nvidia_smi import SmiAnswer
from remediator.core.gpus import Gpu
from remediator.core.holders import describe
from remediator.core.resets import in_words
from remediator.errors import SourceError
from remediator.remediations.gpu_claimants import GpuClaimants
from remediator.remediations.reset_senses import ResetSenses
from remediator.sources.prometheus import selector

_QUERY_WITHIN = timedelta(seconds=20)
_XIDS_WITHIN = timedelta(hours=1)
_MOST_LINES = 400
_LONGEST_LINE = 400
_KERNEL_LINES = 60


class Querying(Protocol):
    """nvidia-smi, as far as it is only asked."""

    def query(self, uuids: Sequence[str], within: timedelta) -> SmiAnswer:
        """Return all it tells about GPUs."""
        ...


class UnitStates(Protocol):
    """The states of systemd units."""

    def states(self, units: Sequence[str]) -> Mapping[str, object]:
        """Return the state of each unit; SourceError if systemd is silent."""
        ...


class KernelLog(Protocol):
    """The kernel's log."""

    def driver_lines(self, most: int) -> Sequence[str]:
        """Return its last lines about the driver."""
        ...


class Folder(Protocol):
    """Where evidence is kept."""

    def write(self, name: str, text: str) -> object | None:
        """Write a new file; return its path, None if that failed."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed reset: why, of which GPUs, and how the units were before.

    ``group`` is empty where the driver did not even list the GPU ``uuid``.
    """

    why: str
    uuid: str
    group: tuple[Gpu, ...]
    gpus: tuple[Gpu, ...]
    units_before: Mapping[str, str]


class GpuEvidence:
    """Asks everybody once more and keeps the answers; who is silent is part of the evidence."""

    def __init__(
        self,
        senses: ResetSenses,
        smi: Querying,
        units: UnitStates,
        kernel_log: KernelLog,
        folder: Folder,
    ) -> None:
        self._senses = senses
        self._smi = smi
        self._units = units
        self._kernel_log = kernel_log
        self._folder = folder
        self._claimants = GpuClaimants(senses.engine, senses.kernel, senses.users)

    def units(self, names: Sequence[str]) -> dict[str, str]:
        """Return the states of units in words; nothing where systemd is silent."""
        try:
            return {name: str(state) for name, state in self._units.states(names).items()}
        except SourceError:
            return {}

    def keep(self, failure: Failure) -> str:
        """Write it all to a file; return the sentence that names it."""
        uuids = [gpu.uuid for gpu in failure.group] or [failure.uuid]
        sections: list[tuple[str, Callable[[], Sequence[str]]]] = [
            ("Why", lambda: [failure.why]),
            ("Who holds it", lambda: self._holders(failure.group)),
            ("Who was given it", lambda: self._claims(failure)),
            ("What the driver thinks of it", lambda: self._health(uuids)),
            ("XIDs that Prometheus knows", lambda: self._xids(uuids)),
            ("Units, before and after", lambda: self._compare(failure.units_before)),
            ("The kernel's last lines", lambda: self._kernel_log.driver_lines(_KERNEL_LINES)),
            ("nvidia-smi -q", lambda: self._query(uuids)),
        ]
        text = "\n".join(_section(title, ask) for title, ask in sections)
        path = self._folder.write(f"reset-gpu-{failure.uuid}", text)
        return "evidence could not be kept" if path is None else f"evidence is in {path}"

    def _holders(self, group: Sequence[Gpu]) -> list[str]:
        names = self._claimants.names()
        minors = [(gpu, gpu.slots[0].minor if gpu.slots else None) for gpu in group]
        return [
            f"GPU {gpu.index}: {describe(holder, names)}"
            for gpu, minor in minors
            if minor is not None
            for holder in self._senses.holders.at_device(minor)
        ]

    def _claims(self, failure: Failure) -> list[str]:
        uuids = {failure.uuid, *(gpu.uuid for gpu in failure.group)}
        return [str(claimant) for claimant in self._claimants.of(uuids, failure.gpus)]

    def _health(self, uuids: Sequence[str]) -> list[str]:
        told = []
        for uuid in uuids:
            health = self._senses.driver.health(uuid)
            told.append(f"{uuid}: it advises {in_words(health)}; {health}")
        return told

    def _xids(self, uuids: Sequence[str]) -> list[str]:
        return [
            f"{uuid}: XID {labels.get('xid')}, advice {labels.get('advice')}"
            for uuid in uuids
            for labels, _ in self._senses.prometheus.samples(
                f"ds01:gpu_xid_advice{selector({'UUID': uuid})}", _XIDS_WITHIN
            )
        ]

    def _compare(self, before: Mapping[str, str]) -> list[str]:
        after = self.units(tuple(before))
        return [f"{name}: {was}; now {after.get(name, 'unknown')}" for name, was in before.items()]

    def _query(self, uuids: Sequence[str]) -> list[str]:
        answer = self._smi.query(uuids, _QUERY_WITHIN)
        return [f"exit status {answer.status}", *answer.text.splitlines()]


def _section(title: str, ask: Callable[[], Sequence[str]]) -> str:
    try:
        lines = list(ask()) or ["nothing"]
    except SourceError as error:
        lines = [f"cannot be told: {error}"]
    cut = [*lines[:_MOST_LINES], *(["..."] if len(lines) > _MOST_LINES else [])]
    told = "\n".join(f"  {_printable(line)}" for line in cut)
    return f"{title}\n{told}\n"


def _printable(line: str) -> str:
    """Return a line as it was, for its columns, but for what a terminal would obey."""
    kept = (" " if c == "\t" else c for c in line[: _LONGEST_LINE * 2])
    return "".join(c for c in kept if unicodedata.category(c)[0] != "C")[:_LONGEST_LINE]
