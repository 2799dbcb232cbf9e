"""Read YAML as nodes instead of plain values, so that every problem knows its line and column.

All problems of a file are collected and raised together: an administrator who has to fix five
things should not need five runs to learn of them.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import yaml

from remediator.core.durations import format_duration, parse_duration
from remediator.errors import ConfigError, Problem

T = TypeVar("T")

_NAMES = {
    yaml.MappingNode: "a mapping",
    yaml.SequenceNode: "a list",
    yaml.ScalarNode: "a single value",
}
_LARGEST_FILE = 4 * 1024 * 1024
_TRUE = ("true", "yes", "on")


class Reader:
    """Walks the nodes of one file and keeps what is wrong with it."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        # What one part of the file defines, for the other parts that name it.
        self.lists: dict[str, tuple[str, ...]] = {}

    def report(self, node: yaml.Node, path: str, message: str) -> None:
        """Keep a problem that lies at *node*."""
        mark = node.start_mark
        self.problems.append(Problem(self.file, mark.line + 1, mark.column + 1, path, message))

    def finish(self) -> None:
        """Raise ConfigError if anything was reported."""
        if self.problems:
            raise ConfigError(self.problems)

    def mapping(
        self, node: yaml.Node, path: str, known: Iterable[str] | None = None
    ) -> dict[str, yaml.Node]:
        """Return the fields of a mapping; report repeated ones, and unknown ones if *known*."""
        if not isinstance(node, yaml.MappingNode):
            self.report(node, path, f"expected a mapping, got {self.describe(node)}")
            return {}
        names = None if known is None else sorted(known)
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.report(key, path, f"a field name cannot be {self.describe(key)}")
            elif names is not None and key.value not in names:
                self.report(
                    key, path, f'unknown field "{key.value}"{did_you_mean(key.value, names)}'
                )
            elif key.value in fields:
                self.report(key, path, f'field "{key.value}" is given twice')
            else:
                fields[key.value] = value
        return fields

    def values(
        self, node: yaml.Node, path: str, known: Mapping[str, tuple[str, "Read"]]
    ) -> dict[str, object]:
        """Return the fields that are given, read as *known* says, under their attribute names."""
        found: dict[str, object] = {}
        for name, value in self.mapping(node, path, known).items():
            attribute, read = known[name]
            if not is_null(value):
                found[attribute] = read(self, value, f"{path}.{name}" if path else name)
        return found

    def require(self, node: yaml.Node, path: str, *names: str) -> None:
        """Report which fields of the mapping *node* are missing, or there without a value."""
        if isinstance(node, yaml.MappingNode):
            given = {
                key.value
                for key, value in node.value
                if isinstance(key, yaml.ScalarNode) and not is_null(value)
            }
            for name in names:
                if name not in given:
                    self.report(node, path, f'field "{name}" is missing')

    def sequence(self, node: yaml.Node, path: str) -> list[yaml.Node]:
        """Return the items of a list; report anything else."""
        if not isinstance(node, yaml.SequenceNode):
            self.report(node, path, f"expected a list, got {self.describe(node)}")
            return []
        return list(node.value)

    def text(self, node: yaml.Node, path: str) -> str:
        """Return a non-empty string."""
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self.report(node, path, f"expected a text, got {self.describe(node)}")
            return ""
        return str(node.value)

    def parsed(self, node: yaml.Node, path: str, parse: Callable[[str], T], default: T) -> T:
        """Return what *parse* makes of a text; its ValueError becomes a problem here."""
        text = self.text(node, path)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.report(node, path, str(error))
            return default

    def choice(self, node: yaml.Node, path: str, choices: Iterable[str], what: str) -> str:
        """Return one of *choices*, or the first of them after reporting a problem."""
        names = list(choices)
        text = self.text(node, path)
        if text and text not in names:
            hint = did_you_mean(text, names) or f" (one of {', '.join(names)})"
            self.report(node, path, f'unknown {what} "{text}"{hint}')
        return text if text in names else names[0]

    def duration(
        self, node: yaml.Node, path: str, least: timedelta = timedelta(), because: str = ""
    ) -> timedelta:
        """Return a duration such as ``10m``, of at least *least*; *because* says why."""
        if is_number(node):
            # An unquoted 10:30 is 630 to YAML 1.1, and 5 could be seconds or minutes.
            self.report(node, path, f"a duration needs a unit: 30s, 10m or 1h30m, not {_raw(node)}")
            return timedelta()

        def parse(text: str) -> timedelta:
            duration = parse_duration(text)
            if duration < least:
                raise ValueError(f"must be at least {format_duration(least)}, not {text}{because}")
            return duration

        return self.parsed(node, path, parse, timedelta())

    def boolean(self, node: yaml.Node, path: str) -> bool:
        """Return true or false."""
        if node.tag == "tag:yaml.org,2002:bool" and isinstance(node, yaml.ScalarNode):
            return str(node.value).lower() in _TRUE
        self.report(node, path, f"expected true or false, got {self.describe(node)}")
        return False

    def integer(self, node: yaml.Node, path: str, least: int = 0) -> int:
        """Return a whole number of at least *least*."""
        if node.tag == "tag:yaml.org,2002:int" and re.fullmatch(r"\d{1,15}", _raw(node), re.ASCII):
            if int(_raw(node)) >= least:
                return int(_raw(node))
            self.report(node, path, f"must be at least {least}, not {_raw(node)}")
            return least
        self.report(node, path, f"expected a whole number, got {self.describe(node)}")
        return least

    def describe(self, node: yaml.Node) -> str:
        """Return what *node* is, for the end of a message."""
        if is_null(node):
            return "nothing"
        if isinstance(node, yaml.ScalarNode):
            return f'"{node.value[:60]}"' if node.value else "an empty text"
        return _NAMES.get(type(node), "something else")


