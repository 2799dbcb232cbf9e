from dataclasses import replace

import pytest

from remediator.config.settings import MailSettings
from remediator.core.policy import Audience
from remediator.notifiers.address_book import AddressBook, Recipient
from remediator.notifiers.wall import EVERYONE

OWNER, ADMINS = Audience.OWNER, Audience.ADMINS
MAIL = MailSettings(
    host="mail.example.org",
    pattern="{user}@example.org",
    users={"bob": "robert@example.org"},
    admins=("root@example.org", "ops@example.org"),
)
NO_PATTERN = MailSettings(host="mail.example.org", admins=("root@example.org",))
NO_MAIL = MailSettings(pattern="{user}@example.org", admins=("root@example.org",))


def reached(
    *audiences: Audience, owner: str | None = "alice", mail: MailSettings = MAIL, wall: str = "off"
) -> list[str]:
    recipients = AddressBook(mail, wall).recipients(audiences, owner)
    assert all(isinstance(recipient, Recipient) for recipient in recipients)
    return [f"{recipient.notifier} {recipient.address}" for recipient in recipients]


BOTH_ADMINS = ["mail root@example.org", "mail ops@example.org"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(reached(OWNER), ["mail alice@example.org"], id="by the pattern"),
        pytest.param(reached(OWNER, owner="bob"), ["mail robert@example.org"], id="by name"),
        pytest.param(reached(ADMINS), BOTH_ADMINS, id="admins"),
        pytest.param(reached(OWNER, ADMINS), ["mail alice@example.org", *BOTH_ADMINS], id="both"),
        pytest.param(reached(ADMINS, ADMINS), BOTH_ADMINS, id="each once"),
        pytest.param(
            reached(ADMINS, OWNER, owner="root"),
            ["mail root@example.org", "mail ops@example.org"],
            id="an owner who is an admin",
        ),
        pytest.param(reached(OWNER, owner=None), BOTH_ADMINS, id="nobody's"),
        pytest.param(reached(), [], id="nobody"),
        pytest.param(
            reached(OWNER, wall="owner"), ["wall alice", "mail alice@example.org"], id="terminals"
        ),
        pytest.param(
            reached(OWNER, wall="everyone"),
            [f"wall {EVERYONE}", "mail alice@example.org"],
            id="all terminals",
        ),
        pytest.param(reached(OWNER, owner=None, wall="owner"), BOTH_ADMINS, id="nobody's terminal"),
        pytest.param(
            reached(OWNER, owner=None, wall="everyone"),
            [f"wall {EVERYONE}", *BOTH_ADMINS],
            id="nobody's, on all terminals",
        ),
        pytest.param(
            reached(OWNER, mail=NO_PATTERN, wall="owner"),
            ["wall alice", "mail root@example.org"],
            id="no address: the admins as well",
        ),
        pytest.param(reached(OWNER, mail=NO_MAIL, wall="owner"), ["wall alice"], id="no mail"),
        pytest.param(reached(OWNER, ADMINS, mail=NO_MAIL), [], id="no way at all"),
    ],
)
def test_people_are_reached(told: list[str], expected: list[str]) -> None:
    assert told == expected


@pytest.mark.parametrize(
    "owner",
    ["", "unknown user", "a\nBcc: x@example.net", "a,b", "-f", "x@y", "../x", "{user}", "a" * 65],
)
def test_what_is_no_user_name_never_becomes_an_address(owner: str) -> None:
    assert reached(OWNER, owner=owner, wall="owner") == BOTH_ADMINS


def test_a_pattern_is_not_a_format() -> None:
    odd = MailSettings(host="h", pattern="{user}@{0.host}")

    assert reached(OWNER, mail=odd) == ["mail alice@{0.host}"]


ONCALL = Audience("oncall", ("carol@example.org",))
CHATS = {"admins": ("admins/slack-1",), "owner:alice": ("alice/ntfy-1",), "oncall": ("oncall/x-1",)}


def reached_with_chats(*audiences: Audience, owner: str = "alice", wall: str = "off") -> list[str]:
    book = AddressBook(NO_MAIL, wall, CHATS)
    return [f"{to.notifier} {to.address}" for to in book.recipients(audiences, owner)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(reached(ONCALL), ["mail carol@example.org"], id="a list"),
        pytest.param(reached(Audience("empty")), BOTH_ADMINS, id="a list of nobody"),
        pytest.param(reached(ONCALL, mail=NO_MAIL), [], id="a list, without mail"),
        pytest.param(reached_with_chats(ADMINS), ["chat admins/slack-1"], id="admins in a chat"),
        pytest.param(reached_with_chats(ONCALL), ["chat oncall/x-1"], id="a list in a chat"),
        pytest.param(reached_with_chats(OWNER), ["chat alice/ntfy-1"], id="an owner in a chat"),
        pytest.param(
            reached_with_chats(OWNER, owner="bob", wall="owner"),
            ["wall bob", "chat admins/slack-1"],
            id="an owner at a terminal only",
        ),
        pytest.param(
            reached_with_chats(OWNER, owner="alice = x"), ["chat admins/slack-1"], id="no user"
        ),
    ],
)
def test_lists_and_chats_are_reached(told: list[str], expected: list[str]) -> None:
    assert told == expected


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        pytest.param("Alice,,,", "alice@local.example.org", id="an account"),
        pytest.param("Alice <al@uni.example>,,", "al@uni.example", id="an address in its comment"),
        pytest.param("Alice,al@uni.example,x", "al@uni.example", id="in another field"),
        pytest.param("a\r\nBcc:x@evil.example", "alice@local.example.org", id="no such trick"),
        pytest.param(None, "alice@example.org", id="no account: the pattern"),
    ],
)
def test_an_account_of_this_host_tells_the_address(comment: str | None, expected: str) -> None:
    mail = replace(MAIL, passwd_domain="local.example.org")
    book = AddressBook(mail, "off", comment_of=lambda name: comment if name == "alice" else None)

    assert [to.address for to in book.recipients([OWNER], "alice")] == [expected]
    assert [to.address for to in book.recipients([OWNER], "bob")] == ["robert@example.org"]
