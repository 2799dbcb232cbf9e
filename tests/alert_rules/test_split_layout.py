"""The configurations of a monitoring host whose GPU hosts are elsewhere."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.cli.main import main
from tests.alert_rules.shipped import (
    ALERTMANAGER,
    PROMETHEUS,
    REMOTE_PROMETHEUS,
    ROOT,
    RULE_FILES,
    read,
)

UNIT = ROOT / "compose" / "systemd" / "remediator-tunnel@.service"
README = ROOT / "compose" / "systemd" / "README.md"
HERE = {"prometheus", "alertmanager", "grafana"}
JOBS = {job["job_name"]: job for job in read(REMOTE_PROMETHEUS)["scrape_configs"]}

Require = Callable[[str], str]


def output_of(*command: str | Path) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_valid_and_loads_every_rule_file(require_tool: Require) -> None:
    answer = output_of(require_tool("promtool"), "check", "config", REMOTE_PROMETHEUS)

    assert f"{len(RULE_FILES)} rule files found" in answer


def test_nothing_that_one_machine_scrapes_is_left_out() -> None:
    assert {job["job_name"] for job in read(PROMETHEUS)["scrape_configs"]} <= set(JOBS)


def test_both_layouts_tell_alertmanager_the_host_alike() -> None:
    remote, local = (read(path)["alerting"] for path in (REMOTE_PROMETHEUS, PROMETHEUS))

    assert remote["alert_relabel_configs"] == local["alert_relabel_configs"]


@pytest.mark.parametrize("job", sorted(set(JOBS) - HERE))
def test_a_target_is_asked_through_its_tunnel_and_called_by_its_host(
    require_tool: Require, job: str
) -> None:
    promtool = require_tool("promtool")
    answer = output_of(
        *(promtool, "check", "service-discovery", "--timeout=300ms"), REMOTE_PROMETHEUS, job
    )

    found = {
        target["labels"]["instance"]: target["labels"]["__address__"]
        for target in json.loads(answer)
    }
    (port,) = {instance.partition(":")[2] for instance in found}
    tunnels = {f"gpu1:{port}": f"127.0.1.1:{port}", f"gpu2:{port}": f"127.0.1.2:{port}"}
    own = {"127.0.0.1:9100": "127.0.0.1:9100"} if job == "node-exporter" else {}
    assert found == {**tunnels, **own}
    assert port in re.findall(r"[A-Z]=(\d+)", UNIT.read_text())


def documented_routes(host: str, address: str) -> dict[str, Any]:
    """The README's routes and receivers, for *host* instead of gpu1."""
    (block,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    text = block.replace("gpu1", host).replace("127.0.1.1", address)
    routes: dict[str, Any] = yaml.safe_load(text)
    return routes


@pytest.fixture
def two_hosts(tmp_path: Path) -> Path:
    """The shipped configuration of Alertmanager, changed for two hosts as the README says."""
    configuration = read(ALERTMANAGER)
    hosts = [documented_routes("gpu1", "127.0.1.1"), documented_routes("gpu2", "127.0.1.2")]
    routes = configuration["route"]["routes"]
    receivers = [one for one in configuration["receivers"] if one["name"] != "remediator"]
    configuration["route"]["routes"] = [*(host["routes"][0] for host in hosts), *routes[1:]]
    configuration["receivers"] = [*(host["receivers"][0] for host in hosts), *receivers]
    configuration["templates"] = [str(ALERTMANAGER.parent / "templates" / "*.tmpl")]
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("host", "receivers"),
    [
        ("gpu1", "remediator-gpu1,admins"),
        ("gpu2", "remediator-gpu2,admins"),
        # The monitoring host's own: there is no Remediator.
        ("127.0.0.1", "admins"),
    ],
)
def test_an_alert_goes_to_the_receiver_of_its_host(
    require_tool: Require, two_hosts: Path, host: str, receivers: str
) -> None:
    amtool = require_tool("amtool")
    output_of(amtool, "check-config", two_hosts)
    output_of(
        *(amtool, "config", "routes", "test", f"--config.file={two_hosts}"),
        f"--verify.receivers={receivers}",
        *("alertname=DS01ExporterDown", "severity=critical", f"host={host}"),
    )


def test_check_finds_nothing_in_it(two_hosts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [two_hosts, REMOTE_PROMETHEUS, ROOT / "compose" / "policy.example.yaml", *RULE_FILES]

    code = main(["check", "--strict", *map(str, files)])

    assert (code, capsys.readouterr().out) == (0, f"{len(files)} files: nothing found\n")


def test_check_says_which_host_is_left_out(
    two_hosts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = two_hosts.read_text()
    two_hosts.write_text(text.replace("127.0.1.2:9095/api/v1/alerts", "127.0.1.2:9095/alerts"))

    assert main(["check", str(two_hosts)]) == 1
    assert "127.0.1.2:9095/alerts" in capsys.readouterr().out


def test_the_route_of_a_host_is_the_one_we_ship_but_for_the_host() -> None:
    route = documented_routes("gpu1", "127.0.1.1")["routes"][0]
    shipped = read(ALERTMANAGER)["route"]["routes"][0]

    assert {**route, "receiver": "remediator"} == {**shipped, "matchers": ['host="gpu1"']}
