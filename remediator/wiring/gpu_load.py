"""Put a load on a GPU of this machine that nobody uses."""

import os
import time
from collections.abc import Callable
from datetime import timedelta

from remediator.core.gpus import Gpu
from remediator.errors import SetupError
from remediator.gpu_load import Loaded, Pace, backend_for, keep_busy, who_else, why_not
from remediator.sources.nvml import NvmlSource


def load_gpu(index: int, percent: int, duration: timedelta, say: Callable[[str], None]) -> Loaded:
    """Keep the GPU with this *index* busy; SetupError if it is somebody's, or is not there."""
    source = NvmlSource()
    gpu = _gpu(source, index)
    reason = why_not(gpu, source.readings(), os.getpid())
    if reason is not None:
        raise SetupError(f"GPU {index} ({gpu.uuid}) is left alone: {reason}")
    name, backend = backend_for(gpu.uuid)
    say(f"GPU {index} ({gpu.model}, {gpu.uuid}): {percent} % of the time at work, by {name}")

    def somebody() -> str | None:
        return who_else(gpu, source.readings(), os.getpid())

    return keep_busy(backend, percent, duration, Pace(time.monotonic, time.sleep), somebody)


def _gpu(source: NvmlSource, index: int) -> Gpu:
    gpus = source.gpus()
    found = [gpu for gpu in gpus if gpu.index == index]
    if not found:
        known = ", ".join(str(gpu.index) for gpu in gpus) or "none"
        raise SetupError(f"there is no GPU {index}; there is: {known}")
    return found[0]
