"""Which process on a GPU is an orphan: one of no living container and of no permitted host user.

Orphans may be killed, so whatever is not known speaks for the process. The exporter, which names
them, and the worker, which ends them, both ask here; each brings what it has seen itself.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

# What is said of a process that is in no container of Docker's, and not among the host's own.
ANOTHER_KIND = "it is in a container of another kind, or that cannot be told"
# Accounts below are the host's services, by /etc/login.defs of every distribution; root is not
# among them here, because leftovers of containers are often root's.
_FIRST_PERSON = 1000
# What the kernel shows of a name is cut off after 15 characters: nvidia-persistenced, and the MPS
# control program and server, are known by their beginnings.
_LONGEST_COMM = 15
_SERVICES = (
    *("nvidia-persiste", "nvidia-cuda-mps", "nvidia-powerd", "nv-fabricmanage", "nvidia-smi"),
    *("nv-hostengine", "dcgm-exporter", "dcgmi", "nvsm"),
    *("Xorg", "Xwayland", "gnome-shell", "mutter", "kwin_", "sddm", "lightdm", "weston"),
)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A process on a GPU; ``uid`` None where it is not known.

    ``user`` is the name of the account, or its number where there is none. ``container_id`` is
    that in its cgroup, whether Docker knows it or not; ``was_dockers`` whether this Docker has had
    such a container: the exporter has seen it there since the process was first seen, the worker
    is told by Docker that it removed it. ``is_hosts`` says that it has the host's processes and
    users around it; None where that cannot be told.
    """

    uid: int | None
    user: str
    comm: str
    container_id: str | None
    was_dockers: bool = False
    is_hosts: bool | None = True


def why_no_orphan(
    suspect: Suspect,
    running: Mapping[str, bool],
    permitted: Collection[str],
    programs: Collection[str] = (),
) -> str | None:
    """Return what speaks for the process, or None for an orphan.

    *running* are Docker's containers by full id; *permitted* are the users, by name or number, who
    may use GPUs outside containers, and *programs* what anybody may run there, by name. A
    container's leftover is nobody's, whoever ran it.
    """
    if suspect.container_id is not None:
        return _why_no_leftover(suspect, running)
    if suspect.is_hosts is not True:
        return ANOTHER_KIND
    return _why_permitted_user(suspect, permitted) or _why_permitted_program(suspect, programs)


def _why_permitted_user(suspect: Suspect, permitted: Collection[str]) -> str | None:
    if suspect.uid is None:
        return "nobody knows whose it is"
    if suspect.user in permitted or str(suspect.uid) in permitted:
        return f"{suspect.user} may use GPUs on the host"
    if 0 < suspect.uid < _FIRST_PERSON:
        return f"{suspect.user} is a service of the host"
    if suspect.user in {"", str(suspect.uid)} and _may_be_absent(permitted):
        return "a permitted user's name may not be known just now"
    return None


def _why_permitted_program(suspect: Suspect, programs: Collection[str]) -> str | None:
    if suspect.comm.startswith(_SERVICES):
        return f"{suspect.comm} is a service of the host"
    if suspect.comm in {name[:_LONGEST_COMM] for name in programs}:
        return f"{suspect.comm} may use GPUs on the host"
    return None


def _may_be_absent(permitted: Collection[str]) -> bool:
    """Tell whether a permitted name may be of a directory of users, which may not answer."""
    return any(not name.isdecimal() for name in permitted if name != "root")


def _why_no_leftover(suspect: Suspect, running: Mapping[str, bool]) -> str | None:
    is_running = running.get(suspect.container_id or "")
    if is_running:
        return "its container is running"
    if is_running is None and not suspect.was_dockers:
        # Of another engine, or so new that Docker's list does not have it yet.
        return "its container is not known"
    return None
