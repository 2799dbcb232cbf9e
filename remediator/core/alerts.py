"""What Alertmanager says: deliveries, the alerts in them, and what makes a firing one firing."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


class Status(enum.Enum):
    """An alert's own status; a group's status says nothing about its members."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Origin(enum.Enum):
    """Who says that an alert fires.

    What is delivered is always just that: no delivery can say that it is the epilog's.
    """

    DELIVERED = "delivered"
    EPILOG = "epilog"


@dataclass(frozen=True, slots=True)
class Firing:
    """One stretch from firing to resolved.

    ``starts_at`` is the text as it was sent: retries and the second Alertmanager of a pair
    repeat it exactly, so that duplicates fall together without any parsing.
    """

    fingerprint: str
    starts_at: str


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a delivery, or of our own; ``starts_at`` is an aware UTC datetime."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    status: Status
    firing: Firing
    starts_at: datetime
    origin: Origin = Origin.DELIVERED

    @property
    def name(self) -> str:
        """The ``alertname`` label, or an empty text."""
        return self.labels.get("alertname", "")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST from Alertmanager; ``truncated`` alerts of its group never come."""

    receiver: str
    group_key: str
    alerts: tuple[Alert, ...]
    truncated: int