Read = Callable[[Reader, yaml.Node, str], object]


def read_nodes(path: Path) -> tuple[Reader, yaml.Node]:
    """Return a reader for the file at *path* and its top node; ConfigError if it can't be read."""
    return parse_nodes(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of the file at *path*; ConfigError if it can't be read."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise _unusable(str(path), "larger than 4 MiB: not a configuration file")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unusable(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _unusable(str(path), "is not UTF-8 text", line) from error


def read_text_if_there(path: Path) -> str | None:
    """Return the text of the file at *path*, None if there is none; ConfigError as `read_text`."""
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(str(path), f"cannot be read: {error.strerror}") from error
    # A link that leads nowhere was meant to lead somewhere.
    return read_text(path)


def parse_nodes(text: str, file: str) -> tuple[Reader, yaml.Node]:
    """Return a reader and the top node of *text*; ConfigError if it is not one YAML document."""
    reader, node = parse_nodes_if_any(text, file)
    if node is None:
        raise _unusable(file, "the file is empty")
    return reader, node


def parse_nodes_if_any(text: str, file: str) -> tuple[Reader, yaml.Node | None]:
    """Return the same as `parse_nodes`, but None if *text* is empty or holds only comments."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"not YAML: {error.problem or error.context}"
        raise _unusable(file, message, line, column) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        # PyYAML lets chr() complain by itself about an escape such as "\UFFFFFFFF".
        message = f"not YAML: {type(error).__name__}: {str(error)[:200]}"
        raise _unusable(file, message) from error
    return Reader(file), node


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return `` (did you mean "x"?)``, or nothing when no known word is close (0-1: *cutoff*)."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f' (did you mean "{close[0]}"?)' if close else ""


def is_null(node: yaml.Node) -> bool:
    """Tell whether *node* is ``null`` or left out."""
    return bool(node.tag == "tag:yaml.org,2002:null")


def is_number(node: yaml.Node) -> bool:
    """Tell whether YAML takes *node* for a number."""
    return node.tag in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"} and _raw(node) != "0"


def _raw(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _unusable(file: str, message: str, line: int = 1, column: int = 1) -> ConfigError:
    return ConfigError([Problem(file, line, column, "", message)])
