"""Run the three programs as children of one parent: for one small machine, and to try it out."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType

log = logging.getLogger(__name__)

PROGRAMS = ("serve", "work", "export")
_GRACE = timedelta(seconds=90)
_LONGEST_WAIT = 30.0
# A program that ran for this long had started well; its next start need not be put off.
_STARTED_WELL = 60.0
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    started_at: float
    wait: float = 0.5


def run_all(arguments: Mapping[str, Sequence[str]]) -> int:
    """Run the programs until SIGTERM or SIGINT; start again, ever more slowly, what ends.

    *arguments* are each program's own. A program that cannot start for a reason that a person
    has to mend (exit code 1) ends them all.
    """
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    children = [_start(name, arguments.get(name, ())) for name in PROGRAMS]
    signal.signal(signal.SIGHUP, _forward(children))
    code = 0
    while not stopping.wait(0.2) and code == 0:
        for child in children:
            code = code or _tend(child, arguments, stopping)
    _stop(children)
    return code


def _start(name: str, arguments: Sequence[str]) -> _Child:
    command = [sys.executable, "-m", "remediator", name, *arguments]
    process = subprocess.Popen(command, preexec_fn=_die_with_parent())  # noqa: PLW1509 - no threads yet
    return _Child(name, process, time.monotonic())


def _tend(child: _Child, arguments: Mapping[str, Sequence[str]], stopping: threading.Event) -> int:
    """Start *child* again if it has ended; return 1 if starting it again is of no use."""
    code = child.process.poll()
    if code is None:
        return 0
    lived = time.monotonic() - child.started_at
    if code == 1 and lived < _STARTED_WELL:
        log.error("%s could not start, see above; stopping the others", child.name)
        return 1
    child.wait = 0.5 if lived > _STARTED_WELL else min(child.wait * 2, _LONGEST_WAIT)
    log.error("%s ended with %s, starting it again in %.1f s", child.name, code, child.wait)
    if not stopping.wait(child.wait):
        anew = _start(child.name, arguments.get(child.name, ()))
        child.process, child.started_at = anew.process, anew.started_at
    return 0


def _stop(children: Sequence[_Child]) -> None:
    """Stop the receiver first, so that nothing comes in that nobody will take."""
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    deadline = time.monotonic() + _GRACE.total_seconds()
    for child in children:
        try:
            child.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("%s does not end, killing it", child.name)  # noqa: TRY400
            child.process.kill()
            child.process.wait()


def _forward(children: Sequence[_Child]) -> Callable[[int, FrameType | None], None]:
    def forward(number: int, _frame: FrameType | None) -> None:
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    return forward


def _die_with_parent() -> Callable[[], None]:
    """Return what makes a child end when this process is killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal
