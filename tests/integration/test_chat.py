"""Chats through the real Apprise, posting to a real HTTP server on the loopback."""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from remediator.config.chat_urls import read_chat_urls
from remediator.config.settings import Settings
from remediator.core.notices import Letter, NoticeKind
from remediator.core.policy import Audience
from remediator.errors import ConfigError, NotifyError
from remediator.notifiers.chat import Chat
from remediator.notifiers.interface import Envelope
from remediator.wiring.notices import make_people
from tests.builders import HOUR, SECOND
from tests.eventually import patience
from tests.peers.chat import ChatServer
from tests.unit.engine_site import EngineSite

pytestmark = pytest.mark.integration

SECRETS = ("s3cret-t0ken", "s3cret-pass")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    server = ChatServer().start()
    yield server
    server.stop()


@pytest.fixture
def log() -> Iterator[StringIO]:
    """All that the program's own log would say; pytest's also hears what is closed off from it."""
    text = StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def chat_of(folder: Path, text: str, timeout: timedelta = 5 * SECOND) -> tuple[Chat, list[str]]:
    """Return the chats of a file, and the names of its targets."""
    file = folder / "chat_urls"
    file.write_text(text)
    targets = read_chat_urls(file)
    return Chat(targets, timeout, file), [target.name for target in targets]


def envelope(
    recipient: str, subject: str = "train was stopped", body: str = "It was.\n"
) -> Envelope:
    letter = Letter(NoticeKind.ACTED, "chat", recipient, subject, body)
    return Envelope("notice-1.ab12", None, "gpu1", letter)


def refusal(chat: Chat, recipient: str) -> NotifyError:
    with pytest.raises(NotifyError) as raised:
        chat.send(envelope(recipient))
    return raised.value


def test_a_post_arrives_as_it_was_written(server: ChatServer, folder: Path) -> None:
    chat, [name] = chat_of(folder, f"# ours\n\nadmins = {server.url()}\n")

    said = chat.send(envelope(name, body="It was, über 2 h.\n"))

    [post] = server.posts
    assert said == f"accepted by {name}"
    assert post["title"] == "[gpu1] train was stopped"
    assert post["message"].strip() == "It was, über 2 h."
    assert server.paths == ["/s3cret-t0ken"]


def test_everybody_is_reached_by_their_own_url(server: ChatServer, folder: Path) -> None:
    file = folder / "chat_urls"
    file.write_text(
        f"{server.url('a')}\nowner:alice = {server.url('b')}\noncall={server.url('c')}\n"
    )
    people = make_people(Settings(chat_urls_file=file, wall="off"))
    chat = next(one for one in people.notifiers if one.name == "chat")

    def reached(*audiences: Audience, owner: str = "alice") -> list[str]:
        server.paths.clear()
        for recipient in people.directory.recipients(audiences, owner):
            assert recipient.notifier == "chat"
            chat.send(envelope(recipient.address))
        return server.paths.copy()

    assert reached(Audience.ADMINS) == ["/a"]
    assert reached(Audience.OWNER) == ["/b"]
    assert reached(Audience.OWNER, owner="bob") == ["/a"]
    assert reached(Audience("oncall"), Audience.ADMINS) == ["/c", "/a"]


@pytest.mark.parametrize(
    ("status", "permanent"), [(404, True), (410, True), (401, False), (429, False), (503, False)]
)
def test_what_may_be_repaired_is_tried_again(
    server: ChatServer, folder: Path, status: int, permanent: bool
) -> None:
    chat, [name] = chat_of(folder, server.url())
    server.status = status

    error = refusal(chat, name)

    assert str(error) == f"{name} refused it: {status}"
    assert error.permanent is permanent


def test_a_server_that_hangs_is_given_up_in_time(server: ChatServer, folder: Path) -> None:
    chat, [name] = chat_of(folder, server.url(), SECOND / 2)
    server.hang()
    began = time.monotonic()

    error = refusal(chat, name)

    assert time.monotonic() - began < 5 * patience()
    assert not error.permanent
    assert "did not answer" in str(error)


