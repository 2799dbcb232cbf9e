"""A terminal in memory, with a program on a real pseudo-terminal behind it.

What the program writes is read by pyte, an emulator, so that a test sees what a person would.
"""

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import pyte

from tests.eventually import eventually


class Screen:
    """One program on a terminal of *columns* by *lines* characters."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        columns: int = 100,
        lines: int = 24,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = os.openpty()
        self._set_size(columns, lines)
        os.set_blocking(self._master, False)
        self.received = b""
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TERM": "xterm-256color", **environment},
            # The terminal's own keys reach the program: Ctrl-C is its driver's to turn into SIGINT.
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """What is on it now, line by line, without blanks at the ends."""
        self._read()
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """What is on it now."""
        return "\n".join(self.lines)

    @property
    def colours(self) -> set[str]:
        """Every colour that something on it has."""
        self._read()
        return {
            cell.fg
            for line in self._screen.buffer.values()
            for cell in line.values()
            if cell.data.strip()
        }

    @property
    def shows_cursor(self) -> bool:
        """Whether the cursor can be seen."""
        self._read()
        return not self._screen.cursor.hidden

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def wait_for(self, text: str, within: float = 30) -> None:
        """Wait until *text* is on it."""
        eventually(lambda: text in self.text, within, f"{text!r} on the screen")

    def wait_end(self, within: float = 30) -> int:
        """Wait until the program has ended; return its exit code, negative after a signal."""

        def ended() -> list[int]:
            self._read()
            code = self._process.poll()
            return [] if code is None else [code]

        [code] = eventually(ended, within, "the program has ended")
        self._read()
        return code

    def _read(self) -> None:
        # EIO says that the program has closed its end.
        with contextlib.suppress(BlockingIOError, OSError):
            while chunk := os.read(self._master, 65536):
                self.received += chunk
                self._stream.feed(chunk)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
