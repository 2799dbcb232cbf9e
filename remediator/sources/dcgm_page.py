"""What the page of DCGM's exporter says of the GPUs.

The exporter may hang, trickle, or answer with anything at all: one question takes a bounded time
and a bounded part of the page, and what cannot be understood is a SourceError.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

import requests
from prometheus_client.parser import text_string_to_metric_families

from remediator.core.dcgm import Figures, GpuFigures
from remediator.errors import SourceError

# A page of 512 GPUs with every family of the default list is about 10 MB.
_LARGEST = 32 * 1024 * 1024
_CHUNK = 64 * 1024
_ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
_POWER = "DCGM_FI_DEV_POWER_USAGE"
_TEMPERATURE = "DCGM_FI_DEV_GPU_TEMP"
_XID = "DCGM_FI_DEV_XID_ERRORS"
# Less than this each must be: DCGM writes 9.2e18 and 1.4e14 where it has no value.
_MOST = {_ENERGY: 1e17, _POWER: 1e5, _TEMPERATURE: 1e3, _XID: 1e6}


class DcgmPage:
    """The page at *url*; reading it takes *timeout* at most, and as long again to connect."""

    def __init__(self, url: str, timeout: timedelta, largest: int = _LARGEST) -> None:
        self._url = url
        self._timeout = timeout.total_seconds()
        self._largest = largest
        self._session = requests.Session()
        self._session.trust_env = False

    def read(self) -> Figures:
        """Return what it says of each GPU by UUID; a GPU without any value is not in it."""
        text = self._fetch()
        try:
            return _figures(text)
        except (ValueError, KeyError, IndexError) as error:
            raise SourceError(f"what {self._url} answers makes no sense: {error}") from error

    def _fetch(self) -> str:
        deadline = time.monotonic() + self._timeout
        try:
            with self._session.get(
                self._url, timeout=self._timeout, stream=True, allow_redirects=False
            ) as answer:
                if answer.status_code != requests.codes.ok:
                    raise SourceError(f"{self._url} answers with status {answer.status_code}")
                return b"".join(self._chunks(answer, deadline)).decode(errors="replace")
        except (requests.RequestException, OSError) as error:
            kind = type(error).__name__
            raise SourceError(f"no answer from {self._url}: {kind}") from error

    def _chunks(self, answer: requests.Response, deadline: float) -> Iterator[bytes]:
        left = self._largest
        for chunk in answer.iter_content(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise SourceError(f"{self._url} answers more than {self._largest} bytes")
            if time.monotonic() > deadline:
                raise SourceError(f"{self._url} takes longer than {self._timeout:g} s to answer")
            yield chunk


def _figures(text: str) -> Figures:
    """Read the few families that matter here; under MIG a GPU's values are there several times."""
    found: dict[str, dict[str, float]] = {}
    wanted = "\n".join(line for line in text.splitlines() if line.startswith(tuple(_MOST)))
    for name, uuid, value in _samples(wanted):
        if uuid and 0 <= value < _MOST.get(name, 0.0):
            found.setdefault(uuid, {}).setdefault(name, value)
    return {uuid: _of_gpu(values) for uuid, values in found.items()}


def _of_gpu(values: Mapping[str, float]) -> GpuFigures:
    xid = values.get(_XID)
    return GpuFigures(
        energy_millijoules=values.get(_ENERGY),
        power_watts=values.get(_POWER),
        temperature_celsius=values.get(_TEMPERATURE),
        xid=None if xid is None else int(xid),
    )


def _samples(text: str) -> Iterable[tuple[str, str, float]]:
    for family in text_string_to_metric_families(text + "\n"):
        for sample in family.samples:
            if math.isfinite(sample.value):
                # The old namespace mode of dcgm-exporter writes the label in small letters.
                uuid = sample.labels.get("UUID") or sample.labels.get("uuid") or ""
                yield sample.name, uuid, sample.value
