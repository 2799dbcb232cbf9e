"""A clock that can be set for some programs alone, while they run."""

import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.peers.missing import require_tool

_SOURCE = Path(__file__).with_name("clock.c")
_HOUR = 3600


class FakeClock:
    """The time of day of programs started with `environment`; its files are in *folder*."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._library = folder / "clock.so"
        self._offset = folder / "offset"
        self._offset.write_bytes(bytes(8))
        flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC"]
        command = [require_tool("gcc"), *flags, "-o", str(self._library), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """What to start a program with."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._offset)}

    def set(self, hours: float) -> None:
        """Set the clock off by *hours*, at once."""
        # In place: it is mapped into the memory of those who look at it.
        with self._offset.open("r+b") as file:
            file.write(struct.pack("=q", int(hours * _HOUR)))
