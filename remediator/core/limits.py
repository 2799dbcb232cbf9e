"""Who may idle and run how long: DS01's limits as values.

Without a limits file the strict defaults below apply, so that a missing file never means "no
limits"; they are those the owner of DS01 decided.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from remediator.core.exemptions import Exemption, longest
from remediator.core.ownership import UNKNOWN

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
# The interfaces of DS01 itself; everything else was made outside and has its type's limits.
_OWN_INTERFACES = frozenset({"orchestration", "atomic"})

# Some of the fields of Limits: what one layer of the file says.
Layer: TypeAlias = Mapping[str, timedelta | float | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one container; None means exempt from that one.

    ``idle_timeout`` counts from the last sign of activity and never before ``start_grace`` after
    the start. Below ``gpu_idle_percent`` (0-100, of every slot), ``cpu_idle_percent`` (of one
    core) *and* ``network_idle_bytes`` (in a window of five minutes, both directions) it is idle.
    ``idle_exemption`` and ``runtime_exemption`` say why, where a granted exemption is the reason
    that the limit is None.
    """

    group: str = "default"
    idle_timeout: timedelta | None = 30 * _MINUTE
    max_runtime: timedelta | None = 24 * _HOUR
    hold_after_stop: timedelta | None = 15 * _MINUTE
    created_timeout: timedelta | None = 30 * _MINUTE
    start_grace: timedelta = 30 * _MINUTE
    sigterm_grace: timedelta = timedelta(seconds=60)
    keepalive_max: timedelta = 24 * _HOUR
    gpu_idle_percent: float = 5.0
    cpu_idle_percent: float = 2.0
    network_idle_bytes: float = 1024.0 * 1024.0
    idle_exemption: Exemption | None = None
    runtime_exemption: Exemption | None = None


def _layer(**values: timedelta | float | None) -> Layer:
    return MappingProxyType(values)


GROUPS: Mapping[str, Layer] = MappingProxyType(
    {
        "student": _layer(),
        "researcher": _layer(idle_timeout=_HOUR, max_runtime=48 * _HOUR, cpu_idle_percent=3.0),
        "faculty": _layer(idle_timeout=2 * _HOUR, max_runtime=72 * _HOUR, cpu_idle_percent=3.0),
        "admin": _layer(idle_timeout=_HOUR, hold_after_stop=_HOUR),
    }
)
TYPES: Mapping[str, Layer] = MappingProxyType(
    {
        "devcontainer": _layer(
            idle_timeout=None, max_runtime=168 * _HOUR, sigterm_grace=timedelta(seconds=30)
        ),
        "compose": _layer(
            idle_timeout=30 * _MINUTE, max_runtime=72 * _HOUR, sigterm_grace=timedelta(seconds=45)
        ),
        "docker": _layer(
            idle_timeout=30 * _MINUTE, max_runtime=48 * _HOUR, sigterm_grace=timedelta(seconds=60)
        ),
        "api": _layer(
            idle_timeout=None, max_runtime=24 * _HOUR, sigterm_grace=timedelta(seconds=30)
        ),
        UNKNOWN: _layer(
            idle_timeout=15 * _MINUTE, max_runtime=24 * _HOUR, sigterm_grace=timedelta(seconds=30)
        ),
    }
)


@dataclass(frozen=True, slots=True)
class LimitsBook:
    """All limits of a host.

    Precedence, key by key: an exemption that holds, then a user's own override, then the container
    type's (only for containers made outside DS01), then the group's, then the file's defaults,
    then the built-in ones. ``void_exemptions`` says of each entry that makes no sense why, with
    its place; such an entry exempts from nothing.
    """

    defaults: Layer = field(default_factory=dict)
    default_group: str = "default"
    groups: Mapping[str, Layer] = field(default_factory=dict)
    types: Mapping[str, Layer] = field(default_factory=dict)
    users: Mapping[str, Layer] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    high_demand_threshold: float = 0.8
    high_demand_idle_reduction: float = 0.5
    exemptions: tuple[Exemption, ...] = ()
    void_exemptions: tuple[str, ...] = ()

    def group_of(self, user: str) -> str:
        """Return the group *user* is a member of, or the default group."""
        return self.members.get(user, self.default_group)

    def exemptions_at(self, now: datetime) -> tuple[Exemption, ...]:
        """Return the exemptions that hold; until that changes, no limits change with the time."""
        return tuple(exemption for exemption in self.exemptions if exemption.holds_at(now))

    def limits_for(self, user: str, container_type: str, interface: str, now: datetime) -> Limits:
        """Return the limits of a container of *user*; nobody's container gets the strictest."""
        limits = self._limits_for(user, container_type, interface)
        if user == UNKNOWN:
            return _stricter(limits, self._limits_for(user, UNKNOWN, UNKNOWN))
        granted = [e for e in self.exemptions if e.user == user and e.holds_at(now)]
        return _exempted(limits, granted) if granted else limits

    def _limits_for(self, user: str, container_type: str, interface: str) -> Limits:
        group = self.group_of(user)
        layers = [GROUPS.get(group, {}), self.defaults, self.groups.get(group, {})]
        if interface not in _OWN_INTERFACES:
            kind = container_type if container_type in TYPES else UNKNOWN
            layers += [TYPES[kind], self.types.get(kind, {})]
        layers.append(self.users.get(user, {}))
        merged: dict[str, Any] = {}
        for layer in layers:
            merged.update(cast(Mapping[str, Any], layer))
        return dataclasses.replace(Limits(group=group), **merged)


def _exempted(limits: Limits, granted: list[Exemption]) -> Limits:
    idle = longest(exemption for exemption in granted if "idle_timeout" in exemption.limits)
    runtime = longest(exemption for exemption in granted if "max_runtime" in exemption.limits)
    return dataclasses.replace(
        limits,
        idle_timeout=limits.idle_timeout if idle is None else None,
        max_runtime=limits.max_runtime if runtime is None else None,
        idle_exemption=idle,
        runtime_exemption=runtime,
    )


def _stricter(one: Limits, other: Limits) -> Limits:
    return dataclasses.replace(
        one,
        idle_timeout=_shorter(one.idle_timeout, other.idle_timeout),
        max_runtime=_shorter(one.max_runtime, other.max_runtime),
        hold_after_stop=_shorter(one.hold_after_stop, other.hold_after_stop),
        created_timeout=_shorter(one.created_timeout, other.created_timeout),
    )


def _shorter(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
