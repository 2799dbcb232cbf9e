"""A GPU becomes too hot, with everything real but the NVIDIA driver: limited, and put back."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml

from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.ports import LOOPBACK
from tests.peers.prometheus import Prometheus
from tests.peers.site import ROOT, Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

SETTLED = (
    "SELECT state FROM attempt WHERE remediation = 'cap-power'"
    " AND ended_at NOT NULL AND state <> 'refused'"
)
RESTORED = "SELECT count(*) FROM notice WHERE kind = 'restored' AND state = 'sent'"


def shipped_policy(**changes: Any) -> dict[str, Any]:
    """The shipped rule about hot GPUs, allowed to act; *changes* to its first rung."""
    policy = yaml.safe_load((ROOT / "compose" / "policy.example.yaml").read_text())
    [rule] = [rule for rule in policy["rules"] if rule["name"] == "hot GPU"]
    rule["do"][0].update(changes)
    return {"mode": "act", "rules": [rule]}


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


@pytest.fixture
def site(stage: Stage, engine: DockerEngine, gpus: GpuHost) -> Site:
    site = Site(stage, engine, gpus, policy=shipped_policy(), waits="2s")
    site.mail = stage.mail_server()
    return site


def limit(gpus: GpuHost, gpu: int = 0) -> int:
    return int(gpus.get(gpu, "power_limit_mw")) // 1000


def resolved(prometheus: Prometheus) -> bool:
    return not prometheus.query('ALERTS{alertname=~"DS01GPU.*Temperature"}')


def test_a_hot_gpu_is_limited_until_it_has_cooled_down(site: Site, gpus: GpuHost) -> None:
    gpus.set(0, power_limit_mw=390_000)
    site.start()

    gpus.set(0, temp=92)
    site.until(SETTLED, "succeeded", within=60)
    limited = limit(gpus)
    lasting = "remediator_lasting_effects"
    eventually(lambda: metric(site, lasting) == 1, 10, "it is counted as lasting")
    gpus.set(0, temp=60)
    eventually(lambda: limit(gpus) == 390, 60, "the limit to be what it was")
    site.until(RESTORED, 1, within=10)

    assert limited == 280
    assert limit(gpus, 1) == 400
    assert site.ask("SELECT count(*) FROM attempt WHERE state <> 'refused'") == 1
    assert site.mail is not None
    subjects = [mail.subject for mail in site.mail.to("admins@example.org")]
    assert [s for s in subjects if "GPU 0 on gpu-host was limited in its power" in s]
    assert [s for s in subjects if "cap-power has ended for GPU 0 on gpu-host" in s]
    story = site.run("incidents", "show", "1")
    for part in (
        'policy rule "hot GPU"',
        f"nvml agrees: GPU 0 ({gpus.uuid(0)}) is at 92 °C, draws 60 W, is limited to 390 W",
        f"cap: power limit of GPU {gpus.uuid(0)} from 390 W to 280 W",
        "the limit in force is 280 W, it is at 92 °C",
        f"restore: power limit of GPU {gpus.uuid(0)} from 280 W to 390 W",
        "cap-power: its power limit is 390 W again, as before",
    ):
        assert part in story


def test_a_worker_that_is_killed_puts_it_back_when_it_is_started_again(
    site: Site, gpus: GpuHost
) -> None:
    prometheus, _ = site.start_watching()
    site.start_receiver()
    worker = site.start_worker()
    gpus.set(0, temp=92)
    site.until(SETTLED, "succeeded", within=60)

    worker.kill()
    gpus.set(0, temp=60)
    eventually(lambda: resolved(prometheus), 60, "the alert to end while nobody works")
    assert limit(gpus) == 280
    worker.start()

    eventually(lambda: limit(gpus) == 400, 60, "the limit to be put back")
    site.until(RESTORED, 1, within=10)


def test_a_gpu_that_stays_hot_is_left_to_people(site: Site, gpus: GpuHost) -> None:
    site.policy = shipped_policy(cooldown="2s")
    site.start()

    gpus.set(0, temp=92)
    told = "SELECT state FROM attempt WHERE remediation = 'notify-only' AND ended_at NOT NULL"
    site.until(told, "succeeded", within=60)

    assert limit(gpus) == 280
    capped = "SELECT count(*) FROM attempt WHERE remediation = 'cap-power' AND state <> 'refused'"
    assert site.ask(capped) == 1
    body = site.ask("SELECT body FROM notice WHERE kind = 'informed'")
    assert "it is limited to 280 W already" in str(body)


def metric(site: Site, name: str) -> float:
    text = requests.get(f"http://{LOOPBACK}:{site.worker_port}/metrics", timeout=10).text
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])
