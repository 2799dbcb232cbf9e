"""DS01's own limits file, read unchanged.

The file holds much that is none of our business (memory, storage, MIG counts), so unknown keys
are ignored, but a key that looks like a misspelt lifecycle key is an error: a limit that silently
does not apply is worse than no start. Keys end in their unit, ``_h``, ``_m`` or ``_s``; ``null``
means exempt.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import yaml

from remediator.config.reader import Reader, did_you_mean, is_null, read_nodes
from remediator.core.limits import TYPES, Layer, LimitsBook

_UNITS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
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
_KEYS = {f"{stem}_{unit}": (stem, unit) for stem in _DURATIONS for unit in _UNITS}
_USUAL = (
    *(f"{stem}_{unit}" for stem, (_, unit, _) in _DURATIONS.items()),
    *_NUMBERS,
    *_DEMAND,
)
# Close enough to a lifecycle key that it can only be one misspelt.
_CLOSE = 0.85
# DS01's keys that look like ours and are not: who may keep a stopped container's *files*.
_OTHERS = frozenset({"container_hold_after_stop", "container_hold_after_stop_h"})


@dataclass(frozen=True, slots=True)
class _Section:
    """A mapping of the file, with the place it stands at."""

    reader: Reader
    path: str
    fields: dict[str, yaml.Node]

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def read_limits(path: Path) -> LimitsBook:
    """Return the limits in the file at *path*; ConfigError with every problem it has."""
    reader, node = read_nodes(path)
    top = _Section(reader, "", reader.mapping(node, ""))
    book = _book(top)
    reader.finish()
    return book


def _book(top: _Section) -> LimitsBook:
    _check_sections(top)
    defaults = _sub(top, "defaults")
    policies = _sub(top, "policies")
    groups = _each(_sub(top, "groups"))
    return LimitsBook(
        # The policies of the whole host stand beside the defaults; where both say a thing, the
        # section that is only about the lifecycle wins.
        defaults={**_layer(defaults), **_layer(policies, demand=True)},
        default_group=_default_group(top),
        groups={name: _with_policies(section) for name, section in groups.items()},
        types=_types(_sub(top, "container_types")),
        users={
            name: _with_policies(section)
            for name, section in _each(_sub(top, "user_overrides")).items()
        },
        members=_members(groups),
        high_demand_threshold=_share(policies, "high_demand_threshold", 0.8),
        high_demand_idle_reduction=_share(policies, "high_demand_idle_reduction", 0.5),
    )


_SECTIONS = ("defaults", "default_group", "groups", "policies", "container_types", "user_overrides")


def _check_sections(top: _Section) -> None:
    for key, node in top.fields.items():
        if key not in _SECTIONS and _looks_like(key, _SECTIONS):
            hint = did_you_mean(key, _SECTIONS)
            top.reader.report(node, key, f'unknown section "{key}"{hint}')
        elif key in _USUAL or key in _KEYS:
            top.reader.report(node, key, f'"{key}" belongs under defaults or policies')


def _sub(parent: _Section, key: str) -> _Section:
    node = parent.fields.get(key)
    if node is None or is_null(node):
        return _Section(parent.reader, parent.at(key), {})
    return _Section(parent.reader, parent.at(key), parent.reader.mapping(node, parent.at(key)))


def _each(parent: _Section) -> dict[str, _Section]:
    return {name: _sub(parent, name) for name in parent.fields}


def _with_policies(section: _Section) -> Layer:
    return {**_layer(section), **_layer(_sub(section, "policies"))}


def _types(section: _Section) -> dict[str, Layer]:
    for name, node in section.fields.items():
        if name not in TYPES and _looks_like(name, tuple(TYPES)):
            message = f'unknown container type "{name}"{did_you_mean(name, TYPES)}'
            section.reader.report(node, section.at(name), message)
    return {name: _with_policies(kind) for name, kind in _each(section).items()}


def _default_group(top: _Section) -> str:
    node = top.fields.get("default_group")
    return "default" if node is None else top.reader.text(node, "default_group") or "default"


def _members(groups: dict[str, _Section]) -> dict[str, str]:
    members: dict[str, str] = {}
    for name, group in groups.items():
        node = group.fields.get("members")
        if node is None or is_null(node):
            continue
        path = group.at("members")
        for position, item in enumerate(group.reader.sequence(node, path)):
            user = group.reader.text(item, f"{path}[{position}]")
            other = members.setdefault(user, name)
            if other != name:
                message = f'"{user}" is already a member of group "{other}"'
                group.reader.report(item, f"{path}[{position}]", message)
    return members


def _layer(section: _Section, *, demand: bool = False) -> Layer:
    """Return the limits a section gives; report misspelt ones and impossible values."""
    layer: dict[str, timedelta | float | None] = {}
    for key, node in section.fields.items():
        if key in _KEYS:
            stem, unit = _KEYS[key]
            name, _, nullable = _DURATIONS[stem]
            layer[name] = _duration(section, key, unit, nullable=nullable)
        elif key in _NUMBERS:
            name, most = _NUMBERS[key]
            layer[name] = _number(section, key, most)
        elif key in _DEMAND and not demand:
            message = f'"{key}" holds for the whole host: it belongs under policies'
            section.reader.report(node, section.at(key), message)
        elif key not in _DEMAND and key not in _OTHERS and _looks_like(key, _USUAL):
            message = f'unknown field "{key}"{did_you_mean(key, _USUAL)}'
            section.reader.report(node, section.at(key), message)
    return layer


def _looks_like(key: str, known: tuple[str, ...]) -> bool:
    return bool(difflib.get_close_matches(key, known, n=1, cutoff=_CLOSE))


def _duration(section: _Section, key: str, unit: str, *, nullable: bool) -> timedelta | None:
    node = section.fields[key]
    if is_null(node) and nullable:
        return None
    count = _number(section, key, _LONGEST / _UNITS[unit])
    return count * _UNITS[unit]


def _share(section: _Section, key: str, default: float) -> float:
    return _number(section, key, 1.0) if key in section.fields else default


def _number(section: _Section, key: str, most: float) -> float:
    node = section.fields[key]

    def read(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not 0 <= value <= most:
            raise ValueError
        return value

    return _or_report(section, node, key, read, f"expected a number from 0 to {most:.15g}")


def _or_report(
    section: _Section, node: yaml.Node, key: str, read: Callable[[str], float], expected: str
) -> float:
    if node.tag in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}:
        try:
            return read(str(node.value).replace("_", ""))
        except ValueError:
            pass
    section.reader.report(node, section.at(key), f"{expected}, got {section.reader.describe(node)}")
    return 0.0
