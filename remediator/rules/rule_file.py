"""Reading files of alerting and recording rules, by Prometheus' own grammar.

Source: pkg/rulefmt of Prometheus 2.42 and, for newer fields, 3.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import promql_parser as pql
import yaml

from remediator.config.reader import Reader, is_null
from remediator.core.durations import parse_duration
from remediator.rules.findings import Finding, Kind, Place, at_node, finding
from remediator.rules.promql import PromqlError, offset_of, parse
from remediator.rules.texts import place_in

_GROUP = ("name", "interval", "query_offset", "limit", "labels", "rules")
_RULE = ("record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations")
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*", re.ASCII)
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; ``expr`` is None where it does not parse, ``interval`` where its group has none."""

    file: str
    source: str
    path: str
    name: str
    is_alert: bool
    nodes: Mapping[str, yaml.Node]
    node: yaml.Node
    text: str = ""
    expr: pql.Expr | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False
    group: str = ""
    interval: timedelta | None = None
    waits_for: timedelta = timedelta()
    keeps_for: timedelta = timedelta()

    def at(self, field_name: str = "") -> Place:
        """Return the place of one of its fields, of the rule itself if it has not got it."""
        node = self.nodes.get(field_name)
        if node is None:
            return at_node(self.file, self.node, self.path)
        return at_node(self.file, node, f"{self.path}.{field_name}")

    def at_word(self, word: str) -> Place:
        """Return the place of *word* in its expression."""
        return self.at_offset(offset_of(self.text, word))

    def at_offset(self, offset: int) -> Place:
        """Return the place of a character of its expression."""
        node = self.nodes["expr"]
        if not isinstance(node, yaml.ScalarNode):
            return self.at("expr")
        return place_in(self.file, self.source, node, offset, f"{self.path}.expr")

    def at_entry(self, field_name: str, key: str) -> Place:
        """Return the place of one of its labels or annotations."""
        node = self.nodes.get(field_name)
        for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if name.value == key:
                return at_node(self.file, value, f"{self.path}.{field_name}.{key}")
        return self.at(field_name)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of one file, and what is wrong with their expressions."""

    file: str
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...] = ()


def read_rule_file(reader: Reader, node: yaml.Node, source: str) -> RuleFile:
    """Return the rules under *node*; problems of the grammar are reported to *reader*."""
    fields = reader.mapping(node, "", ("groups",))
    reader.require(node, "", "groups")
    rules: list[Rule] = []
    seen: set[str] = set()
    groups = fields.get("groups")
    items = reader.sequence(groups, "groups") if groups is not None else []
    for number, group in enumerate(items):
        rules += _group(reader, group, f"groups[{number}]", seen, source)
    read = [_with_expression(rule) for rule in rules]
    findings = tuple(found for _, found in read if found is not None)
    return RuleFile(reader.file, tuple(rule for rule, _ in read), findings)


def _group(reader: Reader, node: yaml.Node, path: str, seen: set[str], source: str) -> list[Rule]:
    fields = reader.mapping(node, path, _GROUP)
    reader.require(node, path, "name")
    if "name" in fields:
        name = reader.text(fields["name"], f"{path}.name")
        if name in seen:
            reader.report(fields["name"], f"{path}.name", f'group "{name}" is given twice')
        seen.add(name)
    lasting = _durations(reader, fields, path, ("interval", "query_offset"))
    shared = _texts(reader, fields.get("labels"), f"{path}.labels")
    found = fields.get("rules")
    if found is None or is_null(found):
        return []
    named = str(getattr(fields.get("name"), "value", ""))
    return [
        replace(
            _rule(reader, item, f"{path}.rules[{number}]", source, shared),
            group=named,
            interval=lasting.get("interval"),
        )
        for number, item in enumerate(reader.sequence(found, f"{path}.rules"))
    ]


def _durations(
    reader: Reader, fields: Mapping[str, yaml.Node], path: str, keys: Iterable[str]
) -> dict[str, timedelta]:
    found = {
        key: reader.parsed(fields[key], f"{path}.{key}", parse_duration, None)
        for key in keys
        if key in fields
    }
    return {key: lasting for key, lasting in found.items() if lasting is not None}


def _rule(
    reader: Reader, node: yaml.Node, path: str, source: str, shared: Mapping[str, str]
) -> Rule:
    fields = reader.mapping(node, path, _RULE)
    named = [key for key in ("alert", "record") if key in fields]
    if isinstance(node, yaml.MappingNode) and len(named) != 1:
        reader.report(node, path, "exactly one of record and alert is needed")
    kind = named[0] if named else "alert"
    name = reader.text(fields[kind], f"{path}.{kind}") if named else ""
    _check_name(reader, fields, kind, name, path)
    reader.require(node, path, "expr")
    lasting = _durations(reader, fields, path, ("for", "keep_firing_for"))
    return Rule(
        file=reader.file,
        source=source,
        path=path,
        name=name,
        is_alert=kind == "alert",
        nodes=fields,
        node=node,
        text=_expression(reader, fields.get("expr"), f"{path}.expr"),
        labels={**shared, **_texts(reader, fields.get("labels"), f"{path}.labels")},
        annotations=_texts(reader, fields.get("annotations"), f"{path}.annotations"),
        waits="for" in fields,
        waits_for=lasting.get("for", timedelta()),
        keeps_for=lasting.get("keep_firing_for", timedelta()),
    )


def _check_name(
    reader: Reader, fields: Mapping[str, yaml.Node], kind: str, name: str, path: str
) -> None:
    if kind != "record":
        return
    if name and not _METRIC.fullmatch(name):
        reader.report(fields["record"], f"{path}.record", f'"{name}" is not a metric name')
    for key in ("for", "keep_firing_for", "annotations"):
        if key in fields:
            message = f'"{key}" belongs to an alert, and this is a recording rule'
            reader.report(fields[key], f"{path}.{key}", message)


def _expression(reader: Reader, node: yaml.Node | None, path: str) -> str:
    if node is None or is_null(node):
        return ""
    if not isinstance(node, yaml.ScalarNode):
        reader.text(node, path)
        return ""
    return str(node.value)


def _texts(reader: Reader, node: yaml.Node | None, path: str) -> dict[str, str]:
    if node is None or is_null(node):
        return {}
    found = {}
    for name, value in reader.mapping(node, path).items():
        if not _LABEL.fullmatch(name):
            reader.report(value, f"{path}.{name}", f'"{name}" is not a label name')
        if not isinstance(value, yaml.ScalarNode):
            reader.text(value, f"{path}.{name}")
            continue
        found[name] = str(value.value)
    return found


def _with_expression(rule: Rule) -> tuple[Rule, Finding | None]:
    if not isinstance(rule.nodes.get("expr"), yaml.ScalarNode):
        return rule, None
    try:
        expr = parse(rule.text)
    except PromqlError as error:
        return rule, finding(Kind.PROMQL, rule.at_offset(error.offset), str(error))
    return replace(rule, expr=expr), None
