"""`make demo SCENARIO=idle`, as its recipe runs it: from the metric to the mail, to its end."""

import subprocess
import sys

import pytest
from docker import DockerClient

from tests.alert_rules.shipped import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]


def test_the_demo_ends_well(docker_client: DockerClient) -> None:
    recipe = (ROOT / "Makefile").read_text()
    assert "$(BIN)/python -m tests.peers.demo $(SCENARIO)" in recipe
    assert docker_client.ping()

    done = subprocess.run(
        [sys.executable, "-m", "tests.peers.demo", "idle"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "stop-container" in done.stdout
