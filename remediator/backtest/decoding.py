"""Samples out of the answers of a Prometheus server."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from remediator.backtest.matrix import Floats, Ints, pairs_of
from remediator.backtest.store import Series


class _Row(msgspec.Struct):
    metric: dict[str, str]
    # [[seconds, "value"], ...], as it came: taken apart by numpy, in a fifth of the time.
    values: msgspec.Raw = msgspec.Raw(b"[]")


class _Data(msgspec.Struct):
    result: list[_Row] = []


class _Answer(msgspec.Struct):
    data: _Data = msgspec.field(default_factory=_Data)


_DECODER = msgspec.json.Decoder(_Answer)
_Samples = tuple[Ints, Floats, NDArray[np.bool_]]


class PageDecoder:
    """Takes the answers about one page apart, whose first moment is *begin* (milliseconds).

    The series of an exporter have the same timestamps, and many the same values too, such as 1:
    what reads the same is worked out once, and they share its arrays, which cannot be written.
    Series of different metrics share their timestamps as well. Several threads may use it.
    """

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._times: dict[bytes, Ints] = {}

    def series(self, answer: bytes) -> list[Series]:
        """Return the series of one answer that have samples; msgspec.DecodeError if it is none."""
        known: dict[bytes, _Samples] = {}
        made = []
        for row in _DECODER.decode(answer).data.result:
            text = bytes(row.values)
            samples = known.get(text)
            if samples is None:
                samples = known[text] = self._samples(text)
            if len(samples[0]):
                made.append(Series(pairs_of(row.metric), *samples))
        return made

    def _samples(self, text: bytes) -> _Samples:
        numbers = np.fromstring(text.translate(None, b'[]"').decode(), sep=",")
        milliseconds = np.rint(numbers[::2] * 1000).astype(np.int64)
        # A window of Prometheus 2 also holds its very beginning, which is of the page before.
        first = int(np.searchsorted(milliseconds, self._begin))
        times = milliseconds[first:]
        values = numbers[1::2][first:].copy()
        stale = np.zeros(len(values), np.bool_)
        for array in (times, values, stale):
            array.setflags(write=False)
        return self._times.setdefault(times.tobytes(), times), values, stale
