"""Read the policy file: strict, all problems at once, safe by omission.

A remediation that the file does not name cannot run, and a file without a mode only observes.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import yaml

from remediator.config.reader import Read, Reader, is_null, read_nodes
from remediator.config.units import parse_unit
from remediator.core.catalogue import (
    CATALOGUE,
    FROM_LIMITS,
    Kind,
    Offer,
    OptionKind,
    offer_of,
)
from remediator.core.durations import format_duration, parse_duration
from remediator.core.matchers import Matcher, parse_matcher
from remediator.core.policy import (
    Audience,
    Limit,
    Mode,
    Option,
    Policy,
    PolicyRule,
    Rung,
    Warn,
)

_NOWHERE = Rung("notify-only")
# The worker remembers attempts for a day longer; a later one would be forgotten, not counted.
_LONGEST = timedelta(days=30)
_LIMIT = re.compile(r"(\d{1,9}) per (\S+)", re.ASCII)
_PERCENT = re.compile(r"(\d{1,3})%", re.ASCII)
_WHOLE = 100
_LIST_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_MAIL_ADDRESS = re.compile(r"[^\s@<>,;\"\x00-\x1f]{1,64}@[A-Za-z0-9.-]{1,190}", re.ASCII)


def read_policy(path: Path) -> Policy:
    """Return the policy in the file at *path*; ConfigError lists everything wrong with it."""
    reader, node = read_nodes(path)
    policy = _policy(reader, node)
    reader.finish()
    return policy


def parse_limit(text: str) -> Limit:
    """Return the limit that ``3 per 1h`` stands for; ValueError if *text* is not one."""
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        raise ValueError(f'"{text}" is not a limit such as 3 per 1h')
    count, window = int(found[1]), parse_duration(found[2])
    if count < 1 or not window:
        raise ValueError(f'"{text}" allows nothing: leave the remediation out instead')
    if window > _LONGEST:
        raise ValueError(f'"{text}" counts further back than is remembered: 30d at most')
    return Limit(count, window)


def parse_percent(text: str) -> int:
    """Return the number that ``70%`` stands for, 1-100; ValueError if *text* is not one."""
    found = _PERCENT.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= _WHOLE:
        raise ValueError(f'"{text}" is not a percentage from 1% to 100%')
    return int(found[1])


def _policy(reader: Reader, node: yaml.Node) -> Policy:
    reader.require(node, "", "rules")
    reader.lists = _defined_lists(node)
    values = reader.values(node, "", POLICY_FIELDS)
    return replace(Policy(), **values)  # type: ignore[arg-type]  # names and types by the table


def _defined_lists(node: yaml.Node) -> dict[str, tuple[str, ...]]:
    """Return the lists wherever in the file they are; `_lists` reports what is wrong with them."""
    quiet = Reader("")
    field = quiet.mapping(node, "").get("lists")
    return {} if field is None or is_null(field) else _lists(quiet, field, "lists")


def _breaker(reader: Reader, node: yaml.Node, path: str) -> tuple[Limit, ...]:
    fields = reader.values(node, path, {"open_after": ("limits", _limits)})
    limits: object = fields.get("limits", Policy().open_after)
    return limits if isinstance(limits, tuple) else ()


def _budget(reader: Reader, node: yaml.Node, path: str) -> dict[str, tuple[Limit, ...]]:
    table = {offer.name: (offer.name, _limits) for offer in CATALOGUE}
    return cast(dict[str, tuple[Limit, ...]], reader.values(node, path, table))


def _rules(reader: Reader, node: yaml.Node, path: str) -> tuple[PolicyRule, ...]:
    seen: set[str] = set()
    rules = []
    for number, item in enumerate(reader.sequence(node, path)):
        rule = _rule(reader, item, f"{path}[{number}]")
        if rule.name and rule.name in seen:
            reader.report(item, f"{path}[{number}].name", f'"{rule.name}" is used twice')
        seen.add(rule.name)
        rules.append(rule)
    return tuple(rules)


def _rule(reader: Reader, node: yaml.Node, path: str) -> PolicyRule:
    reader.require(node, path, "name", "match", "do")
    values = reader.values(node, path, RULE_FIELDS)
    nothing = PolicyRule(name="", matchers=(), rungs=(_NOWHERE,))
    return replace(nothing, **values)  # type: ignore[arg-type]


def _conditions(reader: Reader, node: yaml.Node, path: str) -> tuple[Matcher, ...]:
    matchers = _matchers(reader, node, path)
    if not matchers and isinstance(node, yaml.SequenceNode):
        reader.report(node, path, "at least one matcher is needed: without, it matches everything")
    return matchers


def _escalate(reader: Reader, node: yaml.Node, path: str) -> tuple[Audience, ...]:
    reader.require(node, path, "tell")
    fields = reader.mapping(node, path, ("tell",))
    return _audiences(reader, fields["tell"], f"{path}.tell") if fields else ()


def _rungs(reader: Reader, node: yaml.Node, path: str) -> tuple[Rung, ...]:
    items = reader.sequence(node, path)
    if not items and isinstance(node, yaml.SequenceNode):
        reader.report(node, path, "at least one remediation is needed")
    rungs = [_rung(reader, item, f"{path}[{n}]") for n, item in enumerate(items)]
    _one_kind(reader, node, path, rungs)
    return tuple(rungs) or (_NOWHERE,)


def _one_kind(reader: Reader, node: yaml.Node, path: str, rungs: Sequence[Rung]) -> None:
    """Report rungs that act on unlike things: a ladder has one target."""
    offers = [offer_of(rung.remediation) for rung in rungs]
    kinds = {o.kind: o.name for o in reversed(offers) if o.kind is not Kind.ANYTHING}
    if len(kinds) > 1:
        acts = " and ".join(f"{name} on {kind.value}" for kind, name in kinds.items())
        message = f"a ladder has one target, but {acts}: make two rules of it"
        reader.report(node, path, message)


def _rung(reader: Reader, node: yaml.Node, path: str) -> Rung:
    """Return one rung: the remediation's name is itself a field, its options are the value."""
    names = [offer.name for offer in CATALOGUE]
    offers = {name: ("options", _options_of(offer_of(name))) for name in names}
    values = reader.values(node, path, {**RUNG_FIELDS, **offers})
    keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    given = [key.value for key in keys if isinstance(key, yaml.ScalarNode)]
    chosen = [name for name in given if name in offers]
    if len(chosen) != 1:
        strange = [name for name in given if name not in offers and name not in RUNG_FIELDS]
        if isinstance(node, yaml.MappingNode) and not strange:
            found = " and ".join(chosen) or "none"
            reader.report(node, path, f"exactly one remediation is needed, found {found}")
        return _NOWHERE
    if "options" not in values:
        for name in offer_of(chosen[0]).required:
            reader.report(node, f"{path}.{chosen[0]}", f'field "{name}" is missing')
    return replace(Rung(chosen[0]), **values)  # type: ignore[arg-type]


