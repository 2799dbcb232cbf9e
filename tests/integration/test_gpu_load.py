"""`remediator load` asks the driver before anything touches a GPU.

The library here is one that cannot be loaded, which shows whether it was tried: nothing is
pretended to have run on a GPU.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.peers.gpu.host import GpuHost

pytestmark = [pytest.mark.integration, pytest.mark.gpu]

TRIED = "ImportError: no CUDA here"


@pytest.fixture(scope="module")
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


def load(gpus: GpuHost, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "torch.py").write_text("raise ImportError('no CUDA here')\n")
    environment = {**os.environ, **gpus.environment, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "remediator", "load", "--seconds", "1", *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_gpu_that_somebody_uses_is_refused_before_anything_is_loaded(
    gpus: GpuHost, tmp_path: Path
) -> None:
    task = gpus.start_task(1)
    eventually(lambda: task.pid in [h.pid for h in gpus.holders(1)], 10, "the task holds its GPU")

    done = load(gpus, tmp_path, "--gpu", "1")

    assert done.returncode == 1
    assert f"is left alone: somebody uses it: process {task.pid}" in done.stderr
    assert TRIED not in done.stderr


def test_a_free_gpu_is_tried_and_a_library_that_will_not_do_says_why(
    gpus: GpuHost, tmp_path: Path
) -> None:
    done = load(gpus, tmp_path, "--gpu", "0")

    assert done.returncode == 1
    assert f"no library can use GPU {gpus.uuid(0)}: torch: {TRIED}" in done.stderr


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(
    gpus: GpuHost, tmp_path: Path
) -> None:
    done = load(gpus, tmp_path, "--gpu", "5")

    assert done.returncode == 1
    assert "there is no GPU 5; there is: 0, 1" in done.stderr
