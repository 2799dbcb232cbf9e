"""Sections of DS01's limits files as layers of limits.

A key ends in its unit (``idle_timeout_h: 0.5``), or, in the older spelling, its value does
(``idle_timeout: 30m``). ``null`` means exempt. Keys that are not about the lifecycle are ignored,
but one that looks like a misspelt lifecycle key is an error: a limit that silently does not apply
is worse than no start.
"""

import difflib
import math
import re
from dataclasses import dataclass
from datetime import timedelta

import yaml

from remediator.config.reader import Reader, did_you_mean, is_null, is_number
from remediator.core.durations import parse_duration
from remediator.core.limits import Layer

_UNITS = {
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "hours": timedelta(hours=1),
    "minutes": timedelta(minutes=1),
    "seconds": timedelta(seconds=1),
}
_LONGEST = timedelta(days=3650)

# What the file calls each limit, the unit DS01 writes it in, and whether null may exempt from it.
_DURATIONS = {
    "idle_timeout": ("idle_timeout", "h", True),
    "max_runtime": ("max_runtime", "h", True),
    "gpu_hold_after_stop": ("hold_after_stop", "h", True),
    "gpu_hold_after_manual_stop": ("hold_after_stop", "m", True),
    "created_container_timeout": ("created_timeout", "m", True),
    "grace_period": ("start_grace", "m", False),
    "sigterm_grace": ("sigterm_grace", "s", False),
    "keepalive_max_duration": ("keepalive_max", "h", False),
}
_NUMBERS = {
    "gpu_idle_threshold": ("gpu_idle_percent", 100.0),
    "cpu_idle_threshold": ("cpu_idle_percent", 100_000.0),
    "network_idle_threshold": ("network_idle_bytes", 1e15),
}
_DEMAND = ("high_demand_threshold", "high_demand_idle_reduction")
_WITH_UNIT = {f"{stem}_{unit}": (stem, unit) for stem in _DURATIONS for unit in _UNITS}
_USUAL = (
    *(f"{stem}_{unit}" for stem, (_, unit, _) in _DURATIONS.items()),
    *_DURATIONS,
    *_NUMBERS,
    *_DEMAND,
)
LIFECYCLE_KEYS = frozenset({*_USUAL, *_WITH_UNIT})
# Close enough to a known word that it can only be one misspelt.
_CLOSE = 0.85
# DS01's keys that look like ours and are not: who may keep a stopped container's *files*.
_OTHERS = frozenset({"container_hold_after_stop", "container_hold_after_stop_h"})
# The older spelling's fractions, which Prometheus' durations do not know.
_FRACTION = re.compile(r"(\d{0,9}\.?\d{1,9})\s*([hms])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of the file, with the place it stands at."""

    reader: Reader
    path: str
    fields: dict[str, yaml.Node]

    def at(self, key: str) -> str:
        """Return the path of one of its fields."""
        return f"{self.path}.{key}" if self.path else key

    def report(self, key: str, message: str) -> None:
        """Keep a problem that lies at the value of a field."""
        self.reader.report(self.fields[key], self.at(key), message)

    def sub(self, key: str) -> "Section":
        """Return the section in a field, an empty one if it is not given."""
        node = self.fields.get(key)
        if node is None or is_null(node):
            return Section(self.reader, self.at(key), {})
        return section_of(self.reader, node, self.at(key))

    def each(self) -> "dict[str, Section]":
        """Return the sections in all of its fields."""
        return {name: self.sub(name) for name in self.fields}


def section_of(reader: Reader, node: yaml.Node, path: str = "") -> Section:
    """Return *node* as a section; report what is not a mapping, and what we do not follow."""
    section = Section(reader, path, reader.mapping(node, path))
    if "<<" in section.fields:
        section.report("<<", "a merge key is not followed here: write the fields out")
    return section


def looks_like(word: str, known: tuple[str, ...]) -> bool:
    """Tell whether *word* can only be one of *known*, perhaps misspelt."""
    return bool(difflib.get_close_matches(word, known, n=1, cutoff=_CLOSE))


def read_layer(section: Section) -> Layer:
    """Return the limits of a section; those in its policies win."""
    return {**_own_layer(section), **_own_layer(section.sub("policies"))}


def read_host_layer(defaults: Section, policies: Section) -> Layer:
    """Return what the file says by default.

    The policies of the whole host stand beside the defaults; where both say a thing, the section
    that is only about the lifecycle wins.
    """
    return {**_own_layer(defaults), **_own_layer(policies, demand=True)}


def read_share(section: Section, key: str, default: float) -> float:
    """Return a number from 0 to 1."""
    return _number(section, key, 1.0) if key in section.fields else default


def _own_layer(section: Section, *, demand: bool = False) -> Layer:
    layer: dict[str, timedelta | float | None] = {}
    said_by: dict[str, str] = {}
    for key in section.fields:
        found = _limit(section, key)
        if found is None:
            _check_other(section, key, demand=demand)
            continue
        name, layer[name] = found
        if said_by.setdefault(name, key) != key:
            section.report(key, f'"{key}" gives the limit that "{said_by[name]}" gives already')
    return layer


def _limit(section: Section, key: str) -> tuple[str, timedelta | float | None] | None:
    """Return which limit a field gives and its value, None if it is no limit's key."""
    if key in _NUMBERS:
        name, most = _NUMBERS[key]
        return name, _number(section, key, most)
    stem, unit = _WITH_UNIT.get(key, (key, None))
    if stem not in _DURATIONS:
        return None
    name, _, nullable = _DURATIONS[stem]
    if nullable and is_null(section.fields[key]):
        return name, None
    if unit is None:
        return name, _duration_text(section, key)
    return name, _number(section, key, _LONGEST / _UNITS[unit]) * _UNITS[unit]


def _check_other(section: Section, key: str, *, demand: bool) -> None:
    if key in _DEMAND:
        if not demand:
            section.report(key, f'"{key}" holds for the whole host: it belongs under policies')
    elif key not in _OTHERS and looks_like(key, _USUAL):
        section.report(key, f'unknown field "{key}"{did_you_mean(key, _USUAL)}')


def _duration_text(section: Section, key: str) -> timedelta:
    node = section.fields[key]
    if is_number(node):
        stem = f"{key}_{_DURATIONS[key][1]}"
        section.report(key, f'a duration needs a unit: write 30m or 0.5h, or use "{stem}"')
        return timedelta()
    return section.reader.parsed(node, section.at(key), parse_old_duration, timedelta())


def parse_old_duration(text: str) -> timedelta:
    """Return the duration *text* stands for, as ``0.5h`` or ``1h30m``; ValueError if none."""
    found = _FRACTION.fullmatch(text.strip())
    duration = float(found[1]) * _UNITS[found[2]] if found else parse_duration(text.strip())
    if duration > _LONGEST:
        raise ValueError(f'"{text}" is longer than {_LONGEST.days} days')
    return duration


def _number(section: Section, key: str, most: float) -> float:
    node = section.fields[key]
    if node.tag in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}:
        try:
            value = float(str(node.value).replace("_", ""))
        except ValueError:
            value = math.nan
        if 0 <= value <= most:
            return value
    described = section.reader.describe(node)
    section.report(key, f"expected a number from 0 to {most:.15g}, got {described}")
    return 0.0
