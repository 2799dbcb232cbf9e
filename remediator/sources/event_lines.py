"""The events in the bytes of DS01's log: a JSON object a line.

The log is written by many programs, and one of them may be anybody's: whatever a line holds, it
is an event or it is counted as senseless, and never more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

UNNAMED = "unknown"
_LONGEST_NAME = 100
# DS01 writes less than 4 KB; what is longer is no event, and is not kept either.
_LONGEST_LINE = 64 * 1024
_FOREIGN = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``kind`` is DS01's word for it, such as ``container.create``."""

    at: datetime
    kind: str


class _Line(msgspec.Struct):
    timestamp: str
    event_type: object = None


_decode = msgspec.json.Decoder(_Line).decode


class Lines:
    """Finds the events in a file's bytes, whatever parts these come in.

    A line without an end waits for it. ``senseless`` counts the lines that were no events.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self.senseless = 0

    def take(self, part: bytes) -> Iterator[Event]:
        """Yield the events in all lines that end in *part*."""
        *lines, rest = (self._rest + part).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        too_long = self._skipping or len(rest) > _LONGEST_LINE
        self.senseless += too_long and not self._skipping
        self._rest, self._skipping = b"" if too_long else rest, too_long
        for line in lines:
            # A file that was emptied while its writer went on begins with zeros.
            text = line.strip(b"\0\r\t ")
            event = _event(text) if text else None
            if event is not None:
                yield event
            elif text:
                self.senseless += 1


def _event(line: bytes) -> Event | None:
    for text in (line, line.decode(errors="replace").encode()):
        try:
            entry = _decode(text)
            return Event(_moment(entry.timestamp), _kind(entry.event_type))
        except _FOREIGN:
            continue
    return None


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _kind(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        return UNNAMED
    cut = value.strip()[:_LONGEST_NAME]
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut
    )
