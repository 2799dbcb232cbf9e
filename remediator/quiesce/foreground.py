"""Run a command in the terminal while services are stopped for it, and survive its signals.

Whoever presses Ctrl-C wants the command to end, not the services to stay down. So a signal ends the
stopping, then is the command's, and never ends the restoring.
"""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from types import FrameType

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BY_SIGNAL = 128


class Foreground:
    """What this process's signals do: while it stops services, while a command runs, and after."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._may_interrupt = True
        self._missed: list[int] = []

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Have signals come to us inside the block: the first one is a KeyboardInterrupt."""
        before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, command: Sequence[str], lock: int) -> int:
        """Run *command* with our terminal and no shell; return its exit status, 128 + n by signal.

        It is given the open file *lock*: if we are killed, the lock is held until it has ended.
        After it no signal interrupts us any more. OSError if it cannot be run.
        """
        self._may_interrupt = False
        child = subprocess.Popen(command, pass_fds=(lock,))
        self._child = child
        for number in self._missed:
            self._pass_on(number)
        try:
            status = child.wait()
        finally:
            self._child = None
        return status if status >= 0 else _BY_SIGNAL - status

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._child is not None:
            self._pass_on(number)
        elif self._may_interrupt:
            self._may_interrupt = False
            raise KeyboardInterrupt
        else:
            self._missed.append(number)
            log.warning("%s comes too early or too late", signal.Signals(number).name)

    def _pass_on(self, number: int) -> None:
        """Send the command a signal that it has not had: Ctrl-C in a terminal goes to both."""
        if number == signal.SIGINT and _terminal_is_ours():
            return
        # It may have ended at this very moment; Popen knows.
        if self._child is not None:
            self._child.send_signal(number)


def _terminal_is_ours() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
