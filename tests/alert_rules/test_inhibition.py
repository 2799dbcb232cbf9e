"""Which alerts mute which: the shipped inhibition in a real Alertmanager.

A case is two lists of alerts that fire together, each written as its name and labels: those that
are told and those that are muted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.alert_rules.shipped import ALERTMANAGER, PROMETHEUS, read
from tests.eventually import eventually
from tests.peers.alertmanager import Alertmanager
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.stage import Stage

pytestmark = pytest.mark.integration

# Two exporters of one host, and one of another; a container and a GPU of each.
DS01 = "instance=a:9101 host=a"
DCGM = "instance=a:9400 host=a"
NODE = "instance=a:9100 host=a"
WORKER = "instance=a:9096 host=a"
OTHER = "instance=b:9101 host=b"
OTHER_DCGM = "instance=b:9400 host=b"

CASES = {
    "a container that is idle": (
        [
            f"DS01ContainerIdle {DS01} container_id=c1",
            f"DS01ContainerIdleFinal {DS01} container_id=c2",
        ],
        [
            f"DS01ContainerIdleSoon {DS01} container_id=c1",
            f"DS01ContainerIdleFinal {DS01} container_id=c1",
            f"DS01ContainerIdleSoon {DS01} container_id=c2",
            f"DS01GPUWaste {DCGM} container_id=c1",
        ],
    ),
    "a container over its maximum runtime": (
        [
            f"DS01ContainerMaxRuntime {DS01} container_id=c1",
            f"DS01ContainerMaxRuntimeFinal {DS01} container_id=c2",
            f"DS01ContainerMaxRuntimeSoon {DS01} container_id=c3",
            f"DS01ContainerIdleSoon {DS01} container_id=c1",
        ],
        [
            f"DS01ContainerMaxRuntimeSoon {DS01} container_id=c1",
            f"DS01ContainerMaxRuntimeFinal {DS01} container_id=c1",
            f"DS01ContainerMaxRuntimeSoon {DS01} container_id=c2",
        ],
    ),
    "the container of the same id on another host": (
        [
            f"DS01ContainerIdle {DS01} container_id=c1",
            f"DS01ContainerIdleSoon {OTHER} container_id=c1",
        ],
        [],
    ),
    "waste that names no container, and waste of another one": (
        [
            f"DS01ContainerIdle {DS01} container_id=c1",
            f"DS01GPUWaste {DCGM} UUID=GPU-a",
            f"DS01GPUWaste {DCGM} container_id=c2",
        ],
        [],
    ),
    "a hot GPU, whose power is limited until neither alert fires": (
        [
            f"DS01GPUCriticalTemperature {DCGM} UUID=GPU-a gpu=0",
            f"DS01GPUHighTemperature {DCGM} UUID=GPU-a gpu=0",
        ],
        [],
    ),
    "a GPU that wants a reset, as two exporters tell it": (
        [
            f"DS01GPUNeedsReset {DS01} UUID=GPU-a",
            f"DS01GPUXIDError {DCGM} UUID=GPU-b",
            f"DS01GPUDoubleBitECC {DCGM} UUID=GPU-a",
            f"DS01GPURowRemapFailed {DS01} UUID=GPU-a",
            f"DS01GPUHighTemperature {DCGM} UUID=GPU-a",
            f"DS01GPUMemoryLeak {DS01} UUID=GPU-a",
        ],
        [
            f"DS01GPUXIDError {DCGM} UUID=GPU-a",
            f"DS01GPUNeedsDrain {DS01} UUID=GPU-a",
            f"DS01GPURowRemapPending {DS01} UUID=GPU-a",
        ],
    ),
    "a GPU that wants a reboot": (
        [f"DS01GPUNeedsReboot {DS01} UUID=GPU-a", f"DS01GPUNeedsReset {DS01} UUID=GPU-b"],
        [f"DS01GPUNeedsReset {DS01} UUID=GPU-a", f"DS01GPUXIDError {DCGM} UUID=GPU-a"],
    ),
    "a GPU that is lost": (
        [f"DS01GPULost {DS01} UUID=GPU-a", f"DS01GPUOrphanProcess {DS01} UUID=GPU-a pid=7"],
        [
            f"DS01GPUNeedsReboot {DCGM} UUID=GPU-a",
            f"DS01GPUNeedsReset {DS01} UUID=GPU-a",
            f"DS01GPUXIDError {DCGM} UUID=GPU-a",
        ],
    ),
    "row remapping that failed": (
        [f"DS01GPURowRemapFailed {DS01} UUID=GPU-a", f"DS01GPUXIDError {DCGM} UUID=GPU-a"],
        [f"DS01GPURowRemapPending {DS01} UUID=GPU-a"],
    ),
    "alerts without the label that is compared": (
        [
            "DS01GPULost instance=a:9101",
            "DS01GPUNeedsReset instance=a:9101",
            "DS01GPUXIDError instance=b:9101",
            "DS01DCGMExporterDown instance=a:9400",
            "DS01DCGMStale instance=a:9400",
            "DS01ContainerIdle instance=a:9101",
            "DS01ContainerIdleSoon instance=a:9101",
        ],
        [],
    ),
    "a DCGM exporter that is down": (
        [
            f"DS01DCGMExporterDown {DCGM}",
            f"DS01DCGMStale {OTHER_DCGM}",
            f"DS01ContainerIdle {DS01} container_id=c1",
            f"DS01GPULost {DS01} UUID=GPU-a",
        ],
        [f"DS01DCGMStale {DCGM}", f"DS01MIGMappingMismatch {DS01}"],
    ),
    "two DCGM exporters that are down": (
        [f"DS01DCGMExporterDown {DCGM}", f"DS01DCGMExporterDown {OTHER_DCGM}"],
        [],
    ),
    "a DS01 exporter that is down": (
        [
            f"DS01ExporterDown {DS01}",
            f"DS01DCGMExporterDown {DCGM}",
            f"DS01DiskSpaceLow {DS01}",
            f"DS01ContainerIdle {DS01} container_id=c1",
            f"DS01CollectorFailing {OTHER} collector=gpus",
        ],
        [
            f"DS01CollectorFailing {DS01} collector=gpus",
            f"DS01LimitsNotLoaded {DS01}",
            f"DS01ExemptionVoid {DS01}",
            f"DS01MIGMappingMismatch {DS01}",
        ],
    ),
    "a node exporter that is down": (
        [f"DS01NodeExporterDown {NODE}", f"DS01HighSystemLoad {OTHER}"],
        [
            f"DS01HighSystemLoad {NODE}",
            f"DS01LowMemory {NODE}",
            f"DS01HighDiskUsage {NODE} mountpoint=/",
            f"DS01PrometheusStorageLow {NODE} mountpoint=/var",
        ],
    ),
    "a reset in progress": (
        [
            f"RemediatorResetInProgress {WORKER}",
            f"DS01DCGMExporterDown {OTHER_DCGM}",
            f"DS01GPULost {DS01} UUID=GPU-b",
            f"DS01NodeExporterDown {NODE}",
        ],
        [
            f"DS01DCGMExporterDown {DCGM}",
            f"DS01DCGMStale {DCGM}",
            f"DS01ExporterDown {DS01}",
        ],
    ),
    "a Remediator that is down": (
        [f"RemediatorDown {WORKER} job=remediator-worker", f"RemediatorFailing {WORKER}"],
        [],
    ),
    "GPU capacity": (
        [f"DS01CriticalGPUCapacity {DS01}", f"DS01LowGPUCapacity {OTHER}"],
        [f"DS01LowGPUCapacity {DS01}"],
    ),
    "the watchdog": (["Watchdog", f"DS01ExporterDown {DS01}"], []),
}


def labels_of(text: str, case: str = "") -> dict[str, str]:
    """The labels that *text* stands for; the host's name begins with *case*."""
    name, *labels = text.split()
    pairs = (label.split("=", 1) for label in labels)
    return {"alertname": name} | {
        label: value if label in {"gpu", "job", "collector", "mountpoint"} else f"{case}{value}"
        for label, value in pairs
    }


