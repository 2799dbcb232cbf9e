import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from remediator.core.alerts import Firing, Status
from remediator.errors import DeliveryError
from remediator.payload import check_delivery, parse_delivery

DATA = Path(__file__).parents[1] / "data"


def a_body(**changes: Any) -> bytes:
    alert = {
        "status": "firing",
        "labels": {"alertname": "A"},
        "startsAt": "2026-03-01T12:00:00Z",
        "fingerprint": "60c6e0280cbb09d5",
    }
    body: dict[str, Any] = {"version": "4", "groupKey": "{}", "alerts": [alert]}
    for name, value in changes.items():
        place = alert if name in alert or name == "annotations" else body
        if value is None:
            del place[name]
        else:
            place[name] = value
    return json.dumps(body).encode()


def test_a_recorded_delivery_of_a_firing_alert_is_read() -> None:
    delivery = parse_delivery((DATA / "webhook_firing.raw.json").read_bytes())

    (alert,) = delivery.alerts
    assert delivery.receiver == "hook"
    assert delivery.group_key.startswith("{}:{UUID=")
    assert delivery.truncated == 0
    assert alert.name == "GPUHot"
    assert alert.status is Status.FIRING
    assert alert.firing == Firing("60c6e0280cbb09d5", "2026-11-21T23:08:27.841Z")
    assert alert.starts_at == datetime(2026, 11, 21, 23, 8, 27, 841000, UTC)
    assert alert.annotations["summary"] == "GPU 0 at 95C"


def test_its_resolution_is_of_the_same_firing() -> None:
    (firing,) = parse_delivery((DATA / "webhook_firing.raw.json").read_bytes()).alerts
    (resolved,) = parse_delivery((DATA / "webhook_resolved.raw.json").read_bytes()).alerts

    assert resolved.status is Status.RESOLVED
    assert resolved.firing == firing.firing


def test_only_what_is_acted_on_has_to_be_there() -> None:
    delivery = parse_delivery(a_body())

    assert (delivery.receiver, delivery.truncated) == ("", 0)
    assert delivery.alerts[0].annotations == {}


def test_a_group_may_be_empty() -> None:
    assert parse_delivery(a_body(alerts=[])).alerts == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00:00.123456Z", datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)),
        ("2026-03-01T12:00:00.123456789Z", datetime(2026, 3, 1, 12, 0, 0, 123456, UTC)),
    ],
)
def test_a_time_is_turned_into_utc_and_its_text_kept(text: str, expected: datetime) -> None:
    (alert,) = parse_delivery(a_body(startsAt=text)).alerts

    assert alert.starts_at == expected
    assert alert.starts_at.tzinfo is UTC
    assert alert.firing.starts_at == text


@pytest.mark.parametrize(
    ("sent", "counted"), [(3, 3), (-1, 0), (2**63, 1_000_000), (10**30, 1_000_000)]
)
def test_the_number_of_truncated_alerts_is_one_that_can_be_added_up(
    sent: int, counted: int
) -> None:
    assert parse_delivery(a_body(truncatedAlerts=sent)).truncated == counted


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not an Alertmanager delivery: Input data was truncated"),
        (b"x", "not an Alertmanager delivery: JSON is malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"version": "4\xff"}', "not an Alertmanager delivery: "),
        (a_body(version="3"), 'version "3" is not known, only "4" is'),
        (a_body(version="4" * 5000), f'version "{"4" * 20}" is not known'),
        (a_body(version=4), r"Expected `str`, got `int` - at `\$.version`"),
        (a_body(version=None), "missing required field `version`"),
        (a_body(groupKey=None), "missing required field `groupKey`"),
        (a_body(alerts=None), "missing required field `alerts`"),
        (a_body(alerts={}), r"Expected `array`, got `object` - at `\$.alerts`"),
        (a_body(alerts=[1]), r"at `\$.alerts\[0\]`"),
        (a_body(status=None), r"missing required field `status` - at `\$.alerts\[0\]`"),
        (a_body(status="pending"), r"Invalid enum value 'pending' - at `\$.alerts\[0\].status`"),
        (a_body(labels=None), "missing required field `labels`"),
        (a_body(labels={"a": 1}), r"Expected `str`, got `int` - at `\$.alerts\[0\].labels"),
        (a_body(annotations={"a": None}), "Expected `str`, got `null`"),
        (a_body(fingerprint=None), "missing required field `fingerprint`"),
        (a_body(fingerprint=""), r"alerts\[0\].fingerprint: not a fingerprint"),
        (a_body(fingerprint="f" * 129), r"alerts\[0\].fingerprint: not a fingerprint"),
        (a_body(startsAt=""), r"alerts\[0\].startsAt: not a time with a zone"),
        (a_body(startsAt="noon"), r"alerts\[0\].startsAt: not a time with a zone"),
        (a_body(startsAt="2026-03-01T12:00:00"), "startsAt: not a time with a zone"),
        (a_body(startsAt="2026-03-01"), "startsAt: not a time with a zone"),
        (a_body(startsAt=f"2026-03-01T12:00:00.{'0' * 128}Z"), "startsAt: not a time with"),
        (a_body(startsAt="0001-01-01T00:00:00+01:00"), "startsAt: out of range"),
        (a_body(startsAt="9999-12-31T23:59:59-01:00"), "startsAt: out of range"),
        (a_body(truncatedAlerts="1"), r"Expected `int`, got `str` - at `\$.truncatedAlerts`"),
        (b'{"x": ' + b"[" * 100_000, "not an Alertmanager delivery: "),
    ],
)
@pytest.mark.parametrize("read", [parse_delivery, check_delivery])
def test_what_is_no_delivery_is_refused_and_says_where(
    read: Callable[[bytes], object], body: bytes, message: str
) -> None:
    # What the receiver acknowledges after a check the worker has to be able to read.
    with pytest.raises(DeliveryError, match=message):
        read(body)
