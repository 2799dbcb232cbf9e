"""Whose container it is, and how it was made: one answer for exporter, policy and notices."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from remediator.core.containers import ContainerFacts

UNKNOWN = "unknown"
# What Linux account tools accept, plus the dots and realms of directory services.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", re.ASCII)
_HOME = re.compile(r"/home/([^/]+)(?:/.*)?", re.DOTALL)
# AIME's container names: <name>._.<uid>
_NAME_WITH_UID = re.compile(r".+\._\.(\d{1,9})", re.ASCII)
# Below are system accounts: a container's root or database user is nobody's login.
_FIRST_PERSON = 1000
_NOBODY = 65534

_TYPES = frozenset({"devcontainer", "compose", "docker", "api", UNKNOWN})
_INTERFACES = frozenset({"orchestration", "atomic", "api", "docker", "vscode"})
_DEVCONTAINER = "devcontainer.local_folder"
_COMPOSE = "com.docker.compose.project"


class UserLookup(Protocol):
    """The accounts of the host."""

    def exists(self, name: str) -> bool:
        """Tell whether there is an account *name*."""

    def name_of_uid(self, uid: int) -> str | None:
        """Return the name of account number *uid*, or None."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and what named them: label, aime_label, home_folder, name_pattern, process, none."""

    user: str
    source: str

    @property
    def is_known(self) -> bool:
        """Whether anybody was found."""
        return self.user != UNKNOWN


def owner_of(facts: ContainerFacts, *, users: UserLookup, pid_owner: int | None) -> Owner:
    """Return the owner of a container; the first source that can answer does.

    *pid_owner* is the uid its main process has on the host, if that is known. Labels are text
    from outside: a name no account could have is no answer, and a home folder counts only if its
    user exists, since anyone can claim ``/home/boss``.
    """
    for source, user in (
        ("label", facts.labels.get("ds01.user", "")),
        ("aime_label", facts.labels.get("aime.mlc.USER", "")),
        ("home_folder", _user_of_home(facts.labels.get(_DEVCONTAINER, ""), users)),
        ("name_pattern", _user_of_name(facts.name, users)),
        ("process", _user_of_uid(pid_owner, users)),
    ):
        if user != UNKNOWN and _USER.fullmatch(user):
            return Owner(user, source)
    return Owner(UNKNOWN, "none")


def container_type_of(labels: Mapping[str, str]) -> str:
    """Return devcontainer, compose, docker, api or unknown: which limits fit."""
    if labels.get("ds01.interface") == "api":
        return "api"
    named = labels.get("ds01.container_type", "")
    if named:
        return named if named in _TYPES else UNKNOWN
    if _DEVCONTAINER in labels:
        return "devcontainer"
    if _COMPOSE in labels:
        return "compose"
    return "docker"


def interface_of(labels: Mapping[str, str]) -> str:
    """Return the way it was made: orchestration, atomic, api, docker or vscode."""
    named = labels.get("ds01.interface", "")
    if named in _INTERFACES:
        return named
    if _DEVCONTAINER in labels:
        return "vscode"
    if any(label.startswith("aime.mlc") for label in labels):
        return "atomic"
    return "docker"


def _user_of_home(folder: str, users: UserLookup) -> str:
    found = _HOME.fullmatch(folder)
    return found[1] if found and _USER.fullmatch(found[1]) and users.exists(found[1]) else ""


def _user_of_name(name: str, users: UserLookup) -> str:
    found = _NAME_WITH_UID.fullmatch(name)
    return _user_of_uid(int(found[1]), users) if found else ""


def _user_of_uid(uid: int | None, users: UserLookup) -> str:
    if uid is None or uid < _FIRST_PERSON or uid == _NOBODY:
        return ""
    return users.name_of_uid(uid) or ""
