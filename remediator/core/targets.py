"""Exact identities of what can be acted on.

An alert *names* a subject; what is acted on is a target with everything that tells it from a
later namesake: a container that was restarted, a process id that was used again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about, as its labels name it: enough to find the incident it belongs to."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Container:
    """One run of one container: the full id, and the moment this run started (UTC)."""

    id: str
    started_at: datetime

    @property
    def key(self) -> str:
        """The identity as one text, for the journal."""
        return f"container:{self.id}@{self.started_at.isoformat()}"


@dataclass(frozen=True, slots=True)
class UnstartedContainer:
    """A container that was never started: the full id, and the moment it was made (UTC).

    From its first start on it is a `Container`, which is another target.
    """

    id: str
    created_at: datetime

    @property
    def key(self) -> str:
        """The identity as one text, for the journal."""
        return f"container:{self.id}@created/{self.created_at.isoformat()}"


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its pid, when it started (clock ticks after boot), and which boot that was."""

    pid: int
    start_ticks: int
    boot_id: str

    @property
    def key(self) -> str:
        """The identity as one text, for the journal."""
        return f"process:{self.pid}@{self.start_ticks}/{self.boot_id}"


@dataclass(frozen=True, slots=True)
class PhysicalGpu:
    """One physical GPU, whatever index it has at the moment."""

    uuid: str

    @property
    def key(self) -> str:
        """The identity as one text, for the journal."""
        return f"gpu:{self.uuid}"


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a host: a systemd unit by its full name, or a container that Docker owns."""

    name: str
    host: str

    @property
    def key(self) -> str:
        """The identity as one text, for the journal."""
        return f"service:{self.name}@{self.host}"


@dataclass(frozen=True, slots=True)
class Named:
    """Something nothing will be done to: it only has to be told apart from others."""

    subject: Subject

    @property
    def key(self) -> str:
        """The identity as one text, for the journal."""
        return str(self.subject)


Target = Container | UnstartedContainer | Process | PhysicalGpu | Service | Named

# The first label that is there says what an alert is about, the most exact one first.
_SUBJECT_LABELS = (
    ("container", "container_id"),
    ("gpu", "UUID"),
    ("gpu", "uuid"),
    ("service", "name"),
    ("host", "instance"),
)


def subject_of(labels: Mapping[str, str]) -> Subject:
    """Return what an alert with *labels* is about; the alert's own name if nothing else."""
    pid, ticks = labels.get("pid"), labels.get("start_ticks")
    if pid and ticks:
        # One process may be on several GPUs, and it can only be ended once.
        return Subject("process", f"{pid}@{ticks}")
    for kind, label in _SUBJECT_LABELS:
        if labels.get(label):
            return Subject(kind, labels[label])
    return Subject("alert", labels.get("alertname", ""))
