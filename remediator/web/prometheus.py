"""Ask Prometheus for what it last saw of the GPUs; only ever to show it to people.

What decides about a stop is asked elsewhere, by the worker.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import requests

from remediator.errors import SourceError

_CONNECT_SECONDS = 1.0
_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One series with its newest value."""

    labels: Mapping[str, str]
    value: float

    @property
    def name(self) -> str:
        """The name of the metric."""
        return self.labels.get("__name__", "")


class PrometheusReader:
    """Reads from one Prometheus server, within *timeout* seconds; used by one thread at a time."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = (min(_CONNECT_SECONDS, timeout), timeout)
        self._session = requests.Session()
        self._session.trust_env = False

    def newest(self, *names: str) -> list[Sample]:
        """Return the newest sample of every series with one of *names*; SourceError if it can't."""
        query = f'{{__name__=~"{"|".join(names)}"}}'
        try:
            with self._session.get(
                f"{self._url}/api/v1/query",
                params={"query": query},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as answer:
                if answer.status_code != requests.codes.ok:
                    raise SourceError(f"Prometheus answers with status {answer.status_code}")
                return _samples(answer)
        except requests.RequestException as error:
            kind = type(error).__name__
            raise SourceError(f"Prometheus at {self._url} does not answer ({kind})") from error


def _samples(answer: requests.Response) -> list[Sample]:
    body = answer.raw.read(_LARGEST + 1, decode_content=True)
    if len(body) > _LARGEST:
        raise SourceError(f"Prometheus answers with more than {_LARGEST} bytes")
    try:
        result = json.loads(body)["data"]["result"]
        return [Sample(dict(row["metric"]), float(row["value"][1])) for row in result]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SourceError("Prometheus answers with something else than samples") from error