def _options_of(offer: Offer) -> Read:
    return lambda reader, node, path: _options(reader, node, path, offer)


def _within(reader: Reader, node: yaml.Node, path: str) -> timedelta:
    reader.require(node, path, "within")
    fields = reader.mapping(node, path, ("within",))
    within = fields.get("within")
    return _duration(reader, within, f"{path}.within") if within else timedelta()


def _options(reader: Reader, node: yaml.Node, path: str, offer: Offer) -> dict[str, Option]:
    kinds = dict(offer.options)
    reader.require(node, path, *offer.required)
    return {
        name: _OPTION_READERS[kinds[name]](reader, value, f"{path}.{name}")
        for name, value in reader.mapping(node, path, kinds).items()
    }


def _grace(reader: Reader, node: yaml.Node, path: str) -> timedelta | None:
    if isinstance(node, yaml.ScalarNode) and node.value == FROM_LIMITS:
        return None
    return _duration(reader, node, path)


def _percent(reader: Reader, node: yaml.Node, path: str) -> int:
    return reader.parsed(node, path, parse_percent, 100)


def _unit(reader: Reader, node: yaml.Node, path: str) -> str:
    return reader.parsed(node, path, parse_unit, "")


def _mode(reader: Reader, node: yaml.Node, path: str) -> Mode:
    return Mode(reader.choice(node, path, [mode.value for mode in Mode], "mode"))


