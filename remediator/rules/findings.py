"""What `remediator check` can find: one stable code for each kind.

`FINDINGS.md` beside this file explains every code; a test compares the two. A code is never used
again for something else.
"""

import enum
from dataclasses import dataclass

import yaml

from remediator.errors import Problem


class Severity(enum.Enum):
    """What a finding means: an error does harm as it stands, a warning may be meant."""

    ERROR = "error"
    WARNING = "warning"


class Kind(enum.Enum):
    """Every kind of finding: its code, and how bad it is."""

    UNREADABLE = ("RM001", Severity.ERROR)
    UNRECOGNISED = ("RM002", Severity.ERROR)
    POLICY_GRAMMAR = ("RM003", Severity.ERROR)
    LIMITS_GRAMMAR = ("RM004", Severity.ERROR)
    SETTINGS_GRAMMAR = ("RM005", Severity.ERROR)
    RULES_GRAMMAR = ("RM006", Severity.ERROR)
    ALERTMANAGER_GRAMMAR = ("RM007", Severity.ERROR)
    PROMETHEUS_GRAMMAR = ("RM008", Severity.ERROR)
    VOID_EXEMPTION = ("RM009", Severity.WARNING)

    PROMQL = ("RM101", Severity.ERROR)
    ALERT_TWICE = ("RM102", Severity.ERROR)
    RECORD_TWICE = ("RM103", Severity.ERROR)
    VALUE_IN_LABEL = ("RM104", Severity.ERROR)
    UNKNOWN_METRIC = ("RM105", Severity.ERROR)
    NO_SUCH_LABEL = ("RM106", Severity.ERROR)
    WRONG_UNIT = ("RM107", Severity.ERROR)
    NO_FOR = ("RM108", Severity.WARNING)
    NO_ANNOTATION = ("RM109", Severity.WARNING)
    ANNOTATION_LABEL = ("RM110", Severity.WARNING)
    ALWAYS_FIRES = ("RM111", Severity.ERROR)
    RATE_OF_GAUGE = ("RM112", Severity.WARNING)
    SHORT_RANGE = ("RM113", Severity.ERROR)

    MATCHES_NO_ALERT = ("RM201", Severity.ERROR)
    NO_POLICY_RULE = ("RM202", Severity.WARNING)
    SHADOWED = ("RM203", Severity.ERROR)
    LABEL_NOT_YIELDED = ("RM204", Severity.ERROR)
    LABEL_DROPPED = ("RM205", Severity.ERROR)
    OVER_BREAKER = ("RM206", Severity.WARNING)
    LONG_WARNING = ("RM207", Severity.WARNING)
    LONG_GRACE = ("RM208", Severity.ERROR)
    NO_OWNER = ("RM209", Severity.WARNING)
    NO_WARNING = ("RM210", Severity.WARNING)
    NAMES_NO_ALERT = ("RM211", Severity.ERROR)

    NO_RECEIVER = ("RM301", Severity.ERROR)
    NOT_ROUTED = ("RM302", Severity.ERROR)
    WEBHOOK_PATH = ("RM303", Severity.ERROR)
    NOT_TOLD_RESOLVED = ("RM304", Severity.ERROR)
    TRUNCATES = ("RM305", Severity.ERROR)
    NO_TOKEN = ("RM306", Severity.ERROR)
    LUMPED = ("RM307", Severity.WARNING)
    INHIBITED = ("RM308", Severity.ERROR)
    MUTED_AT_TIMES = ("RM309", Severity.WARNING)
    OTHER_PORT = ("RM310", Severity.ERROR)

    RULES_NOT_LOADED = ("RM401", Severity.ERROR)
    NO_ALERTMANAGER = ("RM402", Severity.ERROR)
    UNKNOWN_JOB = ("RM403", Severity.WARNING)

    NO_ANSWER = ("RM501", Severity.ERROR)
    NO_SUCH_SERIES = ("RM502", Severity.WARNING)
    NO_SUCH_SERIES_LABEL = ("RM503", Severity.WARNING)
    NOT_LOADED_THERE = ("RM504", Severity.ERROR)
    NO_ALERTMANAGER_THERE = ("RM505", Severity.ERROR)
    RULE_FAILS = ("RM506", Severity.ERROR)

    def __init__(self, code: str, severity: Severity) -> None:
        self.code = code
        self.severity = severity


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: lines and columns count from 1, the path names the field."""

    file: str
    line: int = 1
    column: int = 1
    path: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not fit, and where."""

    kind: Kind
    problem: Problem

    @property
    def order(self) -> tuple[Problem, str]:
        """The order in which findings are told: by place, then by code."""
        return self.problem, self.kind.code

    def __str__(self) -> str:
        return f"{self.problem} [{self.kind.severity.value} {self.kind.code}]"


def at_node(file: str, node: yaml.Node, path: str = "") -> Place:
    """Return the place of a YAML node."""
    return Place(file, node.start_mark.line + 1, node.start_mark.column + 1, path)


def finding(kind: Kind, place: Place, message: str) -> Finding:
    """Return a finding at *place*."""
    problem = Problem(place.file, place.line, place.column, place.path, message)
    return Finding(kind, problem)
