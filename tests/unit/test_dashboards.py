"""The dashboards as files: what Grafana wants of them, as far as that can be told without it."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards import dashboards
from tests.dashboards.model import COLUMNS, DATASOURCE

GRAFANA = Path(__file__).resolve().parents[2] / "compose" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
BOARDS: list[dict[str, Any]] = [json.loads(path.read_text()) for path in FILES]
PANELS = [
    pytest.param(panel, id=f"{board['uid']}: {panel['title']}")
    for board in BOARDS
    for panel in board["panels"]
    if panel["type"] != "row"
]
# Those of Grafana's own that are used here (packages/grafana-data/src/valueFormats).
UNITS = {
    *("none", "short", "percent", "percentunit", "celsius", "watt", "joule", "s", "h", "cpm"),
    *("bytes", "mbytes", "rotmhz"),
}


def test_the_files_are_what_is_generated() -> None:
    assert {path.name: board for path, board in zip(FILES, BOARDS, strict=True)} == dashboards(), (
        "write them by: python -m tests.dashboards"
    )


def test_dashboards_keep_their_address_and_their_name() -> None:
    assert {board["uid"]: board["title"] for board in BOARDS} == {
        "ds01-overview": "DS01 Overview",
        "ds01-my-usage": "DS01 My Usage",
        "nvidia-dcgm": "NVIDIA DCGM GPU Metrics",
        "remediator": "Remediator",
    }


def test_the_datasource_is_the_one_that_is_provisioned() -> None:
    provisioned = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    )
    (source,) = provisioned["datasources"]

    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    used = re.findall(r'"datasource": (\{[^}]*\})', json.dumps(BOARDS))
    assert {json.dumps(json.loads(text)) for text in used} == {json.dumps(DATASOURCE)}


def test_the_provisioned_folder_is_where_compose_mounts_the_dashboards() -> None:
    providers = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "remediator.yaml").read_text()
    )["providers"]
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())
    mounts = compose["services"]["grafana"]["volumes"]

    assert f"./grafana/dashboards:{providers[0]['options']['path']}:ro" in mounts
    assert "./grafana/provisioning:/etc/grafana/provisioning:ro" in mounts


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_a_dashboard_is_well_formed(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    titles = [panel["title"] for panel in board["panels"]]

    assert isinstance(board["schemaVersion"], int)
    assert "id" not in board, "Grafana gives the number; one of a file would be another's"
    assert re.fullmatch(r"[a-z0-9-]{1,40}", board["uid"])
    assert board["description"].endswith(".")
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) >= len(titles) - 1, "two of one name can only be two views of one thing"
    assert len({v["name"] for v in board["templating"]["list"]}) == len(board["templating"]["list"])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_no_panel_lies_over_another_or_out_of_the_grid(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]

    for place in places:
        assert place["x"] >= 0
        assert place["w"] > 0
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    units = {panel["fieldConfig"]["defaults"]["unit"]} | {
        prop["value"] for rule in panel["fieldConfig"]["overrides"] for prop in rule["properties"]
    }

    assert panel["type"] in {"stat", "timeseries", "bargauge", "table"}
    assert panel["description"].endswith(".")
    assert units <= UNITS
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)
    assert {target["range"] for target in panel["targets"]} == {panel["type"] == "timeseries"}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_every_variable_is_used_and_every_used_one_is_there(board: dict[str, Any]) -> None:
    expressions = json.dumps([panel.get("targets") for panel in board["panels"]])
    queries = json.dumps([v["query"] for v in board["templating"]["list"]])
    used = set(re.findall(r"\$(\w+)", expressions + queries)) - {"__range", "__rate_interval"}

    assert used == {variable["name"] for variable in board["templating"]["list"]}


@pytest.mark.parametrize("panel", [p for p in PANELS if p.values[0]["type"] == "table"])  # type: ignore[index]
def test_a_table_names_the_columns_that_its_queries_give(panel: dict[str, Any]) -> None:
    organized = panel["transformations"][-1]["options"]
    columns = set(organized["renameByName"])
    values = {column for column in columns if column.startswith("Value")}

    many = len(panel["targets"]) > 1
    assert values == ({f"Value #{t['refId']}" for t in panel["targets"]} if many else set())
    overridden = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
    assert overridden <= set(organized["renameByName"].values())
