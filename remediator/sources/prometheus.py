"""Ask Prometheus whether an alert is really firing there, on fresh data.

An alert in Alertmanager proves nothing: anybody on the machine can post one. What Prometheus
itself says about its own rules cannot be posted.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from remediator.core.alerts import Alert
from remediator.core.durations import humanize
from remediator.core.observation import Fact, Report, Source, Verdict
from remediator.core.targets import subject_of
from remediator.errors import SourceError
from remediator.sources.deadline import DeadlineSession, NoAnswerError
from remediator.sources.shared_answer import SharedAnswer

# More than every alert of a large site; an answer has to be held in memory.
_LARGEST = 64 * 1024 * 1024
# The label that tells the answers to several questions apart, which are asked as one.
_NAME = "asked"


@dataclass(frozen=True, slots=True)
class Sample:
    """One raw sample: when it was scraped, by this machine's clock, and its value."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What Prometheus said of one alert.

    ``active_since`` is when its condition began to hold, by this machine's clock. ``labels`` and
    ``annotations`` are Prometheus's own, which is more than can be said of those delivered.
    """

    report: Report
    active_since: datetime | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None


class PrometheusSource:
    """One Prometheus server; an answer older than *freshness* is no answer.

    *timeout* is for each question with its whole answer.
    """

    def __init__(self, url: str, timeout: timedelta, freshness: timedelta) -> None:
        self._url = url
        self._freshness = freshness
        self._session = DeadlineSession(timeout.total_seconds(), _LARGEST)
        # All of them, whichever one is asked about: many are, in the same moment.
        self._alerts = SharedAnswer(lambda: self._get("/api/v1/alerts").get("alerts", []))
        self._skew = SharedAnswer(lambda: self._skew_of(self.value("vector(time())")))

    def confirm(
        self, alert: Alert, now: datetime, *, exporter_must_answer: bool = True
    ) -> Confirmation:
        """Return whether *alert* is firing: same labels, evaluated lately, its exporter up.

        How lately is asked of Prometheus's own clock, which may not be this machine's (*now*).
        Without *exporter_must_answer* an alert is confirmed that says just that: it does not.
        """
        del now
        try:
            with self._making_sense():
                return self._confirm(alert, exporter_must_answer=exporter_must_answer)
        except SourceError as error:
            return _answer(Verdict.SILENT, str(error))

    def _confirm(self, alert: Alert, *, exporter_must_answer: bool) -> Confirmation:
        found = self._find(alert)
        if found is None:
            says = f"{alert.name} is not firing with these labels: resolved, stale or forged"
            return _answer(Verdict.DISAGREES, says)
        active_since = _time(found.get("activeAt"))
        if found.get("state") != "firing":
            says = f"{alert.name} is only {found.get('state')}, not firing"
            return _answer(Verdict.DISAGREES, says)
        return self._judge(alert, found, active_since, exporter_must_answer=exporter_must_answer)

    def samples(
        self, selector: str, window: timedelta
    ) -> list[tuple[Mapping[str, str], list[Sample]]]:
        """Return the raw samples of the last *window* by series, or raise SourceError."""
        result = self._query(f"{selector}[{max(1, round(window.total_seconds()))}s]")
        skew = self._skew.get()
        with self._making_sense():
            return [
                (
                    series["metric"],
                    [Sample(_epoch(at) + skew, float(value)) for at, value in series["values"]],
                )
                for series in result
            ]

    def value(self, expression: str) -> float | None:
        """Return the largest value of *expression*, None if it has no result; or SourceError."""
        with self._making_sense():
            values = [float(series["value"][1]) for series in self._query(expression)]
        return max(values, default=None)

    def _values(self, expressions: Mapping[str, str]) -> dict[str, float]:
        """Return the largest value of each expression that has a result, by one question."""
        asked = (
            f'label_replace(max({expression}), "{_NAME}", "{name}", "", "")'
            for name, expression in expressions.items()
        )
        with self._making_sense():
            return {
                str(series["metric"][_NAME]): float(series["value"][1])
                for series in self._query(" or ".join(asked))
            }

    @contextlib.contextmanager
    def _making_sense(self) -> Iterator[None]:
        """Raise SourceError where an answer has another form than Prometheus's, or no number."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            kind = f"{type(error).__name__}: {error}"[:200]
            raise SourceError(f"Prometheus at {self._url} answers without sense: {kind}") from error

    def _find(self, alert: Alert) -> Mapping[str, Any] | None:
        """Return the alert of Prometheus that was delivered.

        What arrives may have more labels (``external_labels``), never fewer or other ones. The
        labels that say what it is about must be Prometheus's own: added ones would aim it anew.
        """
        wanted = alert.labels
        for candidate in self._alerts.get():
            labels = candidate.get("labels", {})
            if (
                labels.get("alertname") == alert.name
                and all(wanted.get(name) == value for name, value in labels.items())
                and subject_of(labels) == subject_of(wanted)
            ):
                found: Mapping[str, Any] = candidate
                return found
        return None

    def _judge(
        self,
        alert: Alert,
        found: Mapping[str, Any],
        active_since: datetime | None,
        *,
        exporter_must_answer: bool,
    ) -> Confirmation:
        own_labels = found["labels"]
        series = f"ALERTS{selector({**own_labels, 'alertstate': 'firing'})}"
        asked = {"age": f"time() - timestamp({series})", "clock": "vector(time())"}
        instance = own_labels.get("instance")
        if instance:
            asked["up"] = f"up{selector({'instance': instance})}"
        told = self._values(asked)
        if "age" not in told or active_since is None:
            return _answer(Verdict.SILENT, f"{alert.name} has not been evaluated lately")
        age = timedelta(seconds=told["age"])
        active_since += self._skew_of(told.get("clock"))
        facts: dict[str, Fact] = {
            "value": _number(found.get("value")),
            "active_since": active_since.isoformat(),
            "evaluated_seconds_ago": round(age.total_seconds(), 3),
        }
        if age > self._freshness:
            says = f"{alert.name} was last evaluated {humanize(age)} ago"
            return _answer(Verdict.SILENT, says, facts)
        if instance:
            up = facts["up"] = told.get("up")
            if up != 1 and exporter_must_answer:
                says = f"the exporter {instance} is down: what it said before proves nothing"
                return _answer(Verdict.SILENT, says, facts)
        says = (
            f"{alert.name} is firing since {active_since:%H:%M:%S} UTC,"
            f" value {_readable(found.get('value'))}, evaluated {humanize(age)} ago"
        )
        return Confirmation(
            Report(Source.PROMETHEUS, Verdict.AGREES, says, facts),
            active_since,
            _texts(found.get("annotations")),
            own_labels,
        )

    def _skew_of(self, seconds: float | None) -> timedelta:
        """Return by how much this machine's clock is ahead of Prometheus's, which just said so."""
        if seconds is None:
            raise SourceError(f"Prometheus at {self._url} does not tell the time")
        with self._making_sense():
            return datetime.now(UTC) - _epoch(seconds)

    def _query(self, expression: str) -> list[Any]:
        result = self._get("/api/v1/query", query=expression).get("result", [])
        return result if isinstance(result, list) else []

    def _get(self, path: str, **parameters: str) -> Mapping[str, Any]:
        try:
            status, text = self._session.get(self._url + path, parameters)
            body = json.loads(text)
            if status != HTTPStatus.OK or body.get("status") != "success":
                problem = body.get("error", f"status {status}")
                raise SourceError(f"Prometheus at {self._url} refused {path}: {problem}")
            data: Mapping[str, Any] = dict(body["data"])
        except NoAnswerError as error:
            raise SourceError(f"no answer from Prometheus at {self._url}{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            kind = type(error).__name__
            raise SourceError(f"no answer from Prometheus at {self._url}{path}: {kind}") from error
        return data


def selector(labels: Mapping[str, str]) -> str:
    """Return a PromQL selector for exactly *labels*, whatever their values hold."""
    pairs = (f"{name}={_quoted(value)}" for name, value in sorted(labels.items()))
    return "{" + ",".join(pairs) + "}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _answer(verdict: Verdict, says: str, facts: Mapping[str, Fact] | None = None) -> Confirmation:
    return Confirmation(Report(Source.PROMETHEUS, verdict, says, facts or {}))


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _epoch(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _number(text: object) -> float | None:
    try:
        return float(str(text))
    except ValueError:
        return None


def _readable(text: object) -> str:
    """Return a value as people write it: Prometheus answers 13 seconds as ``1.3e+01``."""
    number = _number(text)
    return "unknown" if number is None else f"{number:.6g}"


def _texts(found: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
