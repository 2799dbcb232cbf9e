"""When Prometheus evaluates a group: each is shifted by a hash of its file and name.

Source: rules/manager.go of Prometheus 2.42, `Group.EvalTimestamp`, and xxHash's specification of
XXH64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md), with seed 0.
"""

import struct

_MASK = (1 << 64) - 1
_P1 = 0x9E3779B185EBCA87
_P2 = 0xC2B2AE3D27D4EB4F
_P3 = 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63
_P5 = 0x27D4EB2F165667C5
_STRIPE = 32
_NANOSECONDS = 1_000_000


def phase_of(file: str, group: str, interval: int) -> int:
    """Return where in the *interval* (milliseconds) the group of a rule file is evaluated."""
    text = b"".join(
        part.encode() + b"\xff" for pair in (("file", file), ("name", group)) for part in pair
    )
    return xxhash64(text) % (interval * _NANOSECONDS) // _NANOSECONDS


def xxhash64(data: bytes) -> int:
    """Return XXH64 of *data* with seed 0."""
    tail = len(data) % _STRIPE
    body, rest = data[: len(data) - tail], data[len(data) - tail :]
    found = _stripes(body) if body else _P5
    found = (found + len(data)) & _MASK
    while len(rest) >= 8:  # noqa: PLR2004 - the specification's lanes of 8, 4 and 1 byte
        found ^= _round(0, struct.unpack_from("<Q", rest)[0])
        found = (_rotate(found, 27) * _P1 + _P4) & _MASK
        rest = rest[8:]
    if len(rest) >= 4:  # noqa: PLR2004
        found ^= struct.unpack_from("<I", rest)[0] * _P1 & _MASK
        found = (_rotate(found, 23) * _P2 + _P3) & _MASK
        rest = rest[4:]
    for byte in rest:
        found ^= byte * _P5 & _MASK
        found = _rotate(found, 11) * _P1 & _MASK
    found = (found ^ found >> 33) * _P2 & _MASK
    found = (found ^ found >> 29) * _P3 & _MASK
    return found ^ found >> 32


def _stripes(body: bytes) -> int:
    lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
    for at in range(0, len(body), _STRIPE):
        words = struct.unpack_from("<4Q", body, at)
        lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
    rotated = zip(lanes, (1, 7, 12, 18), strict=True)
    found = sum(_rotate(lane, by) for lane, by in rotated) & _MASK
    for lane in lanes:
        found = ((found ^ _round(0, lane)) * _P1 + _P4) & _MASK
    return found


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def _rotate(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _MASK
