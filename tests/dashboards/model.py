"""What Grafana's JSON is made of, as far as our dashboards need it (schema 39: Grafana 10.4 on)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# As provisioned (compose/grafana/provisioning/datasources).
DATASOURCE = {"type": "prometheus", "uid": "remediator-prometheus"}
SCHEMA = 39
COLUMNS = 24

Thresholds = Sequence[tuple[float | None, str]]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel: an expression and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. ``unit`` is Grafana's id of a unit; ``overrides`` has one by column name."""

    kind: str
    title: str
    about: str
    queries: Sequence[Query]
    unit: str
    width: int = 12
    height: int = 8
    thresholds: Thresholds = ()
    overrides: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    stacked: bool = False
    most: float | None = None
    decimals: int | None = None
    words: Mapping[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """A heading over the panels that follow."""

    title: str


def stat(title: str, about: str, expr: str, unit: str, **more: Any) -> Panel:
    """Return a panel with one number."""
    return Panel("stat", title, about, [Query(expr)], unit, **{"width": 4, "height": 4, **more})


def series(title: str, about: str, queries: Sequence[Query], unit: str, **more: Any) -> Panel:
    """Return a panel with lines over time."""
    return Panel("timeseries", title, about, queries, unit, **more)


def bars(title: str, about: str, query: Query, unit: str, **more: Any) -> Panel:
    """Return a panel with a bar for each series, as it is now."""
    return Panel("bargauge", title, about, [query], unit, **more)


def table(title: str, about: str, queries: Sequence[Query], unit: str, **more: Any) -> Panel:
    """Return a table; several queries are joined by the labels that they share."""
    return Panel("table", title, about, queries, unit, **more)


def variable(name: str, label: str, query: str, *, several: bool = True) -> dict[str, Any]:
    """Return a variable that is asked of Prometheus; *several* may be chosen, at first all."""
    chosen = {"text": ["All"], "value": ["$__all"]} if several else {}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": chosen,
    }


def board(
    uid: str,
    title: str,
    about: str,
    content: Iterable[Panel | Row],
    variables: Sequence[Mapping[str, Any]] = (),
    *,
    since: str = "now-6h",
) -> dict[str, Any]:
    """Return a dashboard; panels are laid out from left to right, in the order given."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["remediator"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "time": {"from": since, "to": "now"},
        "timezone": "browser",
        "refresh": "30s",
        "links": [
            {
                "type": "dashboards",
                "title": "Dashboards",
                "tags": ["remediator"],
                "asDropdown": True,
                "includeVars": False,
                "keepTime": True,
            }
        ],
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "panels": _laid_out(content),
    }


def _laid_out(content: Iterable[Panel | Row]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    x = y = tallest = 0
    for number, part in enumerate(content, start=1):
        width, height = (COLUMNS, 1) if isinstance(part, Row) else (part.width, part.height)
        if x + width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        made = _row(part) if isinstance(part, Row) else _panel(part)
        panels.append({"id": number, **made, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, tallest = x + width, max(tallest, height)
    return panels


def _row(row: Row) -> dict[str, Any]:
    return {"type": "row", "title": row.title, "collapsed": False, "panels": []}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "targets": [_target(panel, query, n) for n, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": list(_overrides(panel))},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


def _target(panel: Panel, query: Query, number: int) -> dict[str, Any]:
    is_range = panel.kind == "timeseries"
    return {
        "refId": "ABCDEFGH"[number],
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": is_range,
        "instant": not is_range,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = panel.thresholds or ((None, "blue" if panel.kind != "timeseries" else "green"),)
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in steps],
        },
        "noValue": "no data",
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.words:
        options = {str(n): {"text": text, "color": c} for n, (text, c) in panel.words.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 30 if panel.stacked else 5,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
    return defaults


def _overrides(panel: Panel) -> Iterable[dict[str, Any]]:
    for column, unit in panel.overrides.items():
        yield {
            "matcher": {"id": "byName", "options": column},
            "properties": [{"id": "unit", "value": unit}],
        }


def _options(panel: Panel) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
    return {
        "reduceOptions": reduce,
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    }


def _transformations(panel: Panel) -> list[dict[str, Any]]:
    """Join a table's queries, and show the columns that are named, in their order."""
    if panel.kind != "table":
        return []
    order = {column: place for place, column in enumerate(panel.columns)}
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(panel.columns)}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": order,
                "renameByName": dict(panel.columns),
            },
        },
    ]
