"""Who is logged in over the network, from utmp or from logind's own files.

utmp has a record for each terminal, which is what ``who`` shows. Systems without it (Debian from
13 on) have logind, which also counts logins without a terminal, such as a copy of files.
"""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from remediator.errors import SourceError

# struct utmp of glibc: type, pid, line, id, user and host stand at the same places everywhere.
# Times are of 64 bits only where no 32-bit programs had to be cared for.
_RECORD_BYTES = 400 if os.uname().machine == "aarch64" else 384
_BOOT_TIME, _USER_PROCESS = 2, 7
# A display of this machine (:0), a window of screen (:pts/1:S.0) or tmux, the greeter.
_LOCAL_HOST = re.compile(r"(?::(?!:)|tmux\(|login screen).*", re.DOTALL)
_LONGEST_FILE = 1 << 20
_LONGEST_NAME = 100


class LoginSessions:
    """The sessions in the file *utmp* or, on a system that keeps none, in the *folder* of logind.

    *proc_root* tells which of the processes that utmp names still live.
    """

    def __init__(self, utmp: Path, folder: Path, proc_root: Path = Path("/proc")) -> None:
        self._utmp = utmp
        self._folder = folder
        self._proc = proc_root

    def users(self) -> tuple[str, ...] | None:
        """Return the user of each session that came over the network; None if nothing tells.

        SourceError if what tells cannot be read.
        """
        records = self._records()
        if records:
            return tuple(self._of_utmp(records))
        return self._of_logind()

    def _records(self) -> list[bytes]:
        """Return utmp's records; none unless somebody keeps it: then it has the time of boot."""
        content = _content(self._utmp) or b""
        whole = len(content) - len(content) % _RECORD_BYTES
        records = [content[at : at + _RECORD_BYTES] for at in range(0, whole, _RECORD_BYTES)]
        kinds = {_kind(record) for record in records}
        return records if kinds & {_BOOT_TIME, _USER_PROCESS} else []

    def _of_utmp(self, records: list[bytes]) -> Iterator[str]:
        by_line = {record[8:40]: record for record in records if _kind(record) == _USER_PROCESS}
        for record in by_line.values():
            user, host = _text(record[44:76]), _text(record[76:332])
            if user and host and not _LOCAL_HOST.fullmatch(host) and self._is_alive(record):
                yield user

    def _is_alive(self, record: bytes) -> bool:
        """Tell whether the session's process lives: a killed one leaves its record behind."""
        pid = int.from_bytes(record[4:8], "little", signed=True)
        return pid <= 0 or os.path.exists(f"{self._proc}/{pid}")

    def _of_logind(self) -> tuple[str, ...] | None:
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"cannot read {self._folder}: {error.strerror}") from error
        sessions = (_content(self._folder / name) for name in names if not name.endswith(".ref"))
        found = (_remote_user(session) for session in sessions if session is not None)
        return tuple(user for user in found if user)


def _remote_user(session: bytes) -> str:
    """Return the user of a logind session that came over the network and goes on, or nothing."""
    lines = session.decode(errors="replace").splitlines()
    values = {name: value for name, _, value in (line.partition("=") for line in lines)}
    if values.get("REMOTE") != "1" or values.get("STATE") == "closing":
        return ""
    # A system service that logs in (cron, a greeter) has a class of its own.
    if not values.get("CLASS", "user").startswith("user"):
        return ""
    return (values.get("USER") or values.get("UID", ""))[:_LONGEST_NAME]


def _content(path: Path) -> bytes | None:
    """Return what a small file holds; None if there is none. Never waits at a named pipe."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        return os.read(file, _LONGEST_FILE)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    finally:
        os.close(file)


def _kind(record: bytes) -> int:
    return int.from_bytes(record[:2], "little")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")
