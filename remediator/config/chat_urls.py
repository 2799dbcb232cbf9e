"""Read the file of Apprise URLs: whom to tell in which chat. Each URL is a secret."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from remediator.config.reader import read_text
from remediator.core.policy import Audience
from remediator.errors import ConfigError, Problem

_LINE = re.compile(r"(?:(?P<audience>[^\s=:/]+(?::[^\s=/]+)?)\s*=\s*)?(?P<url>\S+)")
_URL = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)://\S+", re.ASCII)
_OWNER = "owner:"
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """One URL and who is reached by it: ``admins``, ``owner:NAME`` or a list of the policy.

    ``name`` is what may be shown: it stays the same for as long as the URL does.
    """

    audience: str
    url: str = field(repr=False)
    line: int = 0

    @property
    def name(self) -> str:
        """The audience, the service, and what tells it from another one there."""
        scheme = self.url.partition("://")[0].lower()
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:_SHOWN]
        return f"{self.audience}/{scheme}-{digest}"


def read_chat_urls(path: Path) -> tuple[ChatTarget, ...]:
    """Return the targets in the file at *path*, one a line; ConfigError names what is wrong.

    A line is ``URL`` for the admins, or ``AUDIENCE = URL``. No message repeats any of it.
    """
    targets: list[ChatTarget] = []
    problems: list[Problem] = []
    for number, line in enumerate(read_text(path).removeprefix("\ufeff").split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        if found is None or not _URL.fullmatch(found["url"]):
            message = "expected URL or AUDIENCE = URL, such as admins = slack://TOKEN"
            problems.append(Problem(str(path), number, 1, "", message))
            continue
        audience = found["audience"] or Audience.ADMINS.name
        if audience in {Audience.OWNER.name, _OWNER}:
            message = "which owner? Write owner:NAME = URL"
            problems.append(Problem(str(path), number, 1, "", message))
            continue
        targets.append(ChatTarget(audience, found["url"], number))
    if problems:
        raise ConfigError(problems)
    return tuple(targets)
