"""`remediator backtest` over a real Prometheus, against what that Prometheus itself has fired."""

import http.server
import json
import math
import statistics
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import yaml

from remediator.backtest.group_offset import phase_of
from remediator.cli.main import main
from tests.eventually import eventually, patience
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.prometheus import Prometheus
from tests.peers.stage import Stage

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
_SECONDS = 16
_TRIES = 8
_RULES = [
    {"record": "alive", "expr": "vector(1)"},
    {
        "record": "busy_seconds",
        "expr": "last_over_time(busy_seconds[5s]) + (time() - last_over_time(seen[5s])) and x > 1"
        " or 0 * x",
    },
    {"record": "seen", "expr": "busy_seconds * 0 + time()"},
    {"alert": "High", "expr": "x > 1", "for": "1s"},
    {"alert": "Kept", "expr": "x > 1", "keep_firing_for": "2s"},
    {"alert": "Long", "expr": "busy_seconds > 2", "labels": {"what": "{{ $labels.a }}"}},
    {"alert": "Gone", "expr": 'absent(x{a="2"})'},
    {"alert": "Down", "expr": "up == 0", "for": "1s"},
]

Labels = tuple[tuple[str, str], ...]


class _Exporter:
    """Serves ``x``, which rises, vanishes and comes back; for two seconds it serves nothing."""

    def __init__(self) -> None:
        exporter = self
        self.begun = math.inf

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = exporter.page(time.time() - exporter.begun)
                self.send_response(200 if text else 500)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self.port = free_port()
        self._server = http.server.ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def page(self, age: float) -> str:
        if 9 <= age < 11:
            return ""
        lines = [f'x{{a="1"}} {5 if 1 <= age < 7 else 0}']
        if not 4 <= age < 6:
            lines.append(f'x{{a="2"}} {2 if 2 <= age < 14 else 1}')
        return "\n".join(lines) + "\n"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(name="exporter")
def _exporter() -> Iterator[_Exporter]:
    exporter = _Exporter()
    yield exporter
    exporter.stop()


def _samples(prometheus: Prometheus, query: str) -> dict[Labels, list[tuple[float, float]]]:
    """Return times and values of the raw samples of a query, by labels."""
    answer = requests.get(
        f"{prometheus.url}/api/v1/query", params={"query": f"{query}[1m]"}, timeout=10
    )
    return {
        tuple(sorted(row["metric"].items())): [(float(at), float(v)) for at, v in row["values"]]
        for row in answer.json()["data"]["result"]
    }


def _stamps(prometheus: Prometheus, query: str) -> dict[Labels, list[float]]:
    """Return the times of the raw samples of a query, by labels."""
    found = _samples(prometheus, query)
    return {labels: [at for at, _ in samples] for labels, samples in found.items()}


def _is_clear(prometheus: Prometheus, story: list[float]) -> bool:
    """Return whether no evaluation was left out, and each saw all that was scraped before it.

    A sample has the time at which its scrape began, but is not there before it has ended.
    """
    [scrapes] = _samples(prometheus, "scrape_duration_seconds").values()
    in_time = all(
        at + took + 0.1 < next(evaluated for evaluated in story if evaluated >= at)
        for at, took in scrapes
        if story[0] - 1 < at <= story[-1]
    )
    return in_time and len(story) == round(story[-1] - story[0]) + 1


def _rule_file(folder: Path, scraped_at: float) -> Path:
    """Return rules that are evaluated well between two scrapes, so that no sample is in doubt."""
    for number in range(100):
        path = folder / f"rules-{number}.yml"
        behind = (phase_of(str(path), "live", 1000) / 1000 - scraped_at) % 1
        if 0.4 < behind < 0.7:
            path.write_text(yaml.safe_dump({"groups": [{"name": "live", "rules": _RULES}]}))
            return path
    raise AssertionError("no name is evaluated between two scrapes")


def test_alerts_of_a_real_prometheus_are_found_again_to_the_evaluation(
    stage: Stage, exporter: _Exporter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prometheus = stage.prometheus([], {"x": [f"{LOOPBACK}:{exporter.port}"]})
    scrapes = eventually(lambda: _scrapes(prometheus), 20, "the exporter is scraped")
    prometheus.load([_rule_file(tmp_path, statistics.median(at % 1 for at in scrapes))])
    for _ in range(round(_TRIES * patience())):
        begin = eventually(lambda: _begin(prometheus), 20, "rules are evaluated")
        exporter.begun = time.time()
        eventually(lambda: time.time() - exporter.begun > _SECONDS, 60, "the story is over")
        evaluated = next(iter(_stamps(prometheus, "alive").values()))
        story = [at for at in evaluated if at >= begin]
        if _is_clear(prometheus, story):
            break
    else:
        pytest.fail("Prometheus left out evaluations or scraped slowly each time: it is too busy")
    end = story[-1] + 0.5
    theirs = {
        labels: [at for at in stamps if begin <= at < end]
        for labels, stamps in _stamps(prometheus, 'ALERTS{alertstate="firing"}').items()
    }

    flags = ["--prometheus", prometheus.url, "--warm-up", "15s", "--page", "4s", "--json"]
    policy = ["--policy", str(ROOT / "compose" / "policy.example.yaml")]
    span = ["--from", _iso(begin), "--to", _iso(end)]
    assert main(["backtest", *flags, *policy, *span]) == 0

    found = json.loads(capsys.readouterr().out)["variants"][0]["alerts"]
    mine: dict[Labels, list[float]] = {}
    for alert in found:
        until = _seconds(alert["resolved_at"]) if alert["resolved_at"] else math.inf
        labels = {**alert["labels"], "__name__": "ALERTS", "alertstate": "firing"}
        stretch = [at for at in story if _seconds(alert["fired_at"]) <= at < min(until, end)]
        mine.setdefault(tuple(sorted(labels.items())), []).extend(stretch)
    assert {key: sorted(value) for key, value in mine.items()} == {
        key: value for key, value in theirs.items() if value
    }
    fired = {alert["alertname"] for alert in found}
    assert fired == {"High", "Kept", "Long", "Gone", "Down"}


def _scrapes(prometheus: Prometheus) -> list[float] | None:
    """Return when the exporter was scraped, once it has been for some seconds."""
    found = next(iter(_stamps(prometheus, "up").values()), [])
    return found if len(found) > 2 else None


def _begin(prometheus: Prometheus) -> float | None:
    """Return when the rules were last evaluated, once they have been for some seconds."""
    stamps = _stamps(prometheus, "alive")
    found = next(iter(stamps.values()), [])
    return found[-1] if len(found) > 3 else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