def test_a_server_that_is_down_loses_nothing(folder: Path) -> None:
    server = ChatServer().start()
    port = server.port
    chat, [name] = chat_of(folder, server.url())
    server.stop()

    assert not refusal(chat, name).permanent
    assert str(port) not in str(refusal(chat, name))


def test_a_url_that_is_gone_from_the_file_is_no_reason_to_wait(
    server: ChatServer, folder: Path
) -> None:
    chat, _ = chat_of(folder, server.url())

    error = refusal(chat, "admins/slack-00000000")

    assert error.permanent
    assert "not in the file" in str(error)


def test_no_label_mentions_anybody_or_hides_a_link(server: ChatServer, folder: Path) -> None:
    chat, [name] = chat_of(folder, server.url())
    hostile = "<!channel> @everyone <at>x</at> [click](http://evil) <script>"

    chat.send(envelope(name, subject=hostile, body=f"{hostile}\n"))

    [post] = server.posts
    for text in (post["title"], post["message"]):
        assert not {"<", ">"} & set(text)
        assert "@everyone" not in text
        assert "](" not in text


def test_what_is_too_long_for_a_service_is_not_refused(server: ChatServer, folder: Path) -> None:
    chat, [name] = chat_of(folder, server.url())

    chat.send(envelope(name, body="line\n" * 20_000))

    assert sum(post["message"].count("line") for post in server.posts) == 20_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slack://tokA-s3cret-t0ken", "chat_urls:1:1: Apprise knows no service by this URL"),
        ("\nnonsense://s3cret-t0ken", "chat_urls:2:1: Apprise knows no service by this URL"),
        ("s3cret-t0ken", "chat_urls:1:1: expected URL or AUDIENCE = URL"),
        ("owner = json://s3cret-t0ken", "chat_urls:1:1: which owner? Write owner:NAME = URL"),
        ("a b = json://s3cret-t0ken", "chat_urls:1:1: expected URL or AUDIENCE = URL"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_not_repeated(
    folder: Path, text: str, expected: str, log: StringIO
) -> None:
    with pytest.raises(ConfigError) as raised:
        chat_of(folder, text)

    assert expected in str(raised.value)
    assert "s3cret" not in str(raised.value) + log.getvalue()


def test_no_secret_reaches_a_log_the_journal_a_metric_or_a_message(
    server: ChatServer,
    folder: Path,
    log: StringIO,
    capfd: pytest.CaptureFixture[str],
) -> None:
    chat, [name] = chat_of(folder, server.url())
    targets = read_chat_urls(folder / "chat_urls")
    site = EngineSite(folder)
    outbox = site.outbox(chat)  # type: ignore[arg-type]
    letter = Letter(NoticeKind.FAILED, "chat", name, "s", "b\n")
    for status in (503, 404, 200):
        server.status = status
        site.journal.notices.put(None, [letter], site.clock.now())
        outbox.send_due()
        site.clock.advance(HOUR)
    server.hang()
    site.journal.notices.put(None, [letter], site.clock.now())
    Chat(targets, SECOND / 10, folder)
    server.go_on()
    outbox.send_due()

    kept = (folder / "journal.db").read_bytes() + (folder / "journal.db-wal").read_bytes()
    rows = str(site.ask("SELECT recipient, state, result FROM notice"))
    shown = "\n".join(
        [
            log.getvalue(), rows, repr(targets), repr(chat), str(vars(chat)), name,
            generate_latest(site.metrics.registry).decode(), *capfd.readouterr(),
        ]
    )  # fmt: skip
    site.close()
    assert "accepted by" in rows
    assert "sent by chat" in shown
    for secret in SECRETS:
        assert secret not in shown
        assert secret.encode() not in kept
