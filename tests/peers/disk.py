"""A disk of a test's own, which can fail as disks do; it is gone with the process that holds it."""

import subprocess
import sys
from pathlib import Path

from tests.peers.missing import PeerMissingError, require_root, require_tool
from tests.peers.process import Daemon

_HOLD = """
import subprocess, sys, time
image, folder, ready = sys.argv[1:]
subprocess.run(["mount", "-o", "loop", image, folder], check=True)
open(ready, "w").close()
while True:
    time.sleep(3600)
"""


class Disk:
    """An ext4 file system on *folder*, seen only by what is started behind `wrapper`."""

    def __init__(self, folder: Path, files: Path) -> None:
        require_root("mounting a disk of one's own")
        self.folder = folder
        self._image = files / "image"
        ready = files / "ready"
        self._files = files
        command = [sys.executable, "-c", _HOLD, str(self._image), str(folder), str(ready)]
        unshare = [require_tool("unshare"), "-m", "--"]
        self._holder = Daemon("disk", [*unshare, *command], files, ready=ready.exists)

    def __enter__(self) -> "Disk":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files.mkdir()
        with self._image.open("wb") as image:
            image.truncate(32 * 1024 * 1024)
        subprocess.run([require_tool("mkfs.ext4"), "-q", str(self._image)], check=True)
        try:
            self._holder.start()
        except Exception as error:
            raise PeerMissingError(f"no disk can be mounted: {self._holder.log_tail()}") from error
        return self

    def __exit__(self, *error: object) -> None:
        self._holder.stop()

    @property
    def wrapper(self) -> list[str]:
        """What to put before the command of a program that is to see the disk."""
        return [require_tool("nsenter"), "-t", str(self._holder.pid), "-m", "--"]

    def seen(self, path: Path) -> Path:
        """The way to *path* on the disk from outside."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def fail(self) -> None:
        """Let the file system give up and become read-only, as ext4 does when its disk fails."""
        self._run("mount", "-o", "remount,abort", str(self.folder))

    def repair(self) -> None:
        """Mount it anew; nothing may have a file open on it."""
        self._run("umount", str(self.folder))
        self._run("mount", "-o", "loop", str(self._image), str(self.folder))

    def _run(self, *command: str) -> None:
        subprocess.run([*self.wrapper, *command], check=True, capture_output=True)
