"""The programs of a healthy pipeline as pages in memory, for `remediator.doctor`.

`tests/integration/test_doctor.py` asks the same of the real ones.
"""

import json
from collections.abc import Mapping

from remediator.doctor.examination import AilmentError
from remediator.doctor.web import Answer

RECEIVER = "http://127.0.0.1:9095"
WORKER = "http://127.0.0.1:9096/metrics"
EXPORTER = "http://127.0.0.1:9101/metrics"
PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"
RULES = f"{PROMETHEUS}/api/v1/rules?type=alert"
TARGETS = f"{PROMETHEUS}/api/v1/targets?state=active"
KNOWN = f"{PROMETHEUS}/api/v1/alertmanagers"
STATUS = f"{ALERTMANAGER}/api/v2/status"
CONFIG = """
route: {receiver: admins, routes: [{receiver: us}]}
receivers:
  - name: admins
  - name: us
    webhook_configs: [{url: 'http://gpu1:9095/api/v1/alerts'}]
"""


def data(**values: object) -> str:
    """Return an answer of Prometheus's."""
    return json.dumps({"status": "success", "data": values})


def config(text: str) -> str:
    """Return Alertmanager's status with the configuration *text*."""
    return json.dumps({"config": {"original": text}})


def rules(*names: str, health: str = "ok") -> str:
    """Return Prometheus's list of alerting rules."""
    return data(groups=[{"rules": [{"name": name, "health": health} for name in names]}])


def targets(health: str) -> str:
    """Return Prometheus's list with one target."""
    labels = {"job": "dcgm-exporter", "instance": "gpu1:9400"}
    return data(activeTargets=[{"labels": labels, "health": health}])


HEALTHY: Mapping[str, str] = {
    f"{RECEIVER}/-/ready": "ready",
    WORKER: (
        "remediator_policy_last_reload_successful 1\n"
        "remediator_oldest_delivery_seconds 0\nremediator_quiesced_services 0\n"
    ),
    EXPORTER: 'ds01_collector_success{collector="gpus"} 1\n',
    f"{PROMETHEUS}/api/v1/status/buildinfo": data(version="2.42.0"),
    RULES: rules("DS01ContainerIdle"),
    TARGETS: targets("up"),
    KNOWN: data(activeAlertmanagers=[{"url": f"{ALERTMANAGER}/api/v2/alerts"}]),
    f"{ALERTMANAGER}/-/ready": "OK",
    STATUS: config(CONFIG),
}


class FakeWeb:
    """Answers with *pages*; a page that is None is not there, one that is missing is 404.

    The receiver lets in who has one of *tokens*; everything that was posted is in ``posted``.
    """

    def __init__(self, pages: Mapping[str, str | None], tokens: tuple[str, ...]) -> None:
        self._pages = pages
        self._tokens = tokens
        self.posted: list[tuple[str, bytes]] = []

    def get(self, url: str) -> Answer:
        """Answer a GET."""
        text = self._pages.get(url, "")
        if text is None:
            raise AilmentError(f"no answer from {url}: ConnectionError")
        return Answer(200, text) if text else Answer(404, "not found")

    def post(self, url: str, body: bytes, token: str = "") -> Answer:
        """Answer a POST as the receiver answers what is no delivery."""
        self.posted.append((url, body))
        return Answer(400 if token in self._tokens else 401, "")
