"""One daemon of a test: a child process with a folder, a log and an end.

A daemon never outlives its parent, not even one that was killed with SIGKILL: the kernel sends it
a signal then (PR_SET_PDEATHSIG, set by ``setpriv`` in the child, because code between fork and
exec is not safe in a parent with threads). The kernel watches the *thread* that started the
daemon, so start daemons from a thread that lives as long as they should.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.eventually import eventually
from tests.peers.missing import require_tool


class DaemonError(Exception):
    """A daemon ended by itself; the message has its exit status and the end of its log."""


class Daemon:
    """One program, started and stopped any number of times in the same *folder*.

    *ready* says whether the started program can be used; without it, it is ready at once. The
    log collects the output of every start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        ready: Callable[[], object] = lambda: True,
        environment: Mapping[str, str] | None = None,
        ready_within: float = 15,
        grace: float = 10,
        signal_when_orphaned: str = "KILL",
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._ready = ready
        self._environment = None if environment is None else dict(environment)
        self._ready_within = ready_within
        self._grace = grace
        self._signal_when_orphaned = signal_when_orphaned
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id while it has not been reaped."""
        if self._process is None:
            raise DaemonError(f"{self.name} is not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there (a frozen one is)."""
        return self._process is not None and not _has_ended(self._process)

    def start(self) -> Self:
        """Start the program and return once it is ready."""
        self.launch()
        try:
            eventually(self._is_ready, self._ready_within, f"{self.name} is ready")
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Start the program without waiting for it."""
        if self.is_running:
            raise DaemonError(f"{self.name} is started already, as process {self.pid}")
        setpriv = [require_tool("setpriv"), "--pdeathsig", self._signal_when_orphaned, "--"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*setpriv, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,
            )

    def _is_ready(self) -> object:
        if not self.is_running:
            raise DaemonError(
                f"{self.name} ended before it was ready; its log ends:\n{self.log_tail()}"
            )
        return self._is_itself() and self._ready()

    def _is_itself(self) -> bool:
        # Before that, the end of the parent would go unnoticed. A zombie has an empty line.
        command = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        return b"--pdeathsig" not in command and command != b""

    def wait(self, within: float) -> int:
        """Return the exit status of a program that ends by itself within *within* seconds."""
        process = self._process
        if process is None:
            raise DaemonError(f"{self.name} is not started")
        eventually(lambda: _has_ended(process), within, f"{self.name} ends")
        return process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send one signal to the program itself."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Ask the program to end, make it after a grace period, and leave no child of it behind.

        Harmless when it is stopped already. A frozen program is thawed to hear the request.
        """
        process = self._process
        if process is None:
            return
        if not _has_ended(process):
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
            try:
                eventually(lambda: _has_ended(process), self._grace, f"{self.name} ends")
            except AssertionError:
                process.kill()
        # Until the leader is reaped its session is certainly ours, so no stranger can be hit.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None

    def kill(self) -> None:
        """End the program itself at once, as ``kill -9`` does, and reap it."""
        process = self._process
        if process is None:
            raise DaemonError(f"{self.name} is not started")
        process.kill()
        process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop the program from running (SIGSTOP): its sockets accept and never answer."""
        self.signal(signal.SIGSTOP)
        eventually(lambda: _state(self.pid) == "T", 5, f"{self.name} is frozen")

    def thaw(self) -> None:
        """Let a frozen program go on."""
        self.signal(signal.SIGCONT)

    def log_tail(self, lines: int = 40) -> str:
        """The last *lines* lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Look without reaping, which only stop, kill and wait do."""
    if process.returncode is not None:
        return True
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    return ended is not None


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
