"""The shipped compose file of the DCGM exporter, as compose itself reads it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.integration

COMPOSE = Path(__file__).resolve().parents[2] / "compose" / "dcgm-exporter.compose.yaml"
NAME = "ds01-dcgm-exporter"


@pytest.fixture
def compose_config(require_tool: Callable[[str], str]) -> dict[str, Any]:
    done = subprocess.run(
        [require_tool("docker-compose"), "--file", str(COMPOSE), "config"],
        env={**os.environ, "DCGM_EXPORTER_IMAGE": "exporter@sha256:" + "0" * 64},
        capture_output=True,
        text=True,
        check=True,
    )
    config: dict[str, Any] = yaml.safe_load(done.stdout)
    return config


def test_compose_takes_the_file_and_leaves_the_container_to_the_unit(
    compose_config: dict[str, Any],
) -> None:
    service = compose_config["services"]["dcgm-exporter"]

    assert service["restart"] == "no"
    assert service["container_name"] == NAME
    assert (service["stop_signal"], service["stop_grace_period"]) == ("SIGTERM", "45s")
    assert service["labels"] == {"ds01.monitoring": "true"}
    assert [str(port) for port in service["ports"]] == ["127.0.0.1:9400:9400/tcp"]


def test_compose_makes_nothing_without_an_image(require_tool: Callable[[str], str]) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DCGM_EXPORTER_IMAGE"}
    command = [require_tool("docker-compose"), "--file", str(COMPOSE), "config"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "set it to the image of dcgm-exporter" in done.stderr
