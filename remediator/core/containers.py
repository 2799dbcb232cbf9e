"""A container as Docker describes it, as a value with exact times."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from remediator.core.gpu_claims import GpuClaims

_SHAPE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(Z|[+-]\d\d:\d\d)",
    re.ASCII | re.IGNORECASE,
)
# States in which a container has processes, and so may be using its GPUs.
_ALIVE = frozenset({"running", "paused", "restarting"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount of a container; ``kind`` is Docker's word: bind, volume or tmpfs."""

    source: str
    destination: str
    kind: str


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """A container as the list shows it: enough to know that it is there and in which state."""

    id: str
    name: str
    state: str

    @property
    def is_running(self) -> bool:
        """Whether it has processes: running, paused or restarting."""
        return self.state in _ALIVE


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """One container as Docker described it at one moment.

    ``id`` is the full id (64 hexadecimal digits), ``state`` Docker's word: created, running,
    paused, restarting, removing, exited or dead. ``pid`` is 0 when there is no main process.
    Times are UTC; ``started_at`` and ``finished_at`` are None when that never happened.
    """

    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    state: str
    pid: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    claims: GpuClaims
    mounts: tuple[Mount, ...] = ()
    network_mode: str = ""
    restart_count: int = 0

    @property
    def is_running(self) -> bool:
        """Whether it has processes: running, paused or restarting."""
        return self.state in _ALIVE


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to a container; ``action`` is Docker's word, such as start or die."""

    container_id: str
    action: str
    at: datetime


def parse_moment(text: str) -> datetime | None:
    """Return the UTC time *text* stands for; None for Docker's zero time and for nothing.

    Docker writes RFC 3339 with up to nine digits of fraction and sometimes an offset; a datetime
    holds six, the rest is cut off. ValueError if it is no time.
    """
    if not text:
        return None
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is not a time such as 2026-11-22T10:00:00.123456789Z')
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if year == 1:
        return None
    micros = int((found[7] or "0")[:6].ljust(6, "0"))
    local = datetime(
        year, month, day, hour, minute, min(second, 59), micros, tzinfo=_zone(found[8])
    )
    try:
        return local.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f'"{text}" is beyond what the calendar has') from error


def _zone(text: str) -> timezone:
    if text in {"Z", "z"}:
        return UTC
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[4:6]))
    return timezone(-offset if text[0] == "-" else offset)


@dataclass(frozen=True, slots=True)
class KeptContainer:
    """One container of the host that is stopped and started like a service, never removed."""

    id: str
    is_running: bool
