"""Everything that is checked together, each file recognised by what is in it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from remediator.config.limits import read_limits
from remediator.config.policy import read_policy
from remediator.config.reader import Reader, did_you_mean, parse_nodes, read_text
from remediator.config.settings import SETTINGS_FIELDS, Settings, read_settings
from remediator.core.limits import LimitsBook
from remediator.errors import ConfigError, Problem
from remediator.rules.alertmanager_file import AlertmanagerFile, read_alertmanager_file
from remediator.rules.findings import Finding, Kind, Place, finding
from remediator.rules.policy_nodes import PolicyFile
from remediator.rules.prometheus_file import PrometheusFile, read_prometheus_file
from remediator.rules.rule_file import RuleFile, read_rule_file

_PROBLEM = re.compile(r"(.+?):(\d+):(\d+): (.*)")
_CLOSE = 0.8
_SUFFIXES = frozenset({".yml", ".yaml"})
_LIMITS = frozenset({"defaults", "default_group", "policies", "container_types", "user_overrides"})
_PROMETHEUS = frozenset({"scrape_configs", "rule_files", "alerting"})
_SETTINGS = frozenset(SETTINGS_FIELDS)


@dataclass(slots=True)
class Gathered:
    """What was read; what could not be read is among the findings."""

    files: list[str] = field(default_factory=list)
    rule_files: list[RuleFile] = field(default_factory=list)
    alertmanager: AlertmanagerFile | None = None
    prometheus: PrometheusFile | None = None
    policy: PolicyFile | None = None
    limits: LimitsBook | None = None
    settings: Settings | None = None
    settings_place: Place | None = None
    findings: list[Finding] = field(default_factory=list)

    def take(self, path: Path) -> None:
        """Read the file at *path*, or every YAML file of the folder, as what it is."""
        for file in _files(path):
            self._take(file, None, in_folder=path.is_dir())

    def take_as(self, path: Path, what: str) -> None:
        """Read the file at *path* as *what* it is said to be, such as ``policy``."""
        for file in _files(path):
            self._take(file, what)

    def _take(self, path: Path, what: str | None, *, in_folder: bool = False) -> None:
        self.files.append(str(path))
        try:
            source = read_text(path)
            reader, node = parse_nodes(source, str(path))
        except ConfigError as error:
            self._report(Kind.UNREADABLE, error.problems)
            return
        kind = what or recognise(node)
        if kind is None:
            hint = _misspelt(node)
            if in_folder and not hint:
                # A folder may hold other things too, and what is read with the limits.
                self.files.pop()
                return
            message = f"neither rules, Alertmanager's or Prometheus' configuration nor ours{hint}"
            self.findings.append(finding(Kind.UNRECOGNISED, Place(str(path)), message))
            return
        try:
            _TAKERS[kind](self, path, reader, node, source)
        except RecursionError:
            # An alias may stand within its own anchor.
            message = "a part of it is within itself"
            self.findings.append(finding(Kind.UNREADABLE, Place(str(path)), message))

    def _take_rules(self, path: Path, reader: Reader, node: yaml.Node, source: str) -> None:
        del path
        read = read_rule_file(reader, node, source)
        self._report(Kind.RULES_GRAMMAR, reader.problems)
        self.findings += read.findings
        self.rule_files.append(read)

    def _take_alertmanager(self, path: Path, reader: Reader, node: yaml.Node, source: str) -> None:
        del path, source
        read = read_alertmanager_file(reader, node)
        self._report(Kind.ALERTMANAGER_GRAMMAR, reader.problems)
        self.alertmanager = read if read.route is not None else None

    def _take_prometheus(self, path: Path, reader: Reader, node: yaml.Node, source: str) -> None:
        del path, source
        self.prometheus = read_prometheus_file(reader, node)
        self._report(Kind.PROMETHEUS_GRAMMAR, reader.problems)

    def _take_policy(self, path: Path, reader: Reader, node: yaml.Node, source: str) -> None:
        del reader, source
        try:
            self.policy = PolicyFile(str(path), read_policy(path), node)
        except ConfigError as error:
            self._report(Kind.POLICY_GRAMMAR, error.problems)

    def _take_limits(self, path: Path, reader: Reader, node: yaml.Node, source: str) -> None:
        del reader, node, source
        try:
            self.limits = read_limits(path)
        except ConfigError as error:
            self._report(Kind.LIMITS_GRAMMAR, error.problems)
            return
        for void in self.limits.void_exemptions:
            self._report(Kind.VOID_EXEMPTION, [_problem(line, path) for line in void.splitlines()])

    def _take_settings(self, path: Path, reader: Reader, node: yaml.Node, source: str) -> None:
        del reader, node, source
        try:
            self.settings = read_settings(path, {})
            self.settings_place = Place(str(path))
        except ConfigError as error:
            self._report(Kind.SETTINGS_GRAMMAR, error.problems)

    def _report(self, kind: Kind, problems: Iterable[Problem]) -> None:
        self.findings += [Finding(kind, problem) for problem in problems]


def recognise(node: yaml.Node) -> str | None:
    """Return what kind of file *node* is the top of, None if it is none of those we know."""
    if not isinstance(node, yaml.MappingNode):
        return None
    fields = {str(key.value): value for key, value in node.value}
    if isinstance(fields.get("groups"), yaml.SequenceNode):
        return "rules"
    if {"route", "receivers"} & fields.keys():
        return "alertmanager"
    if _PROMETHEUS & fields.keys():
        return "prometheus"
    if "rules" in fields or {"never", "breaker"} & fields.keys():
        return "policy"
    if "groups" in fields or _LIMITS & fields.keys():
        return "limits"
    return "settings" if _SETTINGS & fields.keys() else None


def _misspelt(node: yaml.Node) -> str:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    known = sorted({"route", "receivers", "groups", "rules", *_LIMITS, *_PROMETHEUS, *_SETTINGS})
    hints = (did_you_mean(str(key.value), known, _CLOSE) for key, _ in pairs)
    return next((hint for hint in hints if hint), "")


_Taker = Callable[[Gathered, Path, Reader, yaml.Node, str], None]
_TAKERS: dict[str, _Taker] = {
    "rules": Gathered._take_rules,
    "alertmanager": Gathered._take_alertmanager,
    "prometheus": Gathered._take_prometheus,
    "policy": Gathered._take_policy,
    "limits": Gathered._take_limits,
    "settings": Gathered._take_settings,
}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _problem(text: str, path: Path) -> Problem:
    """Return the problem that *text* was made from; a void exemption is kept as a text."""
    found = _PROBLEM.fullmatch(text)
    if found is None:
        return Problem(str(path), 1, 1, "", text)
    return Problem(found[1], int(found[2]), int(found[3]), "", found[4])
