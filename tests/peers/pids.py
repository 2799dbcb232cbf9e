"""Give a process the pid that another one has just had, as a busy machine does by and by."""

import fcntl
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.eventually import eventually
from tests.peers.missing import require_root

_LAST = Path("/proc/sys/kernel/ns_last_pid")
# One lock for all test runs of this machine: the number is the machine's.
_LOCK = Path("/tmp/remediator-tests-last-pid.lock")
_SLEEP = ("sleep", "1000")


def spawn_as(
    pid: int, command: Sequence[str] = _SLEEP, *, after: int = 0, within: float = 20
) -> subprocess.Popen[bytes]:
    """Start *command* in a session of its own, as process *pid*, which must be free.

    It starts later than *after*, in clock ticks after boot: those of the one before it. It is
    tried for *within* seconds: others start processes as well.
    """
    require_root("choosing the next pid")
    eventually(lambda: _ticks_now() > after, 5, "the clock ticks")

    def try_it() -> subprocess.Popen[bytes] | None:
        _LAST.write_text(str(pid - 1))
        child = subprocess.Popen(command, start_new_session=True)
        if child.pid == pid:
            return child
        # Somebody else was faster, and whoever has the number now may end soon.
        child.kill()
        child.wait()
        return None

    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = eventually(try_it, within, f"a process with pid {pid}")
    assert found is not None
    return found


def aim_at(pid: int) -> None:
    """Let one of the next processes of the machine have the number *pid*, if it is free."""
    require_root("choosing the next pid")
    _LAST.write_text(str(max(pid - 1, 300)))


def _ticks_now() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
