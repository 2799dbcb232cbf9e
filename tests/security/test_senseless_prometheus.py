"""A Prometheus that was taken over, or is none, gets nothing stopped and nobody hung up."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from remediator.core.observation import Verdict
from remediator.errors import SourceError
from remediator.sources.prometheus import PrometheusSource
from tests.builders import an_alert
from tests.peers.ports import LOOPBACK

ALERT = an_alert({"instance": "x:1"})
FIRING = {
    "labels": dict(ALERT.labels),
    "state": "firing",
    "activeAt": "2026-01-01T00:00:00Z",
    "value": "1",
}


class Liar:
    """Answers each question with what it was told to, in Prometheus's envelope."""

    def __init__(self) -> None:
        self.alerts: Any = [FIRING]
        self.result: Any = []
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_alerts = self.path.startswith("/api/v1/alerts")
                data = {"alerts": liar.alerts} if is_alerts else {"result": liar.result}
                body = json.dumps({"status": "success", "data": data}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.source = PrometheusSource(
            f"http://{LOOPBACK}:{self.server.server_port}",
            timedelta(seconds=5),
            timedelta(minutes=2),
        )


@pytest.fixture
def liar() -> Iterator[Liar]:
    liar = Liar()
    thread = threading.Thread(target=liar.server.serve_forever)
    thread.start()
    yield liar
    liar.server.shutdown()
    thread.join()
    liar.server.server_close()


def _series(value: Any) -> list[Any]:
    return [{"metric": {}, "value": [1, value], "values": [[value, "1"]]}]


RESULTS = [
    *(_series("NaN"), _series("+Inf"), _series("-Inf"), _series("1e308"), _series("x")),
    *([{}], [[]], [None], [1], ["x"], [{"value": []}], [{"value": None}], {"a": 1}, None, "x", 7),
]
ALERTS = [None, 7, "x", {}, [None], [7], ["x"], [[]], [{"labels": None}], [{"labels": 7}]]


@pytest.mark.parametrize("result", RESULTS)
def test_a_number_that_is_none_confirms_nothing(liar: Liar, result: Any) -> None:
    liar.result = result

    confirmation = liar.source.confirm(ALERT, datetime.now(UTC))

    assert confirmation.report.verdict is Verdict.SILENT
    try:
        liar.source.samples("x", timedelta(minutes=1))
    except SourceError:
        return


@pytest.mark.parametrize("alerts", ALERTS)
def test_a_list_of_alerts_that_is_none_confirms_nothing(liar: Liar, alerts: Any) -> None:
    liar.alerts = alerts

    verdict = liar.source.confirm(ALERT, datetime.now(UTC)).report.verdict

    assert verdict in {Verdict.SILENT, Verdict.DISAGREES}


@pytest.mark.parametrize("at", [None, 7, "", "x", "9999-12-31T23:59:59Z"])
def test_a_time_beyond_the_calendar_confirms_nothing(liar: Liar, at: Any) -> None:
    liar.alerts = [{**FIRING, "activeAt": at}]
    liar.result = _series("1")

    assert liar.source.confirm(ALERT, datetime.now(UTC)).report.verdict is Verdict.SILENT
