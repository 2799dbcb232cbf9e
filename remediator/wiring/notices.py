"""Put together how people are told: words, addresses and notifiers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from remediator.config.chat_urls import ChatTarget, read_chat_urls
from remediator.config.settings import Settings
from remediator.metrics import WorkerMetrics
from remediator.notifiers.address_book import AddressBook
from remediator.notifiers.chat import Chat
from remediator.notifiers.interface import Notifier
from remediator.notifiers.mail import Mail
from remediator.notifiers.templates import read_templates
from remediator.notifiers.wall import Wall
from remediator.notifiers.wording import Wording
from remediator.sources.accounts import Accounts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class People:
    """Who is told how."""

    directory: AddressBook
    notifiers: tuple[Notifier, ...]


def make_people(settings: Settings) -> People:
    """Return who is told how; ConfigError lists what is wrong with the file of chat URLs."""
    file = settings.chat_urls_file
    targets = read_chat_urls(file) if file else ()
    chats = _by_audience(targets)
    directory = AddressBook(settings.mail, settings.wall, chats, Accounts().comment_of)
    # Without a file as well: what waits for a chat that is gone must come to its end.
    chat = Chat(targets, settings.chat_timeout, file or Path())
    return People(directory, (Wall(), Mail(settings.mail), chat))


def make_wording(settings: Settings, metrics: WorkerMetrics) -> Wording:
    """Return the words of notices; what is wrong with a site's templates is logged and counted.

    A bad template keeps nobody from being told: the built-in one is used.
    """
    templates = read_templates(settings.templates_dir)
    metrics.template_problems.set(len(templates.problems))
    for problem in templates.problems:
        log.error("%s; the built-in template is used", problem)
    return Wording(templates, metrics.template_failures.inc)


def _by_audience(targets: Sequence[ChatTarget]) -> dict[str, tuple[str, ...]]:
    chats: dict[str, tuple[str, ...]] = {}
    for target in targets:
        chats[target.audience] = (*chats.get(target.audience, ()), target.name)
    return chats
