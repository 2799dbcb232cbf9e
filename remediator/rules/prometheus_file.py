"""Reading Prometheus' configuration, as far as rules and routes depend on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import yaml

from remediator.config.reader import Reader, is_null
from remediator.core.durations import parse_duration
from remediator.rules.findings import Place, at_node

_TOP = (
    *("global", "runtime", "alerting", "rule_files", "scrape_configs", "scrape_config_files"),
    *("remote_write", "remote_read", "storage", "tracing", "otlp"),
)
_DEFAULT_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PrometheusFile:
    """One Prometheus's configuration: what it scrapes, evaluates and tells.

    ``added`` are the labels that it gives to series or alerts beyond those of the exporters.
    """

    file: str
    place: Place
    jobs: tuple[str, ...] = ()
    rule_files: tuple[str, ...] = ()
    rule_files_place: Place = field(default=Place(""))
    has_alertmanager: bool = False
    series_labels: frozenset[str] = frozenset()
    alert_labels: frozenset[str] = frozenset()
    interval: timedelta = _DEFAULT_INTERVAL


def read_prometheus_file(reader: Reader, node: yaml.Node) -> PrometheusFile:
    """Return the configuration under *node*; problems of the grammar are reported to *reader*."""
    fields = reader.mapping(node, "", _TOP)
    place = at_node(reader.file, node)
    scrapes = list(_mappings(reader, fields.get("scrape_configs"), "scrape_configs"))
    jobs = tuple(_jobs(reader, scrapes))
    patterns = fields.get("rule_files")
    given = reader.mapping(fields["global"], "global") if "global" in fields else {}
    alerting = reader.mapping(fields["alerting"], "alerting") if "alerting" in fields else {}
    return PrometheusFile(
        file=reader.file,
        place=place,
        jobs=jobs,
        rule_files=()
        if patterns is None or is_null(patterns)
        else tuple(
            reader.text(item, "rule_files") for item in reader.sequence(patterns, "rule_files")
        ),
        rule_files_place=place
        if patterns is None
        else at_node(reader.file, patterns, "rule_files"),
        has_alertmanager="alertmanagers" in alerting and not is_null(alerting["alertmanagers"]),
        series_labels=frozenset(_series_labels(scrapes)),
        alert_labels=frozenset(_alert_labels(given, alerting)),
        interval=_interval(reader, given),
    )


def _interval(reader: Reader, given: Mapping[str, yaml.Node]) -> timedelta:
    node = given.get("scrape_interval")
    if node is None:
        return _DEFAULT_INTERVAL
    return reader.parsed(node, "global.scrape_interval", parse_duration, _DEFAULT_INTERVAL)


def _jobs(reader: Reader, scrapes: list[tuple[yaml.Node, str]]) -> Iterator[str]:
    seen: set[str] = set()
    for node, path in scrapes:
        reader.require(node, path, "job_name")
        found = _get(node, "job_name")
        name = reader.text(found, f"{path}.job_name") if found is not None else ""
        if name and name in seen:
            reader.report(node, f"{path}.job_name", f'job "{name}" is given twice')
        seen.add(name)
        if name:
            yield name


def _series_labels(scrapes: list[tuple[yaml.Node, str]]) -> Iterator[str]:
    for node, _ in scrapes:
        for one in _items(_get(node, "static_configs")):
            yield from _keys(_get(one, "labels"))
        for key in ("relabel_configs", "metric_relabel_configs"):
            yield from _targets(_get(node, key))


def _alert_labels(
    given: Mapping[str, yaml.Node], alerting: Mapping[str, yaml.Node]
) -> Iterator[str]:
    yield from _keys(given.get("external_labels"))
    yield from _targets(alerting.get("alert_relabel_configs"))


def _targets(node: yaml.Node | None) -> Iterator[str]:
    for item in _items(node):
        target = _get(item, "target_label")
        if isinstance(target, yaml.ScalarNode):
            yield str(target.value)


def _mappings(reader: Reader, node: yaml.Node | None, path: str) -> Iterator[tuple[yaml.Node, str]]:
    if node is None or is_null(node):
        return
    for number, item in enumerate(reader.sequence(node, path)):
        reader.mapping(item, f"{path}[{number}]")
        yield item, f"{path}[{number}]"


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _keys(node: yaml.Node | None) -> list[str]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [str(key.value) for key, _ in pairs]


def _get(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)
