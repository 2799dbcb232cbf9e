"""Which containers claim a GPU, whether they use it at the moment or not."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import resolve, unresolved
from remediator.core.gpus import Gpu
from remediator.core.notices import clean
from remediator.core.ownership import UserLookup, owner_of
from remediator.errors import SourceError, TargetGoneError
from remediator.remediations.reset_senses import Engine, Kernel

# Such an id cannot mean another GPU than it says, however those are numbered.
_EXACT = ("GPU-", "MIG-")


@dataclass(frozen=True, slots=True)
class Claimant:
    """A container that was given a GPU, or may have been; ``how`` says by which words."""

    container_id: str
    name: str
    owner: str
    state: str
    how: str

    def __str__(self) -> str:
        return f"{clean(self.name)} of {clean(self.owner)} ({self.state}, {self.how})"


class GpuClaimants:
    """Asks Docker who was given which GPU.

    *kept* are the names of containers that are stopped for a reset and started again: they do not
    count.
    """

    def __init__(
        self,
        engine: Engine,
        kernel: Kernel,
        users: UserLookup,
        kept: Collection[str] = (),
    ) -> None:
        self._kept = frozenset(kept)
        self._engine = engine
        self._kernel = kernel
        self._users = users

    def names(self) -> dict[str, str]:
        """Return the names of all containers by full id; SourceError if Docker is silent."""
        return {container.id: container.name for container in self._engine.list()}

    def is_kept(self, container_id: str | None) -> bool:
        """Tell whether a container is one of those that are stopped for a reset."""
        return bool(self._kept) and self.names().get(container_id or "") in self._kept

    def of(self, uuids: Collection[str], gpus: Sequence[Gpu]) -> tuple[Claimant, ...]:
        """Return the containers with processes that claim one of the physical GPUs *uuids*.

        *gpus* are all of the host. SourceError if Docker is silent about any container.
        """
        found = []
        for container in self._engine.list():
            if not container.is_running or container.name in self._kept:
                continue
            try:
                facts = self._engine.inspect(container.id)
            except TargetGoneError:
                continue
            how = _claim(facts, uuids, gpus)
            if how is not None and facts.is_running:
                owner = self._owner(facts)
                found.append(Claimant(facts.id, facts.name, owner, facts.state, how))
        return tuple(found)

    def _owner(self, facts: ContainerFacts) -> str:
        try:
            uid = self._kernel.owner_uid(facts.pid) if facts.pid else None
        except SourceError:
            uid = None
        return owner_of(facts, users=self._users, pid_owner=uid).user


def _claim(facts: ContainerFacts, uuids: Collection[str], gpus: Sequence[Gpu]) -> str | None:
    """Return how a container claims one of the GPUs, None if it does not.

    Of a mere number of GPUs nobody knows which Docker chose, and a number that is no GPU's now may
    have been this one's when the container was started: both may be it.
    """
    claims = facts.claims
    if claims.all:
        return "claims all GPUs"
    slots = [slot for gpu in gpus for slot in gpu.slots]
    named = [slot for slot in resolve(claims, slots) if slot.parent_uuid in uuids]
    if named:
        return f"claims GPU {', '.join(slot.slot for slot in named)}"
    if not claims.is_known:
        return f"claims {claims.count} of the GPUs, nobody knows which"
    doubtful = [i for i in unresolved(claims, slots) if not i.startswith(_EXACT)]
    if doubtful:
        return f"claims GPU {', '.join(doubtful)}, which may have been this one"
    return None
