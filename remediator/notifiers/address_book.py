"""Turn "the owner" and "the admins" into addresses and terminals."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from remediator.config.settings import MailSettings
from remediator.core.policy import Audience
from remediator.notifiers.wall import EVERYONE

# What an account's name can be; anything else never becomes part of an address.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One addressee of one notifier: a mail address, or a user whose terminals to write to."""

    notifier: str
    address: str


class AddressBook:
    """Who is reached how, by the settings."""

    def __init__(self, mail: MailSettings, wall: str) -> None:
        self._mail = mail
        self._wall = wall

    def recipients(self, audiences: Iterable[Audience], owner: str | None) -> tuple[Recipient, ...]:
        """Return everybody to tell, each once; an owner nobody can reach means the admins."""
        found: dict[Recipient, None] = {}
        for audience in audiences:
            reached = self._owner(owner) if audience is Audience.OWNER else []
            if not any(recipient.notifier == "mail" for recipient in reached):
                reached += self._admins()
            found.update(dict.fromkeys(reached))
        return tuple(found)

    def _owner(self, owner: str | None) -> list[Recipient]:
        if owner is None or not _USER.fullmatch(owner):
            return [Recipient("wall", EVERYONE)] if self._wall == "everyone" else []
        reached = []
        if self._wall != "off":
            reached.append(Recipient("wall", EVERYONE if self._wall == "everyone" else owner))
        address = self._mail.users.get(owner) or self._mail.pattern.replace("{user}", owner)
        if self._mail.host and address:
            reached.append(Recipient("mail", address))
        return reached

    def _admins(self) -> list[Recipient]:
        if not self._mail.host:
            return []
        return [Recipient("mail", address) for address in self._mail.admins]