def _warn(reader: Reader, node: yaml.Node, path: str) -> Warn:
    reader.require(node, path, "before")
    table: Mapping[str, tuple[str, Read]] = {
        "before": ("before", _duration),
        "tell": ("tell", _audiences),
    }
    values = reader.values(node, path, table)
    return replace(Warn(timedelta(), (Audience.OWNER,)), **values)  # type: ignore[arg-type]


def _audiences(reader: Reader, node: yaml.Node, path: str) -> tuple[Audience, ...]:
    names = [Audience.OWNER.name, Audience.ADMINS.name, *reader.lists]
    items = enumerate(reader.sequence(node, path))
    told = [reader.choice(item, f"{path}[{n}]", names, "audience") for n, item in items]
    return tuple(Audience(name, reader.lists.get(name, ())) for name in dict.fromkeys(told))


def _lists(reader: Reader, node: yaml.Node, path: str) -> dict[str, tuple[str, ...]]:
    """Return the addresses by the name of their list."""
    found = {}
    for name, value in reader.mapping(node, path).items():
        if name in {Audience.OWNER.name, Audience.ADMINS.name}:
            reader.report(value, f"{path}.{name}", f'"{name}" cannot be the name of a list')
        elif not _LIST_NAME.fullmatch(name):
            message = f'"{name}" is not a name of letters, digits, - and _'
            reader.report(value, f"{path}.{name}", message)
        else:
            found[name] = _addresses(reader, value, f"{path}.{name}")
    return found


def _addresses(reader: Reader, node: yaml.Node, path: str) -> tuple[str, ...]:
    items = enumerate(reader.sequence(node, path))
    return tuple(reader.parsed(item, f"{path}[{n}]", parse_mail_address, "") for n, item in items)


def parse_mail_address(text: str) -> str:
    """Return *text* if it is a mail address without a name; ValueError if not."""
    if not _MAIL_ADDRESS.fullmatch(text):
        raise ValueError(f'"{text[:80]}" is not an address such as oncall@example.org')
    return text


def _matchers(reader: Reader, node: yaml.Node, path: str) -> tuple[Matcher, ...]:
    nothing = Matcher("alertname", "=", "")
    items = enumerate(reader.sequence(node, path))
    return tuple(reader.parsed(item, f"{path}[{n}]", parse_matcher, nothing) for n, item in items)


def _duration(reader: Reader, node: yaml.Node, path: str) -> timedelta:
    duration = reader.duration(node, path)
    if duration > _LONGEST:
        reader.report(node, path, f"{format_duration(duration)} is too long: 30d at most")
    return duration


def _limits(reader: Reader, node: yaml.Node, path: str) -> tuple[Limit, ...]:
    least = parse_limit("1 per 24h")
    items = enumerate(reader.sequence(node, path))
    limits = tuple(reader.parsed(item, f"{path}[{n}]", parse_limit, least) for n, item in items)
    if not limits and isinstance(node, yaml.SequenceNode):
        reader.report(node, path, "at least one limit is needed, such as 2 per 6h")
    return limits


_OPTION_READERS: Mapping[OptionKind, Callable[[Reader, yaml.Node, str], Option]] = {
    OptionKind.BOOLEAN: Reader.boolean,
    OptionKind.DURATION: _duration,
    OptionKind.GRACE: _grace,
    OptionKind.PERCENT: _percent,
    OptionKind.UNIT: _unit,
}
RUNG_FIELDS: Mapping[str, tuple[str, Read]] = {
    "attempts": ("attempts", _limits),
    "cooldown": ("cooldown", _duration),
    "timeout": ("timeout", _duration),
    "verify": ("verify_within", _within),
}
RULE_FIELDS: Mapping[str, tuple[str, Read]] = {
    "name": ("name", Reader.text),
    "match": ("matchers", _conditions),
    "mode": ("mode", _mode),
    "warn": ("warn", _warn),
    "approve": ("approve_within", _within),
    "do": ("rungs", _rungs),
    "escalate": ("escalate", _escalate),
    "tell": ("tell", _audiences),
}
POLICY_FIELDS: Mapping[str, tuple[str, Read]] = {
    "mode": ("mode", _mode),
    "breaker": ("open_after", _breaker),
    "budget": ("budget", _budget),
    "never": ("never", _matchers),
    "lists": ("lists", _lists),
    "rules": ("rules", _rules),
}
