"""`remediator check --prometheus`: shipped rules in a real Prometheus, over the real exporter."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remediator.cli.main import main
from tests.alert_rules.shipped import POLICY, ROOT
from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.prometheus import Prometheus
from tests.peers.site import Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

RULES = ROOT / "alert_rules"
EDITED = """\
groups:
  - name: heat
    rules:
      - alert: DS01GPUHighTemperature
        expr: last_over_time(ds01:gpu_temperature_celsius[1m]) > 80
      - alert: DS01GPUHighTemperatur
        expr: max by (instance, UUID) (DCGM_FI_DEV_GPU_TEMP{Hostname!="", namespace="a"}) > 80
      - record: ds01:gpu_temperature_celsius
        expr: max by (UUID, gpu, instance) (DCGM_FI_DEV_GPU_TEMPS)
"""


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(2) as host:
        yield host


@pytest.fixture
def prometheus(
    stage: Stage, engine: DockerEngine, gpus: GpuHost, docker_client: object
) -> Prometheus:
    """One that has seen a GPU container run and told an Alertmanager."""
    del docker_client
    site = Site(stage, engine, gpus)
    prometheus, _ = site.start_watching()
    run_gpu_container(site.docker, gpus, "train")
    eventually(lambda: prometheus.query("ds01:container_cpu_percent"), 60, "it is known to rules")
    return prometheus


def check(capsys: pytest.CaptureFixture[str], url: str, rules: Path) -> list[dict[str, Any]]:
    arguments = ["check", "--json", "--policy", POLICY, "--rules", rules, "--prometheus", url]
    main([str(argument) for argument in arguments])
    findings: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
    return findings


def test_the_shipped_rules_have_what_they_need_of_the_exporter(
    prometheus: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = check(capsys, prometheus.url, RULES)

    # Node exporter and Remediator do not run here and Prometheus is not scraped; what nobody has,
    # and what has not happened, has no series.
    others = [one for one in missing if one["code"] != "RM502"]
    assert not others
    names = [one["message"].split()[5] for one in missing]
    elsewhere = ("node_", "remediator_", "prometheus_", "ds01:")
    assert {name for name in names if not name.startswith(elsewhere)} <= {
        *("DCGM_EXP_XID_ERRORS_COUNT", "ds01_mig_slot_info", "ds01_gpu_orphan_process"),
        *("ds01_container_finished_time_seconds", "ds01_container_keep_alive_until_seconds"),
        *("ds01_container_memory_limit_bytes", "ds01_container_max_runtime_seconds"),
        *("ds01_unmanaged_gpu_container", "ds01_state_disk_bytes"),
    }

    (tmp_path / "edited.yml").write_text(EDITED)
    found = [
        (one["code"], one["line"], one["message"])
        for one in check(capsys, prometheus.url, tmp_path / "edited.yml")
        if one["code"].startswith("RM5")
    ]

    assert found == [
        (
            "RM504",
            4,
            '"DS01GPUHighTemperature" has another expression there: reload Prometheus',
        ),
        (
            "RM504",
            6,
            '"DS01GPUHighTemperatur" is not loaded there (did you mean "DS01GPUHighTemperature"?)',
        ),
        ("RM503", 7, 'DCGM_FI_DEV_GPU_TEMP has no label "namespace" there'),
        (
            "RM504",
            8,
            '"ds01:gpu_temperature_celsius" has another expression there: reload Prometheus',
        ),
        (
            "RM502",
            9,
            "there is no series of DCGM_FI_DEV_GPU_TEMPS there"
            ' (did you mean "DCGM_FI_DEV_GPU_TEMP"?)',
        ),
    ]


def test_a_rule_that_fails_and_a_prometheus_that_tells_nobody(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(
        "groups:\n  - name: own\n    rules:\n      - record: one:two\n"
        "        expr: up + on (instance) group_left prometheus_build_info"
        " + on (instance) prometheus_target_interval_length_seconds\n"
    )
    prometheus = stage.prometheus([rules])
    prometheus.add_target("prometheus", prometheus.address)
    expected = {"RM505", "RM506"}
    eventually(lambda: codes(capsys, prometheus, rules) >= expected, 60, "both are found")


def test_a_prometheus_that_does_not_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "edited.yml").write_text(EDITED)

    found = check(capsys, f"http://{LOOPBACK}:{free_port()}", tmp_path / "edited.yml")

    assert [one["code"] for one in found if one["code"].startswith("RM5")] == ["RM501"]


def codes(capsys: pytest.CaptureFixture[str], prometheus: Prometheus, rules: Path) -> set[str]:
    return {str(one["code"]) for one in check(capsys, prometheus.url, rules)}
