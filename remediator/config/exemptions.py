"""DS01's exemptions file: who may go beyond a limit, why, who approved it, and until when.

Each entry is read alone: one that makes no sense is void and costs nobody else an exemption.
Those that are over stay in the file as a record.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import yaml

from remediator.config.reader import (
    Reader,
    is_null,
    parse_nodes_if_any,
    read_text_if_there,
)
from remediator.core.exemptions import Exemption
from remediator.core.ownership import UNKNOWN
from remediator.errors import ConfigError, Problem

# What the file calls each limit, in the newer and the older spelling.
_LIMITS = {
    "idle_timeout_h": "idle_timeout",
    "max_runtime_h": "max_runtime",
    "idle_timeout": "idle_timeout",
    "max_runtime": "max_runtime",
}
_REQUIRED = ("username", "exempt_from", "reason", "approved_by")
_END = "expires_on"
# An entry with a misspelt end would never end. Other fields of ours cannot be left out, and what
# else stands in an entry is a record for people.
_CLOSE_TO_END = 0.75
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class FoundExemptions:
    """The entries that make sense, and for each other one what is wrong with it."""

    exemptions: tuple[Exemption, ...] = ()
    void: tuple[str, ...] = ()


def read_exemptions(path: Path) -> FoundExemptions:
    """Return the exemptions in the file at *path*, none if there is no file.

    ConfigError if it is no YAML or not a list of entries: then nobody knows whom it exempts.
    """
    text = read_text_if_there(path)
    if text is None:
        return FoundExemptions()
    reader, node = parse_nodes_if_any(text, str(path))
    if node is None:
        # So does a full disk leave it. One that grants nothing says so.
        message = 'the file is empty: write "exemptions: []" if nobody is exempt'
        raise ConfigError([Problem(str(path), 1, 1, "", message)])
    entries = _entries(reader, node)
    reader.finish()
    return _read_each(str(path), entries)


def _entries(reader: Reader, node: yaml.Node) -> list[yaml.Node]:
    fields = reader.mapping(node, "")
    if isinstance(node, yaml.MappingNode) and "exemptions" not in fields:
        reader.report(node, "", f'field "exemptions" is missing{_misspelt(fields)}')
    entries = fields.get("exemptions")
    if entries is None or is_null(entries):
        return []
    return reader.sequence(entries, "exemptions")


def _misspelt(fields: Iterable[str]) -> str:
    close = difflib.get_close_matches("exemptions", list(fields), n=1, cutoff=0.6)
    return f' (is "{close[0]}" a misspelling?)' if close else ""


def _read_each(file: str, entries: list[yaml.Node]) -> FoundExemptions:
    good: list[Exemption] = []
    void: list[str] = []
    for position, entry in enumerate(entries):
        reader = Reader(file)
        exemption = _exemption(reader, entry, f"exemptions[{position}]")
        if reader.problems:
            void.append("\n".join(str(problem) for problem in sorted(reader.problems)))
        else:
            good.append(exemption)
    return FoundExemptions(tuple(good), tuple(void))


def _exemption(reader: Reader, entry: yaml.Node, path: str) -> Exemption:
    fields = reader.mapping(entry, path)
    reader.require(entry, path, *_REQUIRED)
    given = {key: node for key, node in fields.items() if not is_null(node)}
    texts = {
        key: " ".join(reader.text(given[key], f"{path}.{key}").split())
        for key in ("username", "reason", "approved_by")
        if key in given
    }
    if texts.get("username") == UNKNOWN:
        message = "containers of which nobody knows the owner cannot be exempt"
        reader.report(given["username"], f"{path}.username", message)
    return Exemption(
        user=texts.get("username", ""),
        limits=_exempt_from(reader, given, f"{path}.exempt_from"),
        reason=texts.get("reason", ""),
        approved_by=texts.get("approved_by", ""),
        until=_until(reader, fields, path),
    )


def _exempt_from(reader: Reader, given: dict[str, yaml.Node], path: str) -> frozenset[str]:
    node = given.get("exempt_from")
    if node is None:
        return frozenset()
    items = reader.sequence(node, path)
    if not items and isinstance(node, yaml.SequenceNode):
        reader.report(node, path, "it is empty: it exempts from nothing")
    names = (
        reader.choice(item, f"{path}[{position}]", _LIMITS, "limit")
        for position, item in enumerate(items)
    )
    return frozenset(_LIMITS[name] for name in names)


def _until(reader: Reader, fields: dict[str, yaml.Node], path: str) -> datetime | None:
    """Return the first moment at which an entry is over, None for never."""
    for key, other in fields.items():
        if key != _END and _may_mean_end(key):
            message = f'unknown field "{key}": what says until when is "{_END}"'
            reader.report(other, f"{path}.{key}", message)
    node = fields.get(_END)
    if node is None or is_null(node):
        return None
    until = reader.parsed(node, f"{path}.{_END}", parse_end, None)
    approved = _approved_on(fields)
    if until is not None and approved is not None and until <= approved:
        reader.report(node, f"{path}.{_END}", "it was over before it was approved")
    return until


def _may_mean_end(key: str) -> bool:
    # A merge key may bring anything.
    if key.lower().startswith(("expir", "until", "valid", "<<")):
        return True
    return bool(difflib.get_close_matches(key, [_END], n=1, cutoff=_CLOSE_TO_END))


def _approved_on(fields: dict[str, yaml.Node]) -> datetime | None:
    """Return when the day of the approval began; a mere record, so it may be anything."""
    node = fields.get("approved_on")
    if not isinstance(node, yaml.ScalarNode):
        return None
    try:
        day = date.fromisoformat(str(node.value)[:10])
    except ValueError:
        return None
    return datetime.combine(day, time(), UTC)


def parse_end(text: str) -> datetime | None:
    """Return the moment at which something that lasts until *text* is over, in UTC.

    A date lasts until its end, and a moment without a zone is one in UTC. None is a moment beyond
    the end of the calendar. ValueError if it is neither date nor moment.
    """
    try:
        return _end_of(text.strip().upper())
    except ValueError:
        what = f'"{text[:60]}" is not a date such as 2026-06-30 or 2026-06-30T23:59:59Z'
        raise ValueError(f"{what}; null means for ever") from None


def _end_of(text: str) -> datetime | None:
    if _DAY.match(text) is None:
        raise ValueError
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
        return moment + _ONE_DAY if _DAY.fullmatch(text) else moment
    except OverflowError:
        if moment.year == date.min.year:
            raise ValueError from None
        return None
