"""The outbox, a real SMTP server and real terminals: each is told once, and nothing is lost."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from remediator.config.settings import MailSettings
from remediator.core.notices import Letter, Matter, NoticeKind, acted, warning
from remediator.core.policy import Audience
from remediator.engine.outbox import Outbox
from remediator.engine.telling import tell
from remediator.notifiers.address_book import AddressBook
from remediator.notifiers.mail import Mail
from remediator.notifiers.wall import EVERYONE, Wall
from tests.builders import HOUR, MINUTE, NOON, SECOND, a_rung, an_alert
from tests.peers.smtp import MailServer
from tests.peers.terminals import Terminals
from tests.unit.engine_site import EngineSite

pytestmark = pytest.mark.integration

HOSTILE = '<img src="http://evil/x"><script>x()</script>\x1b]0;x\x07\r\nBcc: eve@evil\n\u202e' + (
    "y" * 100_000
)


@pytest.fixture
def settings(mail_server: MailServer, folder: Path) -> MailSettings:
    password_file = folder / "password"
    password_file.write_text(mail_server.password)
    return MailSettings(
        host=mail_server.host,
        port=mail_server.port,
        ca_file=mail_server.ca_file,
        username=mail_server.user,
        password_file=password_file,
        sender="remediator@example.org",
        pattern="{user}@example.org",
        admins=("root@example.org",),
        timeout=5 * SECOND,
    )


@pytest.fixture
def site(folder: Path, settings: MailSettings) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    site.parts = replace(site.parts, directory=AddressBook(settings, "owner"))
    site.outboxes = [Outbox(Mail(settings), site.parts), Outbox(Wall(), site.parts)]
    site.journal.incidents.attach(
        an_alert(), subject="container:c", fault="f", delivery=1, at=NOON, receiver="r"
    )
    yield site
    site.close()


def put(site: EngineSite, kind: NoticeKind, recipient: str, subject: str) -> None:
    patience = 30 * SECOND if kind is NoticeKind.ACTED else 0 * SECOND
    letter = Letter(kind, "mail", recipient, subject, f"{subject}!\n", "", "", "", patience)
    site.journal.notices.put(1, [letter], site.clock.now())


def live(site: EngineSite, rounds: int, step: int = 60) -> None:
    for _ in range(rounds):
        site.send()
        site.clock.advance(step * SECOND)


def a_matter(title: str = "train", host: str = "gpu1") -> Matter:
    return Matter(1, host, title, "alice", "DS01ContainerIdle", (f"nvml: {title} lies idle",))


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    return "" if part is None else str(part.get_content())


def test_an_hour_without_a_server_loses_nothing_and_repeats_nothing(
    site: EngineSite, mail_server: MailServer, terminals: Terminals
) -> None:
    terminal = terminals.login("alice")
    mail_server.stop()
    for number in range(30):
        put(site, NoticeKind.FAILED, "root@example.org", f"failed {number}")
        put(site, NoticeKind.ACTED, "alice@example.org", f"stopped {number}")
        live(site, 2)
    tell(site.parts, acted(a_matter(), "stop-container", {}, "it is gone"), (Audience.OWNER,))
    site.send()
    assert "train on gpu1 was stopped" in terminal.read(), "mail holds nobody else up"
    assert site.metric("notices_total", notifier="mail", result="sent") == 0

    mail_server.start()
    live(site, 20)

    assert site.journal.notices.waiting() == 0
    failed = Counter(mail.subject for mail in mail_server.to("root@example.org"))
    assert failed == {f"[gpu1] failed {number}": 1 for number in range(30)}
    mails = mail_server.to("alice@example.org")
    told = "\n".join(f"{mail.subject}\n{mail.text}" for mail in mails)
    assert all(f"stopped {number}" in told for number in range(30))
    assert len(mails) < 20
    ids = [mail.message["Message-ID"] for mail in mail_server.messages]
    assert len(set(ids)) == len(ids)


def test_one_recipient_who_is_refused_costs_the_others_nothing(
    site: EngineSite, mail_server: MailServer
) -> None:
    mail_server.refuse("nobody@example.org")
    for name in ("alice", "nobody", "bob"):
        put(site, NoticeKind.FAILED, f"{name}@example.org", "x")
    for number in range(4):
        put(site, NoticeKind.ACTED, "nobody@example.org", f"stopped {number}")
    live(site, 5)

    assert [mail.recipients[0] for mail in mail_server.messages] == [
        "alice@example.org",
        "bob@example.org",
    ]
    states = [row[0] for row in site.ask("SELECT state FROM notice ORDER BY id")]
    assert states == ["sent", "failed", "sent", *["failed"] * 4]
    assert site.metric("notices_total", notifier="mail", result="failed") == 5


def test_a_server_that_answers_too_late_gets_copies_that_are_known_as_such(
    site: EngineSite, mail_server: MailServer, settings: MailSettings
) -> None:
    hasty = Outbox(Mail(replace(settings, timeout=SECOND / 2)), site.parts)
    mail_server.be_slow(SECOND)
    for name in "abcd":
        put(site, NoticeKind.ACTED, "alice@example.org", name)
    hasty.send_due()
    assert site.journal.notices.waiting() == 4

    mail_server.be_slow(0 * SECOND)
    site.clock.advance(MINUTE)
    hasty.send_due()

    assert site.journal.notices.waiting() == 0
    mails = mail_server.to("alice@example.org")
    assert {mail.subject for mail in mails} == {"[gpu1] a, and 3 more"}
    assert len({mail.message["Message-ID"] for mail in mails}) == 1
    assert len({mail.text for mail in mails}) == 1


def test_a_mass_stop_is_two_mails_and_says_everything(
    site: EngineSite, mail_server: MailServer
) -> None:
    for number in range(40):
        matter = a_matter(f"job-{number}")
        tell(site.parts, acted(matter, "stop-container", {}, "it is gone"), (Audience.OWNER,))
        live(site, 1, step=0)
        site.clock.advance(SECOND / 2)
    live(site, 4, step=10)

    mails = mail_server.to("alice@example.org")
    assert len(mails) == 2
    [digest] = [mail for mail in mails if "more" in mail.subject]
    for number in range(1, 40):
        for text in (digest.text, html_of(digest.message)):
            assert f"job-{number} on gpu1 was stopped and removed" in text
            assert f"nvml: job-{number} lies idle" in text


def test_labels_of_others_are_harmless_everywhere(
    site: EngineSite, mail_server: MailServer, terminals: Terminals
) -> None:
    terminal = terminals.login("alice")
    for number in range(4):
        matter = a_matter(f"{number}{HOSTILE}", HOSTILE)
        tell(site.parts, warning(matter, a_rung(), NOON, HOUR), (Audience.OWNER,))
        site.send()
    live(site, 40, step=1)

    single, digest = mail_server.to("alice@example.org")
    for mail in (single, digest):
        html = html_of(mail.message)
        assert mail.recipients == ("alice@example.org",)
        assert mail.message["Bcc"] is None
        assert len(mail.subject) <= 200
        assert "<script" not in html
        assert "<img" not in html
        assert "&lt;script&gt;" in html
        assert len(html) < 40_000
        for text in (mail.subject, mail.text, html):
            assert not {"\x1b", "\x07", "\u202e"} & set(text)
    shown = terminal.read()
    assert "<script>" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert len(shown) < 20_000


def test_many_at_once_are_few_interruptions_on_a_terminal(
    site: EngineSite, terminals: Terminals
) -> None:
    terminal = terminals.login("bob")
    for number in range(40):
        letter = Letter(
            NoticeKind.ACTED, "wall", EVERYONE, f"job-{number} was stopped", "", "", "", "", MINUTE
        )
        site.journal.notices.put(1, [letter], site.clock.now())
    live(site, 3)

    assert terminal.read().count("Remediator on gpu1:") == 1
