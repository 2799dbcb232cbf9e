"""How busy a MIG device was, from two samples of the GPU's own counters (GPM).

Hopper and later have GPM; it is NVML's only word on the use of a MIG device. A value is the mean
over the time since the question before, so the first question has no answer.
"""

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pynvml

from remediator.sources.nvml_answers import if_told

# NVIDIA asks for at least 100 ms between two samples.
_LEAST_SECONDS = 0.1
# What was long ago says nothing of now.
_MOST_SECONDS = 600
_MOST_PERCENT = 100


@dataclass(frozen=True, slots=True)
class _Last:
    sample: Any
    at: float
    ratio: float | None


class GpmSamples:
    """The last sample of each device. Not for several threads at once."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last: dict[str, _Last] = {}

    def ratio(self, uuid: str, take: Callable[[Any], object]) -> float | None:
        """Return the share of time (0-1) in which the device *uuid* worked; None if untold.

        *take* fills a sample of it. NVMLError if the GPU or the driver is gone.
        """
        last, now = self._last.get(uuid), self._now()
        if last is not None and now - last.at < _LEAST_SECONDS:
            return last.ratio
        self._last.pop(uuid, None)
        try:
            sample = if_told(lambda: _taken(take))
            if sample is None:
                return None
            self._last[uuid] = _Last(sample, now, None)
            if last is None or now - last.at > _MOST_SECONDS:
                return None
            ratio = if_told(lambda: _between(last.sample, sample))
            self._last[uuid] = _Last(sample, now, ratio)
            return ratio
        finally:
            _free(last)

    def keep_only(self, uuids: Collection[str]) -> None:
        """Forget the devices that are not there any more."""
        for uuid in self._last.keys() - set(uuids):
            _free(self._last.pop(uuid))


def _taken(take: Callable[[Any], object]) -> Any:
    sample = pynvml.nvmlGpmSampleAlloc()
    try:
        take(sample)
    except pynvml.NVMLError:
        pynvml.nvmlGpmSampleFree(sample)
        raise
    return sample


def _free(last: _Last | None) -> None:
    if last is not None:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlGpmSampleFree(last.sample)


def _between(older: Any, newer: Any) -> float | None:
    asked = pynvml.c_nvmlGpmMetricsGet_t()
    asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    asked.numMetrics = 1
    asked.sample1, asked.sample2 = older, newer
    asked.metrics[0].metricId = pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    pynvml.nvmlGpmMetricsGet(asked)
    answer = asked.metrics[0]
    # NaN, as after no time at all, is in no range either.
    is_told = answer.nvmlReturn == pynvml.NVML_SUCCESS and 0 <= answer.value <= _MOST_PERCENT
    return answer.value / 100 if is_told else None
