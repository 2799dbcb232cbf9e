"""Run a piece of Python where this process's root rights do not help: on a mount of its own.

Tests run as root, for whom no folder is read-only by its permissions. A private mount namespace
gives real refusals: a read-only mount, or a disk with no room left. It ends with its process.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.peers.missing import require_root, require_tool


def run_on_read_only(folder: Path, code: str) -> str:
    """Return what *code* prints; *folder* is mounted read-only there, and is its argument."""
    return _run('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', folder, code)


def run_on_tiny_disk(folder: Path, code: str, size: str) -> str:
    """Return what *code* prints; *folder* is an empty disk of *size* there, and its argument."""
    return _run(f'mount -t tmpfs -o size={size} tmpfs "$1"', folder, code)


def _run(mount: str, folder: Path, code: str) -> str:
    unshare = require_tool("unshare")
    require_root("mounting a disk of one's own")
    script = f'{mount} && exec "$2" -c "$3" "$1"'
    program = "import sys\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n"
    done = subprocess.run(
        [
            unshare,
            "-m",
            "sh",
            "-c",
            script,
            "sh",
            str(folder),
            sys.executable,
            program + textwrap.dedent(code),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
