"""Every panel and variable of the dashboards, asked of a real Prometheus with real metrics.

The metrics are those of our exporter, worker and receiver on a site where one container works and
another is stopped for idleness, and those of Debian's node exporter. DCGM's come from ours, with
`--gpu-metrics` over the stand-in driver, which has no sensor in its memory: that is told of by the
stand-in for dcgm-exporter.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.dashboards import dashboards
from tests.eventually import eventually
from tests.integration.test_closed_loop import HURRIED_LIMITS, SETTLED, hurried_policy
from tests.peers.dcgm import DcgmExporter
from tests.peers.dockerd import DockerEngine, remove_test_containers
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.missing import require_tool
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.prometheus import Prometheus
from tests.peers.site import Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

QUERIES = [
    pytest.param(target["expr"], id=f"{board['uid']}: {panel['title']} {target['refId']}")
    for board in dashboards().values()
    for panel in board["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = [
    pytest.param(variable["query"]["query"], id=f"{board['uid']}: {variable['name']}")
    for board in dashboards().values()
    for variable in board["templating"]["list"]
]
# What Grafana puts in: all of everything, one user, and times that fit the pace of this site.
MEANING = {
    "host": ".*",
    "gpu": ".*",
    "worker": ".*",
    "user": "alice",
    "__rate_interval": "10s",
    "__range": "10m",
}


@pytest.fixture(scope="module")
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


@pytest.fixture(scope="module")
def dcgm(gpus: GpuHost) -> Iterator[DcgmExporter]:
    exporter = DcgmExporter().start()
    exporter.set("DCGM_FI_DEV_MEMORY_TEMP", 61, UUID=gpus.uuid(0))
    yield exporter
    exporter.stop()


@pytest.fixture(scope="module")
def prometheus(
    module_stage: Stage, engine: DockerEngine, gpus: GpuHost, dcgm: DcgmExporter
) -> Iterator[Prometheus]:
    """Prometheus once a container has been stopped, and everything has been scraped since."""
    node = f"{LOOPBACK}:{free_port()}"
    module_stage.daemon(
        "node-exporter",
        [
            *(require_tool("prometheus-node-exporter"), f"--web.listen-address={node}"),
            "--no-collector.systemd",
        ],
        ready=lambda: _answers(node),
    )
    site = Site(module_stage, engine, gpus, policy=hurried_policy(), limits=HURRIED_LIMITS)
    site.scrape = {
        "dcgm-exporter": [dcgm.address],
        "node-exporter": [node],
        "remediator-receiver": [f"{LOOPBACK}:{site.receiver_port}"],
        "remediator-worker": [f"{LOOPBACK}:{site.worker_port}"],
    }
    prometheus = site.start()
    for user, util in (("alice", 80), ("bob", 0)):
        run_gpu_container(
            site.docker,
            gpus,
            f"train-{user}",
            gpus=(0 if util else 1,),
            util=util,
            labels={"ds01.user": user},
            network_mode="bridge",
        )
    site.until(SETTLED, "succeeded", 60)
    yield prometheus
    remove_test_containers(site.docker)


def _answers(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/", timeout=2).ok
    except requests.RequestException:
        return False


def substituted(expression: str) -> str:
    return re.sub(r"\$(\w+)", lambda found: MEANING[found[1]], expression)


@pytest.mark.parametrize("expression", QUERIES)
def test_a_panel_has_something_to_show(prometheus: Prometheus, expression: str) -> None:
    query = substituted(expression)

    # GPU-hours are summed up by whole minutes, the first of which may not be over yet.
    eventually(
        lambda: any(math.isfinite(sample.value) for sample in prometheus.query(query)),
        90,
        f"a value for {query}",
    )


@pytest.mark.parametrize("query", VARIABLES)
def test_a_variable_has_something_to_choose(prometheus: Prometheus, query: str) -> None:
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
    assert found is not None

    answer = requests.get(
        f"{prometheus.url}/api/v1/label/{found[2]}/values",
        params={"match[]": substituted(found[1])},
        timeout=10,
    ).json()

    assert answer["status"] == "success"
    assert answer["data"] != []


def test_what_is_shown_of_the_stop_is_what_happened(prometheus: Prometheus) -> None:
    board: dict[str, Any] = dashboards()["remediator.json"]
    shown = {p["title"]: p["targets"][0]["expr"] for p in board["panels"] if "targets" in p}

    def value(title: str, **labels: str) -> float:
        rows = prometheus.query(substituted(shown[title]))
        return sum(row.value for row in rows if labels.items() <= row.labels.items())

    # `increase` reckons from samples around the range, and so gives a little more or less than 1.
    stop = {"remediation": "stop-container", "outcome": "succeeded"}
    eventually(lambda: value("Attempts, by outcome", **stop) > 0.5, 20, "the stop to be shown")
    assert value("Breaker") == 0
    assert value("Policy") == 1
    assert value("Held, by reason", reason="warned") > 0
