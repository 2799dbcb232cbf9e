"""Alertmanager's JSON (webhook version 4) as a `Delivery`.

Lenient where newer Alertmanagers may add (unknown fields pass), strict where we would act on
it. Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
deliveries recorded from Alertmanager 0.25.
"""

from datetime import UTC, datetime

import msgspec

from remediator.core.alerts import Alert, Delivery, Firing, Status
from remediator.errors import DeliveryError

_LONGEST_IDENTITY = 128
# More than any group has; a larger number would not fit where the journal adds them up.
_MOST_TRUNCATED = 1_000_000


# Neither can be part of a cycle, and there may be thousands: the collector need not look.
class _Alert(msgspec.Struct, gc=False):
    status: Status
    labels: dict[str, str]
    startsAt: str  # noqa: N815 - Alertmanager's spelling
    fingerprint: str
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class _Body(msgspec.Struct, gc=False):
    version: str
    groupKey: str  # noqa: N815
    alerts: list[_Alert]
    receiver: str = ""
    truncatedAlerts: int = 0  # noqa: N815


_decoder = msgspec.json.Decoder(_Body)


def check_delivery(body: bytes) -> None:
    """Raise DeliveryError if `parse_delivery` would; without its alerts that costs half as much."""
    _read(body)


def parse_delivery(body: bytes) -> Delivery:
    """Return the delivery in *body*; DeliveryError says what is wrong with it, and where."""
    raw, times = _read(body)
    return Delivery(
        receiver=raw.receiver,
        group_key=raw.groupKey,
        alerts=tuple(_alert(alert, times[alert.startsAt]) for alert in raw.alerts),
        truncated=min(max(raw.truncatedAlerts, 0), _MOST_TRUNCATED),
    )


def _read(body: bytes) -> tuple[_Body, dict[str, datetime]]:
    """Return what is in *body*, all of it checked, and each ``startsAt`` as a time."""
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeliveryError(f"not an Alertmanager delivery: {error}") from error
    if raw.version != "4":
        raise DeliveryError(f'version "{raw.version[:20]}" is not known, only "4" is')
    times: dict[str, datetime] = {}
    for number, alert in enumerate(raw.alerts):
        if not 0 < len(alert.fingerprint) <= _LONGEST_IDENTITY:
            raise DeliveryError(f"alerts[{number}].fingerprint: not a fingerprint")
        # Alerts of one group often began at the same evaluation.
        if alert.startsAt not in times:
            times[alert.startsAt] = _time(alert.startsAt, number)
    return raw, times


def _time(text: str, number: int) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise DeliveryError(f"alerts[{number}].startsAt: not a time with a zone") from error
    if time.tzinfo is None or len(text) > _LONGEST_IDENTITY:
        raise DeliveryError(f"alerts[{number}].startsAt: not a time with a zone")
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise DeliveryError(f"alerts[{number}].startsAt: out of range") from error


def _alert(raw: _Alert, starts_at: datetime) -> Alert:
    return Alert(
        labels=raw.labels,
        annotations=raw.annotations,
        status=raw.status,
        firing=Firing(raw.fingerprint, raw.startsAt),
        starts_at=starts_at,
    )
