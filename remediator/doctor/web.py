"""Ask the programs of the pipeline over HTTP, as they ask each other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Protocol

import requests

from remediator.doctor.examination import AilmentError


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    text: str


class Web(Protocol):
    """HTTP; AilmentError where there is no answer."""

    def get(self, url: str) -> Answer:
        """Return what is answered to a GET."""
        ...

    def post(self, url: str, body: bytes, token: str = "") -> Answer:
        """Return what is answered to a POST of JSON, with a bearer token if there is one."""
        ...


class RealWeb:
    """The network, without the proxies that the environment names: all of it is ours."""

    def __init__(self, timeout: timedelta) -> None:
        self._timeout = timeout.total_seconds()
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, url: str) -> Answer:
        """Return what is answered to a GET."""
        return self._ask("GET", url)

    def post(self, url: str, body: bytes, token: str = "") -> Answer:
        """Return what is answered to a POST of JSON, with a bearer token if there is one."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self._ask("POST", url, body, headers)

    def _ask(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        try:
            answer = self._session.request(
                method,
                url,
                data=body or None,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise AilmentError(f"no answer from {url}: {type(error).__name__}") from error
        return Answer(answer.status_code, answer.text)


def page(web: Web, url: str) -> str:
    """Return a page that has to be there."""
    answer = web.get(url)
    if answer.status != HTTPStatus.OK:
        raise AilmentError(f"{url} answers {answer.status}: {answer.text.strip()[:200]}")
    return answer.text


def json_page(web: Web, url: str) -> Mapping[str, Any]:
    """Return a page that has to be a JSON object."""
    try:
        found = json.loads(page(web, url))
    except ValueError as error:
        raise AilmentError(f"{url} does not answer JSON") from error
    if not isinstance(found, dict):
        raise AilmentError(f"{url} does not answer a JSON object")
    return found
