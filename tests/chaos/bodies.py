"""Hostile and malformed bodies for the webhook, any number of them, the same for the same seed.

Each is made from a recorded delivery, or from nothing. Most are refused; some are deliveries all
the same, of which nothing may follow but a visible hold.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RECORDED = (Path(__file__).parents[1] / "data" / "webhook_firing.raw.json").read_bytes()

# Names that are interpreted by something that a label passes on its way: a shell, SQL, PromQL,
# HTML, a template, a terminal, a mail's header, a path, a chat.
TEXTS = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe",
    "\ufeff\u200b",
    "$(touch /tmp/owned)",
    "`reboot`; rm -rf / #",
    "'; DROP TABLE incident; --",
    '"} or vector(1) or ALERTS{a="',
    ".*",
    "<script>alert(1)</script>",
    "{{ config }}${7*7}%n%s",
    "alice\r\nBcc: everybody@example.org\r\n\r\nhello",
    "../../../../etc/passwd",
    "<!channel> @everyone",
    "\u4f60\u597d\U0001f4a5",
    "null",
    "-1",
    "A" * 5000,
)
TIMES = (
    "",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999999-23:59",
    "1969-12-31T23:59:59Z",
    "2026-W01-1T00:00:00Z",
    "2026-01-01T00:00:00",
    "2026-01-01",
    "2016-12-31T23:59:60Z",
    "20260101T000000Z",
    "2026-13-45T99:99:99Z",
    "now",
    "1e400",
    "2026-01-01T00:00:00.123456789123456789Z",
)
# As JSON has them, since Python's own numbers would not hold some.
NUMBERS = (
    *("0", "-0", "-1", "1e308", "1e400", "-1e400", "NaN", "Infinity", "9" * 400, "1.5"),
    *("0x10", "1e", "18446744073709551616", "-9223372036854775809", "true", "null", '"1"'),
)


def hostile_bodies(count: int, seed: int, container_ids: tuple[str, ...] = ()) -> Iterator[bytes]:
    """Yield *count* bodies; some of them name one of *container_ids*."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    makers: tuple[Callable[[random.Random, tuple[str, ...]], bytes], ...] = (
        *(_noise, _flipped, _cut, _nested, _number, _doubled_keys, _not_utf8, _time, _swapped),
        *(_noise, _flipped, _cut, _nested, _number, _not_utf8, _swapped, _texts, _aimed, _many),
    )
    for number in range(count):
        # Large ones are rare, or nothing else would be seen of them.
        maker = _large if number % 2000 == 1999 else chance.choice(makers)
        yield maker(chance, container_ids)


def _delivery(chance: random.Random, **changes: Any) -> dict[str, Any]:
    alert: dict[str, Any] = {
        "status": chance.choice(["firing", "firing", "resolved"]),
        "labels": {"alertname": "Hostile"},
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": f"hostile-{chance.randrange(20)}",
    }
    alert.update(changes)
    return {"version": "4", "groupKey": "{}", "receiver": "remediator", "alerts": [alert]}


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _noise(chance: random.Random, _: tuple[str, ...]) -> bytes:
    return chance.randbytes(chance.randrange(200))


def _flipped(chance: random.Random, _: tuple[str, ...]) -> bytes:
    body = bytearray(RECORDED)
    for _n in range(chance.randint(1, 4)):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return bytes(body)


def _cut(chance: random.Random, _: tuple[str, ...]) -> bytes:
    begin = chance.choice([0, 0, 0, chance.randrange(len(RECORDED))])
    return RECORDED[begin : begin + chance.randrange(len(RECORDED))]


def _nested(chance: random.Random, _: tuple[str, ...]) -> bytes:
    depth = chance.choice([10, 1000, 5000])
    inner = chance.choice([b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth])
    return b'{"version":"4","groupKey":"{}","alerts":[],"x":' + inner + b"}"


def _number(chance: random.Random, _: tuple[str, ...]) -> bytes:
    number = chance.choice(NUMBERS)
    place = chance.choice(["truncatedAlerts", "version", "groupKey", "x"])
    text = json.dumps({k: v for k, v in _delivery(chance).items() if k != place})
    return f'{text[:-1]}, "{place}": {number}}}'.encode()


def _doubled_keys(chance: random.Random, _: tuple[str, ...]) -> bytes:
    first, second = _dump(_delivery(chance)), _dump(_delivery(chance, status="resolved"))
    return first[:-1] + b", " + second[1:]


def _not_utf8(chance: random.Random, _: tuple[str, ...]) -> bytes:
    bad = chance.choice(
        [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\\ud800"]
    )
    text = _dump(_delivery(chance, labels={"alertname": "Hostile", "x": "HERE"}))
    return text.replace(b"HERE", bad)


def _time(chance: random.Random, _: tuple[str, ...]) -> bytes:
    return _dump(_delivery(chance, startsAt=chance.choice(TIMES)))


def _swapped(chance: random.Random, _: tuple[str, ...]) -> bytes:
    """Return a delivery with something of the wrong type somewhere."""
    wrong: Any = chance.choice([None, True, 0, -1.5, "", "x", [], [[]], {}, {"a": {"b": 1}}])
    body = _delivery(chance)
    where = chance.choice([body, body["alerts"][0], body["alerts"][0]["labels"]])
    where[chance.choice(list(where))] = wrong
    return _dump(chance.choice([body, [body], wrong]))


def _texts(chance: random.Random, _: tuple[str, ...]) -> bytes:
    names = ("container_id", "container", "user", "UUID", "gpu", "instance", "unit", "pid", "x")
    labels = {name: chance.choice(TEXTS) for name in chance.sample(names, 4)}
    labels["alertname"] = chance.choice(["Hostile", *TEXTS])
    annotations = {"summary": chance.choice(TEXTS), chance.choice(TEXTS): chance.choice(TEXTS)}
    return _dump(_delivery(chance, labels=labels, annotations=annotations))


def _aimed(chance: random.Random, containers: tuple[str, ...]) -> bytes:
    """Return an alert that would have something stopped if it were true."""
    container = chance.choice(containers or ("0" * 64,))
    labels = {
        "alertname": "DS01ContainerIdle",
        "container_id": chance.choice([container, container[:12], container.upper()]),
        "container": chance.choice(TEXTS),
        "user": chance.choice(TEXTS),
        "severity": "warning",
    }
    return _dump(_delivery(chance, labels=labels, startsAt=chance.choice(TIMES[1:5])))


def _many(chance: random.Random, _: tuple[str, ...]) -> bytes:
    body = _delivery(chance)
    body["alerts"] *= chance.randint(2, 20)
    return _dump(body)


def _large(chance: random.Random, _: tuple[str, ...]) -> bytes:
    size = chance.choice([1_000_000, 4_000_000])
    return chance.choice(
        [
            b"[" * size,
            _dump(_delivery(chance, annotations={"a": "x" * size})),
            _dump(_delivery(chance, labels={f"l{n}": "x" for n in range(size // 20)})),
            _dump(_delivery(chance, fingerprint="f" * size)),
        ]
    )
