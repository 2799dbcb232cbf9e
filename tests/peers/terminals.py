"""Terminals of people who are logged in, as far as `wall` and `who` can tell.

Each is a pseudo-terminal with a process on it and a record in ``/run/utmp``. That file is the
machine's, so nothing is done where real people are logged in; otherwise what was there is put
back at the end.
"""

import contextlib
import fcntl
import os
import pwd
import struct
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Self, TextIO

from tests.eventually import eventually
from tests.peers.missing import TerminalsUnavailableError, require_root, require_tool

UTMP = Path("/run/utmp")

# Held by the test run or demo whose terminals utmp lists.
_LOCK = Path("/run/lock/remediator-terminals")

# struct utmp of glibc where a long in it is kept at 32 bits (x86, and all that followed it):
# type, pid, line, id, user, host, exit status, session, seconds, microseconds, address, unused.
_RECORD = struct.Struct("<hxxi32s4s32s256shhiii4I20s")
_USER_PROCESS = 7
_TTY_GROUP = 5
_NOBODY = 65534


class Terminal:
    """One logged-in terminal; the text sent to it waits in it until `read`."""

    def __init__(self, user: str, uid: int) -> None:
        self.user = user
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        self.path = Path(os.ttyname(slave))
        self.line = str(self.path.relative_to("/dev"))
        self._received = b""
        # As login does: mesg y is the group's right to write.
        os.chown(self.path, uid, _TTY_GROUP)
        self.path.chmod(0o620)
        self._shell = subprocess.Popen(
            [require_tool("setpriv"), "--pdeathsig", "KILL", "--", "sleep", "infinity"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    @property
    def pid(self) -> int:
        """The process that is on it."""
        return self._shell.pid

    def read(self) -> str:
        """All the text received since the login, with plain line ends."""
        with contextlib.suppress(BlockingIOError, OSError):
            while chunk := os.read(self._master, 65536):
                self._received += chunk
        return self._received.decode(errors="replace").replace("\r\n", "\n")

    def refuse_messages(self) -> None:
        """Say ``mesg n``."""
        self.path.chmod(0o600)

    def fill(self) -> None:
        """Hold the output back, as a terminal does whose window hangs: writers to it block."""
        writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            with contextlib.suppress(BlockingIOError):
                while os.write(writer, b"." * 4096):
                    pass
        finally:
            os.close(writer)

    def hang_up(self) -> None:
        """End the process and close the terminal; harmless when that was done."""
        if self._master >= 0:
            self._shell.kill()
            self._shell.wait()
            os.close(self._master)
            self._master = -1


class Terminals:
    """Who is logged in.

    There is one utmp, so one of these at a time: a second, in another test run, waits its turn
    for up to *wait*.
    """

    def __init__(self, wait: timedelta = timedelta(minutes=1)) -> None:
        self._wait = wait
        self._terminals: list[Terminal] = []
        self._lock: TextIO | None = None
        self._before: bytes | None = None

    def start(self) -> Self:
        """Take over utmp; `TerminalsUnavailableError` says why that must not be."""
        require_root("registering terminals in utmp")
        require_tool("wall")
        if os.uname().machine != "x86_64":
            raise TerminalsUnavailableError(f"no utmp layout known for {os.uname().machine}")
        self._take_turn()
        before = UTMP.read_bytes() if UTMP.exists() else None
        people = sorted({user for user, pid in _logins(before or b"") if _is_alive(pid)})
        if people:
            self._end_turn()
            raise TerminalsUnavailableError(
                f"{', '.join(people)} would get the tests' messages:"
                f" run them where nobody is logged in ({UTMP} lists who is)"
            )
        self._before = before
        self._write()
        return self

    def stop(self) -> None:
        """Hang up all, and put back what utmp held before; harmless when that was done."""
        if self._lock is None:
            return
        for terminal in self._terminals:
            terminal.hang_up()
        self._terminals.clear()
        if self._before is None:
            UTMP.unlink(missing_ok=True)
        else:
            UTMP.write_bytes(self._before)
        self._end_turn()

    def login(self, user: str, uid: int | None = None) -> Terminal:
        """One more terminal of *user*, who need not have an account."""
        terminal = Terminal(user, _uid_of(user) if uid is None else uid)
        self._terminals.append(terminal)
        self._write()
        return terminal

    def logout(self, terminal: Terminal) -> None:
        """Close one terminal and take it out of utmp."""
        self._terminals.remove(terminal)
        terminal.hang_up()
        self._write()

    def vanish(self, terminal: Terminal) -> None:
        """Close one terminal and leave it in utmp, as a crash does."""
        terminal.hang_up()

    def logout_all(self) -> None:
        """Close all terminals, and go on without."""
        for terminal in tuple(self._terminals):
            self.logout(terminal)

    def _write(self) -> None:
        # Without the logins of before: they are dead, and `wall` would write to their line's heir.
        others = b"".join(_records_of_nobody(self._before or b""))
        UTMP.write_bytes(others + b"".join(record(terminal) for terminal in self._terminals))
        UTMP.chmod(0o664)

    def _take_turn(self) -> None:
        _LOCK.parent.mkdir(exist_ok=True)
        self._lock = _LOCK.open("w")
        try:
            eventually(self._has_lock, self._wait.total_seconds(), "utmp is free")
        except AssertionError as error:
            self._end_turn()
            raise TerminalsUnavailableError(
                f"another test run or demo has registered its terminals in {UTMP}: end it first"
            ) from error

    def _has_lock(self) -> bool:
        assert self._lock is not None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _end_turn(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def record(terminal: Terminal) -> bytes:
    """What utmp says of *terminal*."""
    line, name = terminal.line.encode(), terminal.user.encode()
    identity, now = line[-4:], int(time.time())
    return _RECORD.pack(
        _USER_PROCESS, terminal.pid, line, identity, name, b"", 0, 0, 0, now, 0, 0, 0, 0, 0, b""
    )


def _records(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content) - _RECORD.size + 1, _RECORD.size):
        yield content[start : start + _RECORD.size]


def _logins(content: bytes) -> Iterator[tuple[str, int]]:
    """User and process of each login in *content*."""
    for kind, pid, _line, _identity, user, *_ in map(_RECORD.unpack, _records(content)):
        if kind == _USER_PROCESS:
            yield user.rstrip(b"\0").decode(errors="replace"), pid


def _records_of_nobody(content: bytes) -> Iterator[bytes]:
    return (each for each in _records(content) if not any(_logins(each)))


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return _NOBODY
