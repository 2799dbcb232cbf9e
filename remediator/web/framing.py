"""Take the bytes of a connection apart into whole requests, without ever waiting for more.

gunicorn's parser reads the head, all of which it is given at once. The body is measured here,
because gunicorn's own body readers can only wait for what is missing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
)
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

_END_OF_HEAD = b"\r\n\r\n"
_LARGEST_HEAD = 32 * 1024
_LONGEST_LINE = 8 * 1024
# RFC 9112, 7.1: a size in hex digits, then extensions, which mean nothing to us.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")
_STATUS = {LimitRequestLine: 414, LimitRequestHeaders: 431, ExpectationFailed: 417}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request that is to be answered; not whole if its body was refused unread."""

    request: Any
    body: bytes
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class GoAhead:
    """The client waits for "100 Continue" before it sends the body."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not HTTP: after the answer the connection is of no more use."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Announced:
    """A body that is still to come; ``length`` is in bytes, None if it comes in chunks."""

    path: str
    authorization: str | None
    length: int | None


def _any_body(_announced: Announced) -> bool:
    return True


class RequestReader:
    """The requests of one connection, in the order in which they came.

    *accepts_body* is asked when a body is still to come, so that nobody can make us hold what
    would be refused anyway.
    """

    def __init__(
        self,
        cfg: Any,
        peer: Any,
        largest_body: int,
        accepts_body: Callable[[Announced], bool] = _any_body,
    ) -> None:
        self._cfg = cfg
        self._peer = peer
        self._largest_body = largest_body
        self._accepts_body = accepts_body
        self._received = bytearray()
        self._searched = 0
        self._request: Any = None
        self._body: LengthBody | ChunkedBody = LengthBody(0)
        self.number = 1

    @property
    def held(self) -> int:
        """How many bytes are held for requests that are not answered yet."""
        return len(self._received) + len(self._body.data)

    @property
    def has_begun(self) -> bool:
        """Whether a part of a request is there."""
        return self.is_in_body or bool(self._received)

    @property
    def is_in_body(self) -> bool:
        """Whether the head is there, and the body is not yet."""
        return self._request is not None

    def feed(self, data: bytes) -> None:
        """Take what was received."""
        self._received += data

    def next(self) -> Incoming | GoAhead | Malformed | None:
        """Return what is to be done now, or None while there is nothing but to wait."""
        is_new = self._request is None
        try:
            if is_new and not self._read_head():
                return None
            self._body.take(self._received)
        except (ParseException, NoMoreData, StopIteration, ValueError) as error:
            # Only the kind: the message may quote a header that holds a secret.
            return Malformed(_STATUS.get(type(error), 400), type(error).__name__)
        if self._body.is_complete:
            return self._whole()
        return self._decide_on_the_rest() if is_new else self._check_size()

    def _read_head(self) -> bool:
        end = self._received.find(_END_OF_HEAD, max(0, self._searched - len(_END_OF_HEAD)))
        self._searched = len(self._received)
        if max(end, self._searched if end < 0 else 0) > _LARGEST_HEAD:
            raise LimitRequestHeaders("head")
        if end < 0:
            return False
        head = bytes(self._received[: end + len(_END_OF_HEAD)])
        del self._received[: len(head)]
        self._searched = 0
        self._request = Request(self._cfg, IterUnreader(iter([head])), self._peer, self.number)
        self._body = _body_of(self._request, self._largest_body)
        return True

    def _decide_on_the_rest(self) -> Incoming | GoAhead | None:
        headers = dict(self._request.headers)
        announced = Announced(
            self._request.path, headers.get("AUTHORIZATION"), self._body.announced_length
        )
        if self._body.is_too_large or not self._accepts_body(announced):
            return self._refused()
        # HTTP/1.0 clients do not know it (RFC 9110, 10.1.1).
        waits = headers.get("EXPECT", "").lower() == "100-continue"
        return GoAhead() if waits and self._request.version >= (1, 1) else None

    def _check_size(self) -> Incoming | None:
        return self._refused() if self._body.is_too_large else None

    def _whole(self) -> Incoming:
        return self._finish(Incoming(self._request, bytes(self._body.data)))

    def _refused(self) -> Incoming:
        return self._finish(Incoming(self._request, b"", is_whole=False))

    def _finish(self, incoming: Incoming) -> Incoming:
        self._request, self._body = None, LengthBody(0)
        self.number += 1
        return incoming


class LengthBody:
    """A body whose length was announced; nothing of one that is too large is kept."""

    def __init__(self, length: int, largest: int = 0) -> None:
        self.data = bytearray()
        self.is_too_large = length > largest
        self.announced_length: int | None = length
        self._length = length

    @property
    def is_complete(self) -> bool:
        """Whether all of it is there."""
        return not self.is_too_large and len(self.data) == self._length

    def take(self, received: bytearray) -> None:
        """Move what belongs to the body out of *received*."""
        if not self.is_too_large:
            _move(received, self.data, self._length - len(self.data))


class ChunkedBody:
    """A body in chunks (RFC 9112, 7.1); extensions and trailers are dropped."""

    def __init__(self, largest: int) -> None:
        self.data = bytearray()
        self.is_complete = False
        self.is_too_large = False
        self.announced_length: int | None = None
        self._largest = largest
        self._chunk_left = 0
        self._trailer_left = _LARGEST_HEAD
        self._on_line: Callable[[bytes], None] = self._on_size

    def take(self, received: bytearray) -> None:
        """Move what belongs to the body out of *received*; ValueError if it is malformed."""
        while received and not self.is_complete and not self.is_too_large:
            if self._chunk_left:
                self._chunk_left -= _move(received, self.data, self._chunk_left)
                continue
            end = received.find(b"\n") + 1
            if (end or len(received)) > _LONGEST_LINE:
                raise ValueError("line too long")
            if not end:
                return
            line = bytes(received[:end])
            del received[:end]
            self._on_line(line)

    def _on_size(self, line: bytes) -> None:
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise ValueError("not a chunk size")
        size = int(found[1], 16)
        self.is_too_large = len(self.data) + size > self._largest
        self._chunk_left = size
        self._on_line = self._on_end_of_chunk if size else self._on_trailer

    def _on_end_of_chunk(self, line: bytes) -> None:
        if line != b"\r\n":
            raise ValueError("chunk longer than its size")
        self._on_line = self._on_size

    def _on_trailer(self, line: bytes) -> None:
        self._trailer_left -= len(line)
        if self._trailer_left < 0:
            raise ValueError("trailer too long")
        self.is_complete = line == b"\r\n"


def _body_of(request: Any, largest: int) -> LengthBody | ChunkedBody:
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        return ChunkedBody(largest)
    return LengthBody(reader.length, largest)


def _move(source: bytearray, target: bytearray, most: int) -> int:
    size = min(len(source), most)
    target += source[:size]
    del source[:size]
    return size
