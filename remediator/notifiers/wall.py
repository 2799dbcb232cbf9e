"""Tell people on their terminals.

Everyone is told with ``wall``, on its standard input: an argument that is a file's name would be
read as the text (util-linux 2.38). One user is told by writing to the terminals that ``utmp``
lists for them, which is what ``wall`` does as well.
"""

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from remediator.core.notices import clean
from remediator.errors import NotifyError
from remediator.notifiers.interface import Envelope

EVERYONE = "*"
_UTMP = Path("/run/utmp")
# glibc's struct utmp on 64-bit Linux: type, pid, line, id, user, host, and what we don't need.
_RECORD = struct.Struct("<hxxi32s4s32s256shhiii4I20s")
_USER_PROCESS = 7
_LONGEST_LINES = 30
_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Session:
    """A user at a terminal: ``line`` is its name under /dev."""

    user: str
    line: str


class Wall:
    """The terminals of this machine."""

    name = "wall"

    def __init__(self, utmp: Path = _UTMP) -> None:
        self._utmp = utmp

    def send(self, envelope: Envelope) -> str:
        """Write the letter to the terminals; nobody being there is not a failure."""
        recipient = envelope.letter.recipient
        text = _text(envelope)
        sessions = list(read_sessions(self._utmp))
        if recipient == EVERYONE:
            _wall(text)
            return f"sent to {len(sessions)} terminals"
        lines = [session.line for session in sessions if session.user == recipient]
        reached = sum(_write(Path("/dev") / line, text) for line in lines)
        return f"{reached} of {len(lines)} terminals of {clean(recipient)} reached"


def read_sessions(utmp: Path) -> Iterator[Session]:
    """Return who is logged in where; nobody if the system keeps no such file."""
    try:
        content = utmp.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotifyError(f"{utmp} cannot be read: {error.strerror}") from error
    whole = len(content) - len(content) % _RECORD.size
    for fields in _RECORD.iter_unpack(content[:whole]):
        kind, _, line, _, user = fields[:5]
        if kind == _USER_PROCESS:
            session = Session(_name(user), _name(line))
            # A line is a name under /dev; a path that leads elsewhere is not.
            if session.line and ".." not in session.line and not session.line.startswith("/"):
                yield session


def _text(envelope: Envelope) -> str:
    letter = envelope.letter
    lines = [clean(line, 400) for line in letter.body.splitlines()]
    body = "\n".join(lines[:_LONGEST_LINES])
    return f"Remediator on {clean(envelope.host)}: {clean(letter.subject)}\n\n{body}\n"


def _write(terminal: Path, text: str) -> bool:
    """Write to one terminal without ever waiting for it."""
    try:
        # O_NOCTTY: writing to it must not make it ours.
        fd = os.open(terminal, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not os.isatty(fd):
            return False
        data = ("\r\n\a" + text.replace("\n", "\r\n") + "\r\n").encode()
        return os.write(fd, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(fd)


def _wall(text: str) -> None:
    try:
        subprocess.run(
            ["/usr/bin/wall"],
            input=text.encode(),
            capture_output=True,
            check=True,
            timeout=_SECONDS,
            # In the C locale every byte above 0x7f is written as an octal number.
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotifyError(f"wall: {error}") from error


def _name(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")
