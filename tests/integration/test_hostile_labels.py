"""One delivery with hostile labels, followed to everywhere it is shown: all of it stays text."""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage
from functools import partial
from pathlib import Path

import pytest

from remediator.config.settings import MailSettings
from remediator.core.alerts import Status
from remediator.core.policy import Audience, Mode, Warn
from remediator.engine.outbox import Outbox
from remediator.logs import set_up_logging
from remediator.notifiers.address_book import AddressBook
from remediator.notifiers.mail import Mail
from remediator.notifiers.wall import Wall
from tests.builders import MINUTE, SECOND, a_policy, a_rule, an_alert
from tests.fakes import agreeing
from tests.gpu_samples import a_container, a_gpu
from tests.peers.smtp import MailServer
from tests.peers.terminals import Terminals
from tests.unit.engine_site import EngineSite, hurried
from tests.unit.page_site import PageSite
from tests.unit.test_cli import remediator
from tests.unit.test_pages import foreign

pytestmark = pytest.mark.integration

HOSTILE = (
    "<script>alert(1)</script>[red]{{ 7 * 7 }}\x1b[31m\x1b]0;owned\x07\x9b2J\u202egnp\u2066\u200f"
    "\r\nBcc: eve@evil.example\r\n\r\n2026-01-01T00:00:00+00:00 error root: forged\n"
) + "y" * 100_000
COMMANDS = {"\x00", "\x07", "\x1b", "\x9b", "\u202e", "\u2066", "\u200f"}
# Nothing that people are shown is as long as what was sent.
LONGEST = 60_000


@pytest.fixture
def page(folder: Path, mail_server: MailServer) -> Iterator[PageSite]:
    """A page whose engine warns and acts, tells by a real mail server, and writes on terminals."""
    site = PageSite(folder, mode=Mode.ACT)
    password = folder / "password"
    password.write_text(mail_server.password)
    settings = MailSettings(
        host=mail_server.host,
        port=mail_server.port,
        ca_file=mail_server.ca_file,
        username=mail_server.user,
        password_file=password,
        sender="remediator@example.org",
        pattern="{user}@example.org",
        admins=("root@example.org",),
    )
    engine = site.engine
    engine.policy = a_policy(a_rule(hurried(), warn=Warn(5 * MINUTE, (Audience.OWNER,))))
    engine.stop_container.looks.clear()
    engine.stop_container.looks.append(agreeing())
    engine.parts = replace(engine.parts, directory=AddressBook(settings, "owner"))
    _with_parts(engine)
    engine.outboxes = [Outbox(Mail(settings), engine.parts), Outbox(Wall(), engine.parts)]
    yield site
    site.close()


def _with_parts(engine: EngineSite) -> None:
    """Have the engine's own parts made anew, of what they are made of now."""
    engine.looking = type(engine.looking)(engine.parts)
    engine.carrying = type(engine.carrying)(
        engine.parts, engine.stopping, engine.looking.reconsider
    )


def logged(act: Callable[[], None]) -> str:
    """Call *act* with the logging of a program of ours, and return what it wrote."""
    root, text = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    try:
        with contextlib.redirect_stderr(text):
            set_up_logging("debug", as_json=False)
            act()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return text.getvalue()


def live_through(engine: EngineSite) -> None:
    """Warn, stop and tell, and let the alert resolve."""
    labels = dict.fromkeys(("container", "user", "gpu", "instance", "note"), HOSTILE)
    alert = an_alert({**labels, "container_id": "d" * 64})
    alert = replace(alert, annotations={"summary": HOSTILE})
    engine.deliver(alert)
    for _ in range(3):
        engine.round()
        engine.send()
        engine.clock.advance(6 * MINUTE)
    engine.deliver(replace(alert, status=Status.RESOLVED))
    engine.round()
    for _ in range(3):
        engine.send()
        engine.clock.advance(40 * SECOND)


def parts_of(message: EmailMessage) -> list[str]:
    bodies = [message.get_body((kind,)) for kind in ("plain", "html")]
    return [str(message["subject"]), *(str(body.get_content()) for body in bodies if body)]


def test_hostile_labels_are_text_on_page_mail_wall_log_and_command_line(
    page: PageSite,
    mail_server: MailServer,
    terminals: Terminals,
) -> None:
    terminal = terminals.login("alice")
    log = logged(partial(live_through, page.engine))
    page.samples = [*a_gpu("0"), *a_container(HOSTILE, HOSTILE, "0", idle=300, exempt=HOSTILE)]
    page.log_in()
    month = f"{page.engine.clock.now():%Y-%m}"
    paths = ("/", "/incidents", "/incidents/1", f"/report?month={month}", "/?still=yes")
    shown = {path: page.client.get(path).text for path in paths}
    mails = mail_server.messages
    shown |= {f"mail {n}": "\n".join(parts_of(m.message)) for n, m in enumerate(mails)}
    written = terminal.read()
    assert written.count("\x07") == 1, "one notice, which rings the bell itself"
    shown["wall"] = written.replace("\x07", "")
    shown["log"] = log
    for verb in (["list"], ["show", "1"], ["waiting"]):
        done = remediator(["incidents", *verb], REMEDIATOR_STATE_DIR=str(page.folder))
        assert done.code == 0
        shown[verb[0]] = done.out

    assert page.engine.states() == ["succeeded"]
    told = [mail.recipients for mail in mails]
    assert told == [("alice@example.org",), ("root@example.org",)]
    for where, text in shown.items():
        assert not COMMANDS & set(text), where
        assert len(text) < LONGEST, where
        assert not any(line.startswith("2026-01-01T00:00:00") for line in text.splitlines()), where
    for path in paths:
        assert foreign(shown[path]) == [], path
    for mail in mails:
        assert mail.message["Bcc"] is None
        assert "<script" not in parts_of(mail.message)[2]
    for where in ("wall", "list", "show", "log"):
        assert "<script>alert(1)</script>[red]{{ 7 * 7 }}" in shown[where], where


def test_hostile_labels_are_whole_and_escaped_for_machines(page: PageSite) -> None:
    """JSON keeps what was sent; a terminal that shows it raw is given no orders all the same."""
    live_through(page.engine)

    done = remediator(["incidents", "show", "1", "--json"], REMEDIATOR_STATE_DIR=str(page.folder))

    assert done.out.isascii()
    assert not COMMANDS & set(done.out)
    story = json.loads(done.out)
    assert any(HOSTILE in detail for event in story["events"] for detail in event["details"])
