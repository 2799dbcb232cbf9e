"""Mail and wall against a real SMTP server and real terminals."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.settings import MailSettings
from remediator.core.notices import Letter, NoticeKind
from remediator.errors import NotifyError
from remediator.notifiers.interface import Envelope
from remediator.notifiers.mail import Mail
from remediator.notifiers.wall import EVERYONE, Wall
from tests.eventually import patience
from tests.peers.ports import LOOPBACK
from tests.peers.smtp import MailServer
from tests.peers.terminals import Terminals

pytestmark = pytest.mark.integration

SECOND = timedelta(seconds=1)
HOSTILE = "a\x1b[2J\x07b\0c\x9bd\x7f\u202ee"


def envelope(
    recipient: str,
    *,
    notifier: str = "mail",
    subject: str = "idle on gpu1 was stopped",
    body: str = "It was stopped.\n.\nIts grüße: …\n",
    number: int = 7,
) -> Envelope:
    letter = Letter(NoticeKind.ACTED, notifier, recipient, subject, body)
    return Envelope(f"notice-{number}.ab12", "incident-3.ab12", "gpu1", letter)


@pytest.fixture
def settings(mail_server: MailServer, folder: Path) -> MailSettings:
    password_file = folder / "password"
    password_file.write_text(f"{mail_server.password}\n")
    return MailSettings(
        host=mail_server.host,
        port=mail_server.port,
        ca_file=mail_server.ca_file,
        username=mail_server.user,
        password_file=password_file,
        sender="remediator@example.org",
        timeout=5 * SECOND,
    )


def refusal(settings: MailSettings, recipient: str = "alice@example.org") -> NotifyError:
    """Return why a letter could not be sent."""
    with pytest.raises(NotifyError) as raised:
        Mail(settings).send(envelope(recipient))
    return raised.value


def test_a_mail_arrives_as_it_was_written(mail_server: MailServer, settings: MailSettings) -> None:
    said = Mail(settings).send(envelope("alice@example.org"))

    [mail] = mail_server.to("alice@example.org")
    assert said == f"accepted by {mail_server.host}"
    assert mail.subject == "[gpu1] idle on gpu1 was stopped"
    assert mail.text.replace("\r\n", "\n") == "It was stopped.\n.\nIts grüße: …\n"
    assert mail.message["From"] == "remediator@example.org"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert mail.message["X-Remediator-Kind"] == "acted"


def test_a_second_copy_has_the_same_id_and_an_incident_is_a_thread(
    mail_server: MailServer, settings: MailSettings
) -> None:
    for number in (7, 7, 8):
        Mail(settings).send(envelope("alice@example.org", number=number))

    ids = [mail.message["Message-ID"] for mail in mail_server.messages]
    threads = {mail.message["References"] for mail in mail_server.messages}
    assert ids[0] == ids[1] != ids[2]
    assert threads == {"<incident-3.ab12.remediator@gpu1>"}


def test_hostile_text_adds_no_header_and_no_recipient(
    mail_server: MailServer, settings: MailSettings
) -> None:
    subject = f"x\r\nBcc: eve@example.org\r\n\r\n{HOSTILE}" + "y" * 5000
    Mail(settings).send(envelope("alice@example.org", subject=subject, body=f".\r\n{HOSTILE}\n"))

    [mail] = mail_server.messages
    assert mail.recipients == ("alice@example.org",)
    assert mail.message["Bcc"] is None
    assert len(mail.subject) <= 200
    assert "\x1b" not in mail.subject


def test_a_recipient_that_is_refused_is_refused_for_good(
    mail_server: MailServer, settings: MailSettings
) -> None:
    mail_server.refuse("nobody@example.org")

    error = refusal(settings, "nobody@example.org")

    assert error.permanent
    assert "550 5.1.1 no such user here" in str(error)


def test_a_wrong_password_is_no_reason_to_give_a_letter_up(
    mail_server: MailServer, settings: MailSettings, folder: Path
) -> None:
    (folder / "password").write_text("wrong secret\n")

    error = refusal(settings)

    assert not error.permanent
    assert "535" in str(error)
    assert "wrong secret" not in str(error)
    assert mail_server.messages == []


@pytest.mark.parametrize("content", ["pässwort\n".encode(), b"\xff\xfe"])
def test_a_password_that_smtp_cannot_take_is_explained_without_telling_it(
    settings: MailSettings, folder: Path, content: bytes
) -> None:
    (folder / "password").write_bytes(content)

    error = refusal(settings)

    assert not error.permanent
    assert "ASCII" in str(error)
    assert "pä" not in str(error)


def test_a_missing_password_file_is_no_reason_to_give_a_letter_up(
    settings: MailSettings, folder: Path
) -> None:
    (folder / "password").unlink()

    assert not refusal(settings).permanent
    assert not refusal(replace(settings, password_file=None)).permanent


def test_a_login_that_is_missing_in_the_settings_is_no_reason_to_give_a_letter_up(
    settings: MailSettings,
) -> None:
    error = refusal(replace(settings, username=""))

    assert not error.permanent
    assert "530" in str(error)


def test_nothing_is_sent_to_a_server_that_nobody_vouches_for(
    mail_server: MailServer, settings: MailSettings
) -> None:
    error = refusal(replace(settings, ca_file=None))

    assert not error.permanent
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert mail_server.messages == []


def test_nothing_is_sent_to_a_server_with_another_name(
    mail_server: MailServer, settings: MailSettings
) -> None:
    # Another way to write 127.0.0.1, which is not in the certificate.
    assert "CERTIFICATE_VERIFY_FAILED" in str(refusal(replace(settings, host="127.1")))
    assert mail_server.messages == []


@contextmanager
def plain_server() -> Iterator[tuple[int, list[bytes]]]:
    """A mail server of the old days, which knows no STARTTLS; what it heard is in the list."""
    heard: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 old\r\n")
            for line in lines:
                heard.append(line)
                connection.sendall(b"250 old\r\n")

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(10)


def test_without_starttls_neither_password_nor_letter_is_sent(settings: MailSettings) -> None:
    with plain_server() as (port, heard):
        error = refusal(replace(settings, host=LOOPBACK, port=port))

    assert not error.permanent
    assert {line.split()[0].upper() for line in heard} <= {b"EHLO", b"HELO", b"QUIT"}


def test_a_slow_server_is_given_up_in_time_and_tried_again(
    mail_server: MailServer, settings: MailSettings
) -> None:
    mail_server.be_slow(3 * SECOND)
    began = time.monotonic()

    error = refusal(replace(settings, timeout=SECOND / 2))

    assert not error.permanent
    assert time.monotonic() - began < 3 * patience()
    mail_server.be_slow(timedelta())
    Mail(settings).send(envelope("bob@example.org"))
    assert mail_server.to("bob@example.org")


def test_a_server_that_is_down_is_tried_again_when_it_is_back(
    mail_server: MailServer, settings: MailSettings
) -> None:
    mail_server.stop()
    error = refusal(settings)
    mail_server.start()
    Mail(settings).send(envelope("alice@example.org"))

    assert not error.permanent
    assert mail_server.address in str(error)
    assert len(mail_server.messages) == 1


def test_a_host_that_does_not_exist_is_tried_again(settings: MailSettings) -> None:
    assert not refusal(replace(settings, host="no-such-host.invalid")).permanent


def to(user: str, **more: str) -> Envelope:
    return envelope(user, notifier="wall", **more)  # type: ignore[arg-type]


def test_only_the_owners_terminals_are_written_to(terminals: Terminals) -> None:
    first, second = terminals.login("alice"), terminals.login("alice")
    other = terminals.login("bob")

    said = Wall().send(to("alice", body="Its grüße: …\n"))

    assert said == "2 of 2 terminals of alice reached"
    for terminal in (first, second):
        text = terminal.read()
        assert "Remediator on gpu1: idle on gpu1 was stopped" in text
        assert "Its grüße: …" in text
    assert other.read() == ""


def test_everyone_is_told_by_wall(terminals: Terminals) -> None:
    logged_in = [terminals.login("alice"), terminals.login("bob")]

    said = Wall().send(to(EVERYONE, body="Its grüße: …\n"))

    assert said == "sent to 2 terminals"
    for terminal in logged_in:
        text = terminal.read()
        assert "idle on gpu1 was stopped" in text
        assert "grüße" in text


@pytest.mark.parametrize("recipient", ["alice", EVERYONE])
def test_who_refuses_messages_is_told_all_the_same_since_root_writes(
    terminals: Terminals, recipient: str
) -> None:
    terminal = terminals.login("alice")
    terminal.refuse_messages()

    Wall().send(to(recipient))

    assert "was stopped" in terminal.read()


@pytest.mark.parametrize("recipient", ["alice", EVERYONE])
def test_a_terminal_that_hangs_holds_nobody_up(terminals: Terminals, recipient: str) -> None:
    hung, other = terminals.login("alice"), terminals.login("alice")
    hung.fill()
    began = time.monotonic()

    said = Wall().send(to(recipient))

    assert time.monotonic() - began < 10 * patience()
    assert "was stopped" in other.read()
    # The kernel may find room for a few lines after all.
    assert "2 terminals" in said


def test_a_session_that_crashed_is_not_counted_as_reached(terminals: Terminals) -> None:
    stale, other = terminals.login("alice"), terminals.login("alice")
    terminals.vanish(stale)

    assert Wall().send(to("alice")) == "1 of 2 terminals of alice reached"
    assert "was stopped" in other.read()


@pytest.mark.parametrize("recipient", ["alice", EVERYONE])
def test_nobody_being_logged_in_is_no_failure(terminals: Terminals, recipient: str) -> None:
    terminals.logout_all()

    assert Wall().send(to(recipient)) in {
        "0 of 0 terminals of alice reached",
        "sent to 0 terminals",
    }


@pytest.mark.parametrize("recipient", ["alice", EVERYONE])
def test_hostile_text_gives_a_terminal_no_orders(terminals: Terminals, recipient: str) -> None:
    terminal = terminals.login("alice")

    Wall().send(to(recipient, subject=HOSTILE, body=f"{HOSTILE}\n" * 5000))

    text = terminal.read()
    assert "a[2Jbcde" in text
    assert not {"\x1b", "\0", "\x9b", "\x7f", "\u202e"} & set(text)
    assert text.count("a[2J") <= 31


def test_a_name_that_is_a_files_is_not_taken_for_the_file(terminals: Terminals) -> None:
    # wall broadcasts the content of a file that is its argument.
    terminal = terminals.login("alice")

    Wall().send(to(EVERYONE, subject="/etc/passwd"))

    assert "root:" not in terminal.read()