def told(server: Alertmanager, posted: list[dict[str, str]]) -> list[dict[str, str]] | None:
    """Which of *posted* are not muted, in that order; None while they are not all there."""
    there = {frozenset(alert["labels"].items()): alert for alert in server.alerts()}
    found = [there.get(frozenset(labels.items())) for labels in posted]
    if None in found:
        return None
    return [alert["labels"] for alert in found if alert and not alert["status"]["inhibitedBy"]]


@pytest.fixture(scope="module")
def alertmanager(module_stage: Stage) -> Alertmanager:
    nobody = f"http://{LOOPBACK}:{free_port()}"
    return module_stage.shipped_alertmanager(ALERTMANAGER, nobody)


@pytest.mark.parametrize("case", CASES)
def test_what_is_told_of_alerts_that_fire_together(alertmanager: Alertmanager, case: str) -> None:
    prefix = f"{list(CASES).index(case)}-"
    loud, muted = ([labels_of(text, prefix) for text in texts] for texts in CASES[case])
    last = labels_of("DS01ContainerIdleSoon instance=z:1 container_id=z", prefix)
    over_it = labels_of("DS01ContainerIdleFinal instance=z:1 container_id=z", prefix)

    alertmanager.post({"labels": labels} for labels in [*loud, *muted, over_it, last])

    # It has looked at all of them once the last one is muted, and mutes each as it comes.
    eventually(lambda: told(alertmanager, [over_it, last]) == [over_it], 5, "the last is muted")
    eventually(lambda: told(alertmanager, [*loud, *muted]) == loud, 5, f"{loud} alone are told")


