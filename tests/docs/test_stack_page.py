"""The page about the stack says what the compose file says."""

import re
from typing import Any

import pytest
import yaml

from tests.docs.documents import ROOT, part, rows

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((ROOT / "compose" / "prometheus.yml").read_text())
# The jobs of services that are called otherwise.
JOBS = {"exporter": "ds01-exporter", "receiver": "remediator-receiver"}
JOBS["worker"] = "remediator-worker"


def cells(name: str) -> dict[str, list[str]]:
    """The other cells of each row, by the word in backquotes that the row begins with."""
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", part(name), re.MULTILINE)
    return {first: [cell.strip() for cell in rest.split("|")] for first, rest in lines}


def mounts() -> dict[str, set[str]]:
    """Which services have something mounted at each place."""
    found: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            # The source may hold a colon in ${NAME:-default}.
            place = re.sub(r"\$\{[^}]*\}", "", volume).split(":")[1]
            found.setdefault(place, set()).add(name)
    return found


def test_every_service_is_in_the_table() -> None:
    assert set(rows("stack-services")) == SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_port_that_prometheus_asks_and_the_rights_that_are_told(
    name: str,
) -> None:
    port, _, rights = cells("stack-services")[name]
    (job,) = [j for j in PROMETHEUS["scrape_configs"] if j["job_name"] == JOBS.get(name, name)]

    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    assert re.findall(r"`(\w+)`", rights) == sorted(SERVICES[name].get("cap_add", []))
    assert ("processes" in rights) is (SERVICES[name].get("pid") == "host")


def test_every_mount_is_explained_and_is_where_the_page_says() -> None:
    told = {place: set(row[0].split(", ")) for place, row in cells("stack-mounts").items()}

    assert told == mounts()


def test_every_variable_of_the_example_is_explained_with_its_default() -> None:
    lines = (ROOT / "compose" / ".env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert {name: row[0].strip("`") for name, row in cells("stack-env").items()} == example
