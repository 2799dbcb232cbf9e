"""Who is in which group: lists in the limits file, and one members file for each group."""

import re
from pathlib import Path

from remediator.config.reader import read_text_if_there
from remediator.core.limits import GROUPS
from remediator.errors import ConfigError, Problem

SUFFIX = ".members"

# A name and perhaps a comment. DS01's names may hold dots and an @.
_LINE = re.compile(r"\s*(?P<user>[^#]*?)\s*(?:#.*)?")
_SEVERAL = re.compile(r"[\s,;]")


class Members:
    """Who is in which group, by user; a user can be in one only.

    ``known`` are the names of all groups, which may have a members file.
    """

    def __init__(self) -> None:
        self.known = set(GROUPS)
        self.groups: dict[str, str] = {}
        self._places: dict[str, str] = {}

    def add(self, user: str, group: str, place: str) -> str | None:
        """Take a user in, or return what is wrong with that; *place* is where it is written."""
        if _SEVERAL.search(user):
            return f'expected the name of one user, got "{user[:60]}"'
        other = self.groups.setdefault(user, group)
        if other == group:
            self._places.setdefault(user, place)
            return None
        return f'"{user}" is already a member of group "{other}" ({self._places[user]})'


def read_member_files(folder: Path, members: Members) -> None:
    """Add those whom ``GROUP.members`` in *folder* names, one a line, for each known group.

    A missing file is an empty one. ConfigError with every problem of all files.
    """
    problems: list[Problem] = []
    for group in sorted(members.known):
        try:
            # A name that is none for a file has no file.
            if "/" not in group and "\0" not in group:
                _read_file(folder / f"{group}{SUFFIX}", group, members)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def _read_file(path: Path, group: str, members: Members) -> None:
    problems: list[Problem] = []
    # Not splitlines(), which knows more ends of a line than any editor shows.
    text = (read_text_if_there(path) or "").removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), 1):
        found = _LINE.fullmatch(line)
        user = found["user"] if found else ""
        if not found or not user:
            continue
        message = members.add(user, group, f"{path}:{number}")
        if message is not None:
            problems.append(Problem(str(path), number, found.start("user") + 1, "", message))
    if problems:
        raise ConfigError(problems)