def test_a_muted_alert_is_told_once_what_muted_it_has_ended(alertmanager: Alertmanager) -> None:
    reset = labels_of(f"RemediatorResetInProgress {WORKER}", "end-")
    down = labels_of(f"DS01DCGMExporterDown {DCGM}", "end-")
    alertmanager.post([{"labels": reset}, {"labels": down}])
    eventually(lambda: told(alertmanager, [down]) == [], 5, "the exporter is muted")

    alertmanager.post([{"labels": reset, "endsAt": "2026-01-01T00:00:00Z"}])

    eventually(lambda: told(alertmanager, [down]) == [down], 5, "the exporter is told")


RULES = """
groups:
  - name: both
    rules:
      - {alert: DS01DCGMExporterDown, expr: vector(1), labels: {instance: 'gpu1:9400'}}
      - {alert: DS01DCGMStale, expr: vector(1), labels: {instance: 'gpu1:9401'}}
      - {alert: DS01LowMemory, expr: vector(1), labels: {instance: 'gpu1:9100', host: own}}
"""


def test_prometheus_adds_the_host_by_which_exporters_are_compared(
    stage: Stage, alertmanager: Alertmanager, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    alerting = read(PROMETHEUS)["alerting"]
    alerting["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager.address]}]}]
    start_prometheus(stage, {"rule_files": [str(rules)], "alerting": alerting})

    down, stale = (
        {"alertname": name, "instance": f"gpu1:{port}", "host": "gpu1"}
        for name, port in [("DS01DCGMExporterDown", 9400), ("DS01DCGMStale", 9401)]
    )
    own = {"alertname": "DS01LowMemory", "instance": "gpu1:9100", "host": "own"}
    eventually(
        lambda: told(alertmanager, [down, stale, own]) == [down, own],
        20,
        "each alert has its host, and one is muted",
    )


def start_prometheus(stage: Stage, configuration: Mapping[str, Any]) -> None:
    # What it sends before it has found Alertmanager is lost, and sent again only after this.
    server = stage.prometheus(arguments=["--rules.alert.resend-delay=1s"])
    whole = {"global": {"evaluation_interval": "1s"}, **configuration}
    (server.folder / "prometheus.yml").write_text(yaml.safe_dump(whole))
    assert requests.post(f"{server.url}/-/reload", timeout=10).ok
