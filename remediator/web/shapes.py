"""What the page shows and the API answers: one set of values for both.

Texts in here are clean: on one line, without control or direction marks, and not too long, whoever
chose them. Times are UTC. The API's description is made from these classes, so it cannot differ.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

StateName = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault on one subject. ``standing`` is its outcome, or where the last decision left it."""

    id: int
    state: StateName
    fault: str
    title: str
    subject: str
    owner: str | None
    opened_at: datetime
    closed_at: datetime | None
    outcome: str | None
    standing: str


@dataclass(frozen=True, slots=True)
class Incidents:
    """A page of incidents, the newest first. ``next`` is the ``before`` of the page after this.

    A search for words may have few incidents or none on a page, and a ``next`` all the same.
    """

    incidents: tuple[Incident, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a word for what, a sentence, and the evidence line by line."""

    at: datetime
    what: str
    text: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Approval:
    """A question that waits for an operator: whether this may be done to that."""

    question: int
    incident: int
    title: str
    owner: str | None
    fault: str
    remediation: str
    policy_rule: str
    target: str
    asked_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Story:
    """One incident with all its events, the oldest first, and the question that waits, if any.

    ``kept`` says until when and by whom its container is kept from the idle stop, if it is.
    """

    incident: Incident
    events: tuple[Event, ...]
    approval: Approval | None
    kept: str | None


@dataclass(frozen=True, slots=True)
class Approvals:
    """The questions that wait, the most urgent first."""

    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing new is begun: since when, by whom and why."""

    since: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """Nothing destructive is done: since when and why."""

    since: datetime
    because: str


@dataclass(frozen=True, slots=True)
class State:
    """How Remediator stands. ``mode`` is the policy file's, None while it cannot be read."""

    host: str
    mode: str | None
    mode_problem: str | None
    pause: Pause | None
    breaker: OpenBreaker | None
    open_incidents: int
    waiting_approvals: int


@dataclass(frozen=True, slots=True)
class GpuContainer:
    """A container that may use a GPU, or does.

    ``idle_seconds`` is its proven idle time, None while nobody can tell; ``idle_limit_seconds`` is
    None where it is exempt.
    """

    id: str
    name: str
    owner: str
    running: bool
    idle_seconds: float | None
    idle_limit_seconds: float | None
    keep_alive_until: datetime | None
    exempt: str | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A whole GPU or a MIG device, with the containers that may use it. Percent are 0-100."""

    instance: str
    slot: str
    uuid: str
    utilization_percent: float | None
    temperature_celsius: float | None
    memory_used_mib: float | None
    memory_total_mib: float | None
    containers: tuple[GpuContainer, ...]


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs as Prometheus last told; ``problem`` says why that may be old or nothing."""

    gpus: tuple[Gpu, ...]
    asked_at: datetime | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class DayReturned:
    """The GPU-hours returned on one day (UTC)."""

    day: date
    gpu_hours: float


@dataclass(frozen=True, slots=True)
class OwnerReturned:
    """The GPU-hours that the containers of one user gave back."""

    owner: str
    gpu_hours: float


@dataclass(frozen=True, slots=True)
class Returned:
    """GPU-hours that were free because an idle container had been stopped."""

    total_gpu_hours: float
    days: tuple[DayReturned, ...]
    owners: tuple[OwnerReturned, ...]


@dataclass(frozen=True, slots=True)
class Action:
    """Something that Remediator or an operator did lately."""

    at: datetime
    what: str
    by: str
    incident: int | None
    title: str | None
    result: str
    message: str | None


@dataclass(frozen=True, slots=True)
class Actions:
    """What was done lately, the newest first."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was given; ``accepted`` and ``answer`` are None until the worker took it."""

    number: int
    given_at: datetime | None
    accepted: bool | None
    answer: str | None
    action: str | None
    by: str | None
    taken_at: datetime | None


@dataclass(frozen=True, slots=True)
class Order:
    """A command to give. ``incident`` is needed to approve and to reject.

    ``question`` is the number of the question that is answered: another one is then left alone.
    To extend needs a ``container`` (name, id, or an incident's number) and a ``duration`` such as
    ``4h``.
    """

    action: Literal["pause", "resume", "close-breaker", "approve", "reject", "extend"]
    reason: str = ""
    incident: int | None = None
    question: int | None = None
    container: str = ""
    duration: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything on the first page."""

    state: State
    approvals: tuple[Approval, ...]
    gpus: Gpus
    incidents: tuple[Incident, ...]
    actions: tuple[Action, ...]
    returned: Returned


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request was refused."""

    error: str
