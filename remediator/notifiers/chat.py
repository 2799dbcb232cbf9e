"""Tell people in chats: every service that Apprise knows, each by a URL that is a secret.

Apprise and what it sends with write such URLs into their logs, so those logs are closed here.
"""

import logging
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import apprise

from remediator.config.chat_urls import ChatTarget
from remediator.core.notices import clean
from remediator.errors import ConfigError, NotifyError, Problem
from remediator.notifiers.interface import Envelope

_STATUS = re.compile(r"\berror=(\d{3})\b", re.ASCII)
# The letter or the address is wrong for good; a login or a limit may be repaired tomorrow.
_PERMANENT = frozenset({400, 404, 405, 410, 413, 414, 422})
_MENTION = re.compile(r"@(?=\w)")
_OTHERS = str.maketrans({"<": "\u2039", ">": "\u203a"})


class Chat:
    """The chats of one file of URLs."""

    name = "chat"

    def __init__(self, targets: Sequence[ChatTarget], timeout: timedelta, file: Path) -> None:
        """Take *targets* of *file*; ConfigError names the lines that Apprise can't use."""
        _close_logs()
        self._timeout = timeout.total_seconds()
        self._services: dict[str, apprise.Apprise] = {}
        problems = []
        for target in targets:
            service = _service(target.url)
            if service is None:
                message = "Apprise knows no service by this URL, or it is not complete"
                problems.append(Problem(str(file), target.line, 1, "", message))
            else:
                self._services[target.name] = service
        if problems:
            raise ConfigError(problems)

    def send(self, envelope: Envelope) -> str:
        """Post the letter; the service has it when this returns."""
        letter = envelope.letter
        service = self._services.get(letter.recipient)
        if service is None:
            message = f"{clean(letter.recipient)} is not in the file of chat URLs any more"
            raise NotifyError(message, permanent=True)
        said: list[str] = []
        result = service.notify(
            title=harmless(f"[{clean(envelope.host)}] {letter.subject}"),
            body=harmless(letter.body),
            body_format=apprise.NotifyFormat.TEXT,
            timeout=self._timeout,
            log_callback=lambda entry, _: said.append(str(entry.message)),
        )
        if result:
            return f"accepted by {letter.recipient}"
        raise _failure(letter.recipient, said)


def harmless(text: str) -> str:
    """Return *text* without what a chat would take for a mention, a tag or a hidden link."""
    return _MENTION.sub("@\u200b", text.translate(_OTHERS)).replace("](", "] (")


def _service(url: str) -> apprise.Apprise | None:
    asset = apprise.AppriseAsset(app_id="Remediator", app_desc="", app_url="")
    service = apprise.Apprise(asset=asset)
    if not service.add(url):
        return None
    for plugin in service:
        # What is too long for a service goes in parts; most would refuse it otherwise.
        if plugin.overflow_mode == apprise.OverflowMode.UPSTREAM:
            plugin.overflow_mode = apprise.OverflowMode.SPLIT
    return service


def _failure(recipient: str, said: Sequence[str]) -> NotifyError:
    """Return what went wrong: of what Apprise says only the status, the rest may be secret."""
    codes = [int(code) for line in said for code in _STATUS.findall(line)]
    if not codes:
        return NotifyError(f"{recipient} did not answer, or not in time")
    return NotifyError(f"{recipient} refused it: {codes[-1]}", permanent=codes[-1] in _PERMANENT)


def _close_logs() -> None:
    for name in ("apprise", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.INFO))
    logger = logging.getLogger("apprise")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
