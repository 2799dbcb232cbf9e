"""What the tables of `policy.md` say about each key, joined with what the code says of it.

The words are in `keys.yaml`; which keys there are, their order and their defaults come from the
tables that the readers of policy and settings use, so that no key is forgotten or outlives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from importlib import resources

import yaml

from remediator.config.digest import DIGEST_FIELDS
from remediator.config.page import PAGE_FIELDS
from remediator.config.policy import POLICY_FIELDS, RULE_FIELDS, RUNG_FIELDS
from remediator.config.settings import MAIL_FIELDS, SETTINGS_FIELDS, Settings
from remediator.core.catalogue import CATALOGUE
from remediator.core.durations import format_duration
from remediator.core.policy import Audience, Limit, Policy, PolicyRule, Rung

_FILE = "keys.yaml"
_DAY = 24
_INNER = {"mail": MAIL_FIELDS, "page": PAGE_FIELDS, "digest": DIGEST_FIELDS}


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what it takes, its default and meaning as Markdown, and an example as YAML."""

    name: str
    means: str
    takes: str = ""
    default: str = ""
    example: str = ""


def read_keys() -> dict[str, list[Key]]:
    """Return the keys by section; ValueError names one that has no words, or words without one."""
    text = (resources.files(__package__) / _FILE).read_text(encoding="utf-8")
    words: dict[str, dict[str, dict[str, str]]] = yaml.safe_load(text)
    known = _known()
    found = {}
    for section, entries in words.items():
        _compare(section, list(known[section]), list(entries))
        found[section] = [
            Key(name, **{"default": written(known[section].get(name)), **entry})
            for name, entry in entries.items()
        ]
    return found


def _known() -> dict[str, dict[str, object]]:
    """Return the names that the readers know, with the default of each, by section."""
    nothing = Rung("")
    rule = PolicyRule(name="", matchers=(), rungs=())
    remediations: dict[str, object] = {}
    for offer in CATALOGUE:
        remediations[offer.name] = ""
        remediations |= {f"{offer.name}.{option}": "" for option, _ in offer.options}
    return {
        "policy": _defaults(POLICY_FIELDS, Policy()),
        "rule": _defaults(RULE_FIELDS, rule),
        "rung": _defaults(RUNG_FIELDS, nothing),
        "remediations": remediations,
        "settings": _settings(),
    }


def _settings() -> dict[str, object]:
    found: dict[str, object] = {}
    settings = Settings()
    for name, default in _defaults(SETTINGS_FIELDS, settings).items():
        found[name] = default
        if name in _INNER:
            inner = _defaults(_INNER[name], getattr(settings, name))
            found |= {f"{name}.{key}": value for key, value in inner.items()}
    return found


def _defaults(fields: Mapping[str, tuple[str, object]], values: object) -> dict[str, object]:
    return {name: getattr(values, attribute) for name, (attribute, _) in fields.items()}


def _compare(section: str, known: list[str], worded: list[str]) -> None:
    """Complain unless *worded* has the known names in their order, and below those only parts."""
    tops = [name for name in worded if name in known or "." not in name]
    if tops != known:
        wrong = next(
            (name for name in (*known, *tops) if name not in known or name not in tops),
            "the order",
        )
        raise ValueError(f"{_FILE}: {section}: {wrong} is not as in the code")
    strays = [name for name in worded if name.rpartition(".")[0] not in {"", *known}]
    if strays:
        raise ValueError(f"{_FILE}: {section}: {strays[0]} belongs to nothing")


def written(value: object) -> str:
    """Return a default as Markdown: in backquotes what may stand in the file, else "none"."""
    if value is None or value in ("", (), {}):
        return "none"
    return f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Enum():
            return str(value.value)
        case timedelta():
            return format_duration(value)
        case Limit():
            hours = value.window / timedelta(hours=1)
            window = "24h" if hours == _DAY else format_duration(value.window)
            return f"{value.count} per {window}"
        case Audience():
            return value.name
        case tuple():
            return f"[{', '.join(_yaml(item) for item in value)}]"
        case _:
            return str(value)
