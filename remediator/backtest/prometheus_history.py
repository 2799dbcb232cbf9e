"""The past as a Prometheus server tells it: raw samples, its rules, and when it evaluates them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import msgspec
import requests
import yaml

from remediator.backtest.decoding import PageDecoder
from remediator.backtest.group_offset import phase_of
from remediator.backtest.history import Page, Stretch
from remediator.backtest.rule_plan import Timing
from remediator.backtest.staleness import StaleMarkers
from remediator.backtest.store import Series
from remediator.core.durations import format_duration, parse_duration
from remediator.errors import SourceError

_AT_ONCE = 4
_LEFT_OPEN_SINCE = 3
_LOOKBACK = 300_000
_UP = "up"


@dataclass(frozen=True, slots=True)
class Server:
    """What a Prometheus says of itself; durations are in milliseconds.

    *rules* is the text of a rule file with all its groups.
    """

    left_open: bool
    lookback: int
    timings: Mapping[str, Timing]
    rules: str


class PrometheusHistory:
    """One Prometheus server; SourceError where it gives no answer.

    *timeout* is for the next byte of an answer.
    """

    def __init__(self, url: str, timeout: timedelta) -> None:
        self.url = url
        self._timeout = timeout.total_seconds()
        self._session = requests.Session()
        # Compressing takes Prometheus longer than sending, on half a gigabit per second or more.
        self._session.headers["Accept-Encoding"] = "identity"
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=_AT_ONCE)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def server(self) -> Server:
        """Return what it says of itself."""
        version = str(self._json("status/buildinfo").get("version", ""))
        flags = self._json("status/flags")
        groups = self._json("rules").get("groups", [])
        lookback = _milliseconds(str(flags.get("query.lookback-delta", "5m")))
        timings = {str(group["name"]): _timing(group) for group in groups}
        major = int(version.partition(".")[0] or 2) if version[:1].isdigit() else 2
        return Server(
            major >= _LEFT_OPEN_SINCE, lookback or _LOOKBACK, timings, _rules_text(groups)
        )

    def pages(self, metrics: Iterable[str], stretch: Stretch, length: int) -> Iterator[Page]:
        """Yield the samples of *metrics*, page by page of *length* milliseconds.

        The next page is asked for while the last is worked on, a few metrics at once.
        """
        names = sorted({*metrics, _UP})
        markers: dict[str, StaleMarkers] = {name: StaleMarkers() for name in names}
        begins = range(stretch.begin, stretch.end, length)
        with ThreadPoolExecutor(_AT_ONCE) as pool:

            def ask(begin: int) -> list[Any]:
                end, decoder = min(begin + length, stretch.end), PageDecoder(begin)
                return [pool.submit(self._raw, name, begin, end, decoder) for name in names]

            asked = ask(begins[0])
            for begin in begins:
                now, asked = asked, ask(begin + length) if begin + length < stretch.end else []
                found = {name: one.result() for name, one in zip(names, now, strict=True)}
                ups = found[_UP]
                yield Page(
                    begin,
                    min(begin + length, stretch.end),
                    {name: markers[name].marked(page, ups) for name, page in found.items()},
                )

    def _raw(self, metric: str, begin: int, end: int, decoder: PageDecoder) -> list[Series]:
        """Return the samples of *metric* from *begin* up to but without *end*."""
        query = f"{metric}[{end - begin}ms]"
        content = self._get("query", {"query": query, "time": f"{(end - 1) / 1000:.3f}"})
        try:
            return decoder.series(content)
        except msgspec.DecodeError as error:
            raise SourceError(f"no answer from Prometheus at {self.url}: {error}") from error

    def _json(self, what: str) -> Mapping[str, Any]:
        try:
            data = msgspec.json.decode(self._get(what, {}))["data"]
        except (msgspec.DecodeError, KeyError, TypeError) as error:
            raise SourceError(f"{self.url} does not answer as Prometheus does") from error
        return data if isinstance(data, dict) else {}

    def _get(self, what: str, parameters: Mapping[str, str]) -> bytes:
        try:
            answer = self._session.get(
                f"{self.url}/api/v1/{what}", params=parameters, timeout=self._timeout
            )
        except requests.RequestException as error:
            kind = type(error).__name__
            raise SourceError(f"no answer from Prometheus at {self.url}: {kind}") from error
        if answer.status_code != HTTPStatus.OK:
            said = re.search(r'"error":"((?:[^"\\]|\\.)*)"', answer.text[-2000:])
            why = said[1] if said else f"status {answer.status_code}"
            advice = "; try a shorter --page" if "too many samples" in why else ""
            raise SourceError(f"Prometheus at {self.url} refused a query: {why}{advice}")
        return answer.content


def _timing(group: Mapping[str, Any]) -> Timing:
    interval = round(float(group.get("interval", 0)) * 1000) or 1
    return Timing(interval, phase_of(str(group["file"]), str(group["name"]), interval))


def _rules_text(groups: Iterable[Mapping[str, Any]]) -> str:
    """Return the groups as a rule file, in the order in which Prometheus lists them."""
    made = [
        {"name": group["name"], "rules": [_rule(rule) for rule in group.get("rules", [])]}
        for group in groups
    ]
    return yaml.safe_dump({"groups": made}, sort_keys=False, width=1000)


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    kind = "alert" if rule.get("type") == "alerting" else "record"
    made: dict[str, Any] = {kind: rule["name"], "expr": rule["query"]}
    for key, field in (("for", "duration"), ("keep_firing_for", "keepFiringFor")):
        seconds = float(rule.get(field) or 0)
        if seconds:
            made[key] = format_duration(timedelta(seconds=seconds))
    if rule.get("labels"):
        made["labels"] = dict(rule["labels"])
    return made


def _milliseconds(text: str) -> int:
    try:
        return round(parse_duration(text) / timedelta(milliseconds=1))
    except ValueError:
        return 0
