"""Turn "the owner", "the admins" and lists into addresses, terminals and chats."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from remediator.config.settings import MailSettings
from remediator.core.policy import Audience
from remediator.notifiers.wall import EVERYONE

# What an account's name can be; anything else never becomes part of an address.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}", re.ASCII)
# An address in an account's comment, which its user may have written there.
_ADDRESS = re.compile(
    r"(?<![^\s,<])[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9.-]{1,190}(?![^\s,>])", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One addressee of one notifier: a mail address, a user's terminals, or a chat's name."""

    notifier: str
    address: str


def _no_account(name: str) -> str | None:
    return None


class AddressBook:
    """Who is reached how, by the settings.

    *chats* are the names of chats by audience; *comment_of* returns the comment (GECOS) of an
    account of this host, None if there is no such account.
    """

    def __init__(
        self,
        mail: MailSettings,
        wall: str,
        chats: Mapping[str, tuple[str, ...]] | None = None,
        comment_of: Callable[[str], str | None] = _no_account,
    ) -> None:
        self._mail = mail
        self._wall = wall
        self._chats = chats or {}
        self._comment_of = comment_of

    def recipients(self, audiences: Iterable[Audience], owner: str | None) -> tuple[Recipient, ...]:
        """Return everybody to tell, each once; whom nobody can reach is replaced by the admins.

        A terminal alone reaches nobody for sure.
        """
        found: dict[Recipient, None] = {}
        for audience in audiences:
            reached = self._owner(owner) if audience == Audience.OWNER else self._list(audience)
            if all(recipient.notifier == "wall" for recipient in reached):
                reached += self._list(Audience.ADMINS)
            found.update(dict.fromkeys(reached))
        return tuple(found)

    def _owner(self, owner: str | None) -> list[Recipient]:
        if owner is None or not _USER.fullmatch(owner):
            return [Recipient("wall", EVERYONE)] if self._wall == "everyone" else []
        reached = []
        if self._wall != "off":
            reached.append(Recipient("wall", EVERYONE if self._wall == "everyone" else owner))
        if self._mail.host:
            address = self._address_of(owner)
            reached += [Recipient("mail", address)] if address else []
        return reached + self._in_chat(f"owner:{owner}")

    def _address_of(self, owner: str) -> str:
        """Return the mail address of a user: by name, by their account, by the pattern."""
        named = self._mail.users.get(owner)
        if named:
            return named
        if self._mail.passwd_domain:
            comment = self._comment_of(owner)
            if comment is not None:
                written = _ADDRESS.search(comment)
                return written[0] if written else f"{owner}@{self._mail.passwd_domain}"
        return self._mail.pattern.replace("{user}", owner)

    def _list(self, audience: Audience) -> list[Recipient]:
        addresses = self._mail.admins if audience == Audience.ADMINS else audience.addresses
        mails = [Recipient("mail", address) for address in addresses if self._mail.host]
        return mails + self._in_chat(audience.name)

    def _in_chat(self, audience: str) -> list[Recipient]:
        return [Recipient("chat", name) for name in self._chats.get(audience, ())]
