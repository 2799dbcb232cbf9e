"""Look at the GPUs that a container has left: for processes of nobody, and for a wanted reset.

What is found is a hint. Whoever acts on it looks again with eyes of their own, and more closely.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from remediator.core.aftermath import Aftermath, Finding
from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import resolve
from remediator.core.gpus import GpuSlot, Reading, SlotReading
from remediator.core.lifecycle import is_infrastructure
from remediator.core.notices import clean
from remediator.core.orphans import Suspect, why_no_orphan
from remediator.errors import SourceError, TargetGoneError
from remediator.remediations.orphan_senses import Permitted
from remediator.remediations.senses import Senses

_ORPHAN = "DS01GPUOrphanProcess"
_NEEDS_RESET = "DS01GPUNeedsReset"
# The advice for which the shipped rule asks for a reset: reset, drain and reset, bus reset.
_RESETS = frozenset({1, 4, 6})


class FreedGpus:
    """Sees what is left on GPUs."""

    def __init__(self, senses: Senses, permitted: Permitted) -> None:
        self._senses = senses
        self._permitted = permitted

    def look(self, container_id: str, gpus: str) -> Aftermath:
        """Return what is wrong on *gpus*, names separated by commas, which the container has left.

        SourceError if the driver or Docker cannot be asked at all.
        """
        names = [name for name in gpus.split(", ") if name]
        if not names:
            return Aftermath("", (), ("nobody knows which GPUs it had",))
        readings = self._senses.driver.readings()
        own = [r for r in readings if r.slot.slot in names and isinstance(r, SlotReading)]
        answering = {reading.slot.slot for reading in own}
        unseen = [f"GPU {name} does not answer" for name in names if name not in answering]
        # Docker is asked after the driver: what has just been started is then in its list.
        running = {found.id: found.is_running for found in self._senses.engine.list()}
        found = [*self._orphans(own, container_id, running)]
        for uuid in dict.fromkeys(reading.slot.parent_uuid for reading in own):
            try:
                found += self._wanted_reset(uuid, readings, container_id, running)
            except SourceError as error:
                unseen.append(str(error))
        return Aftermath(gpus, tuple(found), tuple(unseen))

    def _orphans(
        self, own: Iterable[SlotReading], container_id: str, running: Mapping[str, bool]
    ) -> Iterator[Finding]:
        for reading in own:
            for pid in dict.fromkeys(process.pid for process in reading.processes):
                finding = self._orphan(pid, reading.slot, container_id, running)
                if finding is not None:
                    yield finding

    def _orphan(
        self, pid: int, slot: GpuSlot, container_id: str, running: Mapping[str, bool]
    ) -> Finding | None:
        kernel = self._senses.kernel
        uid, comm, ticks = kernel.owner_uid(pid), kernel.comm(pid), kernel.start_ticks(pid)
        if uid is None or comm is None or ticks is None:
            return None
        user = self._senses.users.name_of_uid(uid) or str(uid)
        is_hosts = kernel.is_in_hosts_namespaces(pid)
        # Of containers that are nested, what speaks for one of them speaks for the process.
        for around in kernel.container_ids_in_cgroup(pid) or (None,):
            was_dockers = around == container_id or around in running
            suspect = Suspect(uid, user, comm, around, was_dockers, is_hosts)
            if self._why_no_orphan(suspect, running) is not None:
                return None
        title = f"pid {pid} ({clean(comm)})"
        return Finding(
            _ORPHAN,
            {
                "severity": "warning",
                "UUID": slot.parent_uuid,
                "GPU_I_ID": slot.gpu_i_id,
                "pid": str(pid),
                "start_ticks": str(ticks),
                "user": user,
                "comm": comm,
            },
            title,
            f"{title} of {clean(user)} is on GPU {slot.slot} and belongs to no running container"
            " and no permitted user",
        )

    def _why_no_orphan(self, suspect: Suspect, running: Mapping[str, bool]) -> str | None:
        return why_no_orphan(suspect, running, self._permitted.users, self._permitted.programs)

    def _wanted_reset(
        self,
        uuid: str,
        readings: Sequence[Reading],
        container_id: str,
        running: Mapping[str, bool],
    ) -> Iterator[Finding]:
        action = self._senses.driver.health(uuid).recovery_action
        if action not in _RESETS:
            return
        slots = [reading.slot for reading in readings if reading.slot.parent_uuid == uuid]
        number = str(slots[0].gpu)
        says = f"the driver wants GPU {number} to be reset (recovery action {action})"
        others = self._others(slots, [r.slot for r in readings], container_id, running)
        if any(slot.mig_enabled for slot in slots):
            others = [*others, "it is cut up by MIG"]
        tell = f"it is not reset while this is so: {', '.join(others)}" if others else ""
        labels = {"severity": "critical", "UUID": uuid, "gpu": number}
        yield Finding(_NEEDS_RESET, labels, f"GPU {number}", says, tell)

    def _others(
        self,
        slots: Sequence[GpuSlot],
        all_slots: Sequence[GpuSlot],
        container_id: str,
        running: Mapping[str, bool],
    ) -> list[str]:
        """Return which other containers may use one of *slots*; monitoring may use all, always."""
        others = []
        for other in (i for i, runs in running.items() if runs and i != container_id):
            try:
                facts = self._senses.engine.inspect(other)
            except TargetGoneError:
                continue
            if not is_infrastructure(facts.labels) and _may_use(facts, slots, all_slots):
                others.append(f"{facts.name} may use it")
        return others


def _may_use(facts: ContainerFacts, slots: Sequence[GpuSlot], all_slots: Sequence[GpuSlot]) -> bool:
    """Tell whether a container may use one of *slots*: of a mere number nobody knows which."""
    return not facts.claims.is_known or bool(set(resolve(facts.claims, all_slots)) & set(slots))
