"""Compiling the C parts, once per content."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from tests.peers.missing import require_tool

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[2] / ".cache" / "gpu"

_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
_LIBRARY_FLAGS = (
    *("-shared", "-fPIC", "-fvisibility=hidden", "-pthread"),
    # pynvml asks for this name, and finds the library by it once it is loaded.
    "-Wl,-soname,libnvidia-ml.so.1",
)
_LIBRARY_SOURCES = (
    *("library.c", "device.c", "nvlink.c", "mig.c", "usage.c"),
    *("gpm.c", "processes.c", "state.c"),
)


def library(without: tuple[str, ...] = ()) -> Path:
    """Return the path of the stand-in libnvidia-ml.so.1, one that lacks the functions *without*."""
    renamed = tuple(f"-D{name}=lacks_{name}" for name in without)
    return _built("libnvidia-ml.so.1", _LIBRARY_SOURCES, (*_LIBRARY_FLAGS, *renamed))


def task() -> Path:
    """Return the path of the static program gpu-task."""
    return _built("gpu-task", ("gpu-task.c",), ("-static",))


def _built(name: str, sources: tuple[str, ...], flags: tuple[str, ...]) -> Path:
    inputs = [*(HERE / source for source in sources), *sorted(HERE.glob("*.h"))]
    content = b"".join(path.read_bytes() for path in inputs) + repr((_FLAGS, flags)).encode()
    target = CACHE / hashlib.sha256(content).hexdigest()[:16] / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Into a folder of our own first: another test run may be building the same.
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            fresh = Path(folder, name)
            _compile([*flags, "-o", str(fresh), *(str(HERE / source) for source in sources)])
            os.replace(fresh, target)
    return target


def _compile(arguments: list[str]) -> None:
    command = [require_tool("gcc"), *_FLAGS, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr}")
