"""DS01's log of events, read on from where the last look ended.

logrotate moves the log away, or copies it and empties it; an admin may edit it. What was read of a
file that is history now stays told. A file that was edited is told anew.
"""

import gzip
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from remediator.errors import SourceError
from remediator.sources.event_lines import Event, Lines

log = logging.getLogger(__name__)

_PART_BYTES = 256 * 1024
# How much is remembered of a file to tell later whether it is still the same.
_MARK_BYTES = 256
# What logrotate puts behind the name: .1, .2.gz, -20261124, -20261124.gz
_ROTATED = re.compile(r"[.-]\d{1,14}(?:\.gz)?", re.ASCII)


class Listener(Protocol):
    """Who is told of the events."""

    def take(self, event: Event) -> None:
        """Hear of an event in the present file."""

    def settle(self) -> None:
        """Hear that the present file is history: another follows."""

    def forget(self) -> None:
        """Hear that all events of the present file will be told once more."""


class EventsLog:
    """Follows the log at *path*, which need not exist; used by one thread at a time.

    The first look also takes in what logrotate moved away at most *history* ago.
    """

    def __init__(self, path: Path, history: timedelta = timedelta(days=1)) -> None:
        self._path = path
        self._history = history
        self._present: _Follower | None = None
        self._begun = False

    def follow(self, listener: Listener) -> None:
        """Tell *listener* what is new; SourceError if the log is there and cannot be read."""
        try:
            self._read_present(listener)
            successor = self._successor()
            if not self._begun:
                self._tell_history(successor, listener)
                self._begun = True
            if successor is not None:
                self._turn_to(successor, listener)
        except OSError as error:
            raise SourceError(f"cannot read {self._path}: {error.strerror or error}") from error

    def _read_present(self, listener: Listener) -> None:
        if self._present is None:
            return
        try:
            self._present.read_on(listener)
        except OSError:
            # A file server that forgot the file will not know it again: open it anew next time.
            self._present.close()
            self._present = None
            listener.forget()
            raise

    def _successor(self) -> "_Follower | None":
        """Return the file that is at the path now, if it is not the present one."""
        try:
            found = os.stat(self._path)
            if self._present is not None and self._present.is_at(found):
                return None
            return _Follower(self._path)
        except FileNotFoundError:
            return None

    def _turn_to(self, successor: "_Follower", listener: Listener) -> None:
        present = self._present
        self._present = successor
        if present is not None:
            # Its writers may have gone on until just before it was moved away.
            present.read_on(listener)
            if present.was_put_back_as(successor):
                listener.forget()
            else:
                listener.settle()
            present.close()
        successor.read_on(listener)

    def _tell_history(self, present: "_Follower | None", listener: Listener) -> None:
        for path in self._rotated(present):
            lines = Lines()
            try:
                for part in _parts(path):
                    for event in lines.take(part):
                        listener.take(event)
            except (OSError, EOFError) as error:
                log.warning("events before the last rotation are missing: %s: %s", path, error)
        listener.settle()

    def _rotated(self, present: "_Follower | None") -> list[Path]:
        """Return the log's earlier files that may hold events of the time we look back."""
        oldest = time.time() - self._history.total_seconds()
        found = []
        for path in self._siblings():
            status = path.stat()
            if (
                stat.S_ISREG(status.st_mode)
                and status.st_mtime >= oldest
                and not (present is not None and present.is_at(status))
            ):
                found.append(path)
        return found

    def _siblings(self) -> list[Path]:
        name = self._path.name
        try:
            beside = list(self._path.parent.iterdir())
        except OSError:
            # The log itself may be read all the same.
            return []
        return [
            path
            for path in beside
            if path.name.startswith(name) and _ROTATED.fullmatch(path.name[len(name) :])
        ]


class _Follower:
    """One file that is read to its end again and again; SourceError if it is no plain file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A named pipe would wait for its other end.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            self.close()
            raise SourceError(f"cannot read {path}: it is not a plain file")
        self._told = False
        self._begin()

    def _begin(self) -> None:
        self._lines = Lines()
        self._offset = 0
        self._head = self._tail = b""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def is_at(self, found: os.stat_result) -> bool:
        """Tell whether the file *found* is this one."""
        return os.path.samestat(found, os.fstat(self._file))

    def was_put_back_as(self, other: "_Follower") -> bool:
        """Tell whether *other* is this file edited, rather than the one that comes after it.

        A file that was moved away still has its name; an edited one was replaced.
        """
        return os.fstat(self._file).st_nlink == 0 and other.begins_with(self._head)

    def begins_with(self, head: bytes) -> bool:
        """Tell whether the file begins as one did whose first bytes were *head*."""
        # The first line, for an edit may change any other. Half a line says little: they all
        # begin alike.
        first = head[: head.find(b"\n") + 1] or (head if len(head) == _MARK_BYTES else b"")
        return first != b"" and os.pread(self._file, len(first), 0) == first

    def read_on(self, listener: Listener) -> None:
        """Tell what was added since; all of it again if the file was written anew."""
        size = os.fstat(self._file).st_size
        if size == 0 and self._offset > 0:
            # Emptied. What comes in next shows whether it is the same again.
            return
        if size < self._offset or not self._is_as_left():
            self._start_again(listener)
        while part := os.pread(self._file, _PART_BYTES, self._offset):
            self._remember(part)
            for event in self._lines.take(part):
                listener.take(event)
        self._tell_senseless()

    def _is_as_left(self) -> bool:
        before = self._offset - len(self._tail)
        return os.pread(self._file, len(self._tail), before) == self._tail

    def _start_again(self, listener: Listener) -> None:
        if self.begins_with(self._head):
            listener.forget()
        else:
            listener.settle()
        self._begin()

    def _remember(self, part: bytes) -> None:
        self._offset += len(part)
        self._tail = (self._tail + part)[-_MARK_BYTES:]
        if len(self._head) < _MARK_BYTES:
            self._head = (self._head + part)[:_MARK_BYTES]

    def _tell_senseless(self) -> None:
        if self._lines.senseless and not self._told:
            self._told = True
            log.warning("%s has lines that are no events; they are left out", self._path)


def _parts(path: Path) -> Iterator[bytes]:
    with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        while part := file.read(_PART_BYTES):
            yield part
