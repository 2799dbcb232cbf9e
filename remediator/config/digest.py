"""The settings of digests: when notices of one kind to one recipient go as one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import yaml

from remediator.config.reader import Read, Reader
from remediator.core.notices import DigestRule

_LONGEST_HELD = timedelta(minutes=10)


def read_digest(reader: Reader, node: yaml.Node, path: str) -> DigestRule:
    """Return the rule that a mapping gives, with the defaults for what it leaves out."""
    values = reader.values(node, path, DIGEST_FIELDS)
    return replace(DigestRule(), **values)  # type: ignore[arg-type]


def _at_least_two(reader: Reader, node: yaml.Node, path: str) -> int:
    return reader.integer(node, path, least=2)


def _soon(reader: Reader, node: yaml.Node, path: str) -> timedelta:
    within = reader.duration(node, path)
    if within > _LONGEST_HELD:
        reader.report(node, path, "must be at most 10m: people are to be told while it matters")
    return within


DIGEST_FIELDS: Mapping[str, tuple[str, Read]] = {
    "at_least": ("at_least", _at_least_two),
    "within": ("within", _soon),
}
