"""DS01's own limits, read unchanged: its limits file and what stands beside it.

``groups/GROUP.members`` says who is in a group, ``user-overrides.yaml`` what holds for one user,
``lifecycle-exemptions.yaml`` who may go beyond a limit for a while. Each of those may be missing.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from remediator.config.exemptions import FoundExemptions, read_exemptions
from remediator.config.layers import (
    LIFECYCLE_KEYS,
    Section,
    looks_like,
    read_host_layer,
    read_layer,
    read_share,
    section_of,
)
from remediator.config.members import Members, read_member_files
from remediator.config.reader import (
    did_you_mean,
    is_null,
    parse_nodes_if_any,
    read_nodes,
    read_text_if_there,
)
from remediator.core.limits import GROUPS, TYPES, Layer, LimitsBook
from remediator.errors import ConfigError, Problem

MEMBERS_FOLDER = "groups"
OVERRIDES_FILE = "user-overrides.yaml"
EXEMPTIONS_FILE = "lifecycle-exemptions.yaml"

_SECTIONS = ("defaults", "default_group", "groups", "policies", "container_types", "user_overrides")


def read_limits(path: Path) -> LimitsBook:
    """Return the limits in the file at *path* and in those beside it.

    ConfigError with every problem of all of them. Exemptions that make no sense are not among
    them: those are void, and the book says so.
    """
    problems: list[Problem] = []
    members = Members()
    book, overrides, found = LimitsBook(), dict[str, Layer](), FoundExemptions()
    with _collecting(problems):
        book = _read_main(path, members)
    with _collecting(problems):
        read_member_files(path.parent / MEMBERS_FOLDER, members)
    with _collecting(problems):
        overrides = _read_overrides(path.parent / OVERRIDES_FILE)
    with _collecting(problems):
        found = read_exemptions(path.parent / EXEMPTIONS_FILE)
    if problems:
        raise ConfigError(problems)
    return dataclasses.replace(
        book,
        users=_over(book.users, overrides),
        members=members.groups,
        exemptions=found.exemptions,
        void_exemptions=found.void,
    )


@contextlib.contextmanager
def _collecting(problems: list[Problem]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        problems += error.problems


def _over(users: Mapping[str, Layer], overrides: Mapping[str, Layer]) -> Mapping[str, Layer]:
    """Return both, key by key; what stands in the file of its own wins."""
    names = dict.fromkeys((*users, *overrides))
    return {name: {**users.get(name, {}), **overrides.get(name, {})} for name in names}


def _read_main(path: Path, members: Members) -> LimitsBook:
    reader, node = read_nodes(path)
    top = section_of(reader, node)
    _check_sections(top)
    policies = top.sub("policies")
    groups = top.sub("groups").each()
    members.known.update(groups)
    for name, group in groups.items():
        _add_members(name, group, members)
    book = LimitsBook(
        defaults=read_host_layer(top.sub("defaults"), policies),
        default_group=_default_group(top, groups),
        groups={name: read_layer(group) for name, group in groups.items()},
        types=_types(top.sub("container_types")),
        users={name: read_layer(one) for name, one in top.sub("user_overrides").each().items()},
        high_demand_threshold=read_share(policies, "high_demand_threshold", 0.8),
        high_demand_idle_reduction=read_share(policies, "high_demand_idle_reduction", 0.5),
    )
    reader.finish()
    return book


def _check_sections(top: Section) -> None:
    for key in top.fields:
        if key not in _SECTIONS and looks_like(key, _SECTIONS):
            top.report(key, f'unknown section "{key}"{did_you_mean(key, _SECTIONS)}')
        elif key in LIFECYCLE_KEYS:
            top.report(key, f'"{key}" belongs under defaults or policies')


def _types(section: Section) -> dict[str, Layer]:
    for name in section.fields:
        if name not in TYPES and looks_like(name, tuple(TYPES)):
            section.report(name, f'unknown container type "{name}"{did_you_mean(name, TYPES)}')
    return {name: read_layer(kind) for name, kind in section.each().items()}


def _default_group(top: Section, groups: Mapping[str, Section]) -> str:
    node = top.fields.get("default_group")
    if node is None:
        return "default"
    name = top.reader.text(node, "default_group") or "default"
    known = (*groups, *GROUPS)
    if name not in known and looks_like(name, known):
        top.report("default_group", f'unknown group "{name}"{did_you_mean(name, known)}')
    return name


def _add_members(name: str, group: Section, members: Members) -> None:
    node = group.fields.get("members")
    if node is None or is_null(node):
        return
    reader, path = group.reader, group.at("members")
    for position, item in enumerate(reader.sequence(node, path)):
        if is_null(item):
            message: str | None = "expected the name of one user, got nothing"
        else:
            user = reader.text(item, f"{path}[{position}]")
            message = user and members.add(user, name, f"{reader.file}:{item.start_mark.line + 1}")
        if message:
            reader.report(item, f"{path}[{position}]", message)


def _read_overrides(path: Path) -> dict[str, Layer]:
    """Return the limits of single users: a mapping of users at the top, or nothing at all."""
    text = read_text_if_there(path)
    if text is None:
        return {}
    reader, node = parse_nodes_if_any(text, str(path))
    if node is None or is_null(node):
        return {}
    top = section_of(reader, node)
    if "user_overrides" in top.fields:
        top.report("user_overrides", "the users stand at the top of this file")
    users = {name: read_layer(section) for name, section in top.each().items()}
    reader.finish()
    return users
