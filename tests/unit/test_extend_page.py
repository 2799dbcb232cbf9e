"""The page behind the link in a notice, over the real inbox and a worker that answers."""

import html
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry

from remediator.config.page import PageSettings
from remediator.core.policy import Policy
from remediator.journal.journal import Journal
from remediator.keep_links import KeepLink, LinkKey
from remediator.metrics import ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile
from tests.builders import DAY, HOUR, NOON, SECOND, TARGET, an_alert
from tests.unit.engine_site import EngineSite

LINK = KeepLink(TARGET.id, TARGET.started_at, 1, DAY, NOON + DAY)
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"


class Page:
    """The receiver of a site, as whoever has a link to it sees it."""

    def __init__(self, folder: Path) -> None:
        self.site = EngineSite(folder)
        self.key = LinkKey(folder / "link.key")
        self.key.make()
        (folder / "token").write_text("0123456789abcdef")
        self.rung = 0
        parts = ReceiverParts(
            inbox=self.site.inbox,
            token=TokenFile(folder / "token"),
            journal=partial(Journal.for_reading, folder),
            policy=Policy,
            ring=self._ring,
            metrics=ReceiverMetrics(CollectorRegistry()),
            clock=self.site.clock,
            largest_body=1000,
            host="gpu1",
            page=PageSettings(),
            session_key=b"k" * 32,
            ask_prometheus=lambda *_names: [],
            link_key=self.key,
        )
        self.app = create_app(parts)
        self.client: FlaskClient = self.app.test_client()

    def _ring(self) -> None:
        self.rung += 1

    def url(self, link: KeepLink = LINK) -> str:
        return f"/extend?k={self.key.sign(link)}"

    def commands(self) -> int:
        return len(self.site.inbox.commands_after(0))

    def form(self, url: str) -> str:
        """The address that the form on the page posts to."""
        found = re.search(r'<form method="post" action="([^"]+)">', self.client.get(url).text)
        assert found is not None
        return f"/extend{html.unescape(found[1])}"

    def work(self) -> None:
        self.site.intake.begin(self.site.inbox)
        self.site.commands.take_all(self.site.inbox)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page about an incident of alice's container."""
    page = Page(tmp_path)
    page.site.deliver(an_alert({"container_id": TARGET.id, "container": "idle"}))
    page.site.journal.incidents.name(1, "idle", "alice")
    yield page
    page.site.close()


def test_looking_changes_nothing_and_says_what_it_is_about(page: Page) -> None:
    url = page.url()

    for method in ("GET", "HEAD", "GET", "OPTIONS"):
        answer = page.client.open(url, method=method, headers={"Sec-Purpose": "prefetch"})
        assert answer.status_code == 200
    text = page.client.get(url).text

    assert "Keep idle?" in text
    assert "alice" in text
    assert "Keep it for 24 hours from now" in text
    assert page.commands() == 0


def test_the_form_asks_the_worker_and_shows_its_answer(page: Page) -> None:
    answer = page.client.post(page.form(page.url()))
    assert (answer.status_code, page.rung) == (303, 1)
    then = f"/extend{answer.headers['Location']}"
    waiting = page.client.get(then).text
    assert "The answer appears here in a moment" in waiting
    assert '<meta http-equiv="refresh" content="2">' in waiting

    page.work()
    done = page.client.get(then).text

    assert (
        "<strong>Done:</strong> idle is kept from the idle stop until 2026-03-02 12:00 UTC" in done
    )
    assert "refresh" not in done
    assert page.site.ask("SELECT actor, via FROM extension") == [("alice", "link")]
    assert "It is kept until 2026-03-02 12:00 UTC already, by alice" in (
        page.client.get(page.url()).text
    )


def test_a_link_that_is_followed_again_is_harmless(page: Page) -> None:
    url = page.url()
    for _ in range(3):
        page.client.post(page.form(url))
        page.work()

    assert page.site.ask("SELECT until FROM extension") == [("2026-03-02T12:00:00.000000+00:00",)]


def test_a_refusal_is_shown_as_one(page: Page) -> None:
    earlier = replace(LINK, started_at=TARGET.started_at - HOUR)

    answer = page.client.post(page.form(page.url(earlier)))
    page.work()
    text = page.client.get(f"/extend{answer.headers['Location']}").text

    assert "<strong>Not done:</strong> idle was started anew and is another one now" in text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_is_over_when_it_expires(page: Page, method: str) -> None:
    url = page.form(page.url())
    page.site.clock.advance(DAY)
    assert page.client.get(url).status_code == 200
    page.site.clock.advance(SECOND)

    answer = page.client.open(url, method=method)

    assert answer.status_code == 410
    assert "It was good until 2026-03-02 12:00 UTC" in answer.text
    assert page.commands() == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("text", ["", "x", "x.y", "%00", "é" * 50, HOSTILE])
def test_a_forged_link_leads_nowhere(page: Page, method: str, text: str) -> None:
    answer = page.client.open("/extend", method=method, query_string={"k": text})

    assert answer.status_code == 403
    assert "not whole, or not ours" in answer.text
    assert page.commands() == 0


def test_a_link_to_another_container_takes_another_signature(page: Page, tmp_path: Path) -> None:
    other = LinkKey(tmp_path / "other")
    other.make()

    assert page.client.get(f"/extend?k={other.sign(LINK)}").status_code == 403


@pytest.mark.parametrize("form", ["", "&f=", "&f=x.y"])
def test_only_the_form_of_this_link_does_anything(page: Page, form: str) -> None:
    answer = page.client.post(page.url() + form)

    assert answer.status_code == 403
    assert page.commands() == 0


def test_an_old_form_and_that_of_another_link_are_refused(page: Page) -> None:
    form = page.form(page.url())
    other = form.partition("&f=")[2]
    assert page.client.post(f"{page.url()}&f={other}").status_code == 403
    page.site.clock.advance(HOUR + SECOND)

    answer = page.client.post(form)

    assert (answer.status_code, page.commands()) == (403, 0)
    assert "open the link in the mail once more" in answer.text


def test_who_asks_without_end_has_to_wait(page: Page) -> None:
    form = page.form(page.url())

    answers = [page.client.post(form).status_code for _ in range(8)]

    assert answers == [303] * 6 + [429] * 2
    assert page.commands() == 6


def test_who_tries_forged_links_without_end_hinders_nobody(page: Page) -> None:
    answers = [page.client.get(f"/extend?k={n}").status_code for n in range(32)]

    assert answers == [403] * 30 + [429] * 2
    assert page.client.get(page.url()).status_code == 200


def test_the_answer_to_somebody_elses_command_is_not_shown(page: Page) -> None:
    page.site.command("pause", reason="a secret reason")

    text = page.client.get(f"{page.url()}&n=1").text

    assert "secret" not in text
    assert "paused" not in text


@pytest.mark.parametrize("number", ["-1", "x", "9" * 40, "²"])
def test_a_number_that_is_none_is_no_number(page: Page, number: str) -> None:
    answer = page.client.get("/extend", query_string={"k": page.url()[10:], "n": number})

    assert answer.status_code == 200
    assert "Keep it for" in answer.text


def test_what_does_not_belong_together_is_not_told(page: Page) -> None:
    text = page.client.get(page.url(replace(LINK, container="d0" * 32))).text

    assert "alice" not in text
    assert "unknown" in text


def test_every_answer_forbids_what_a_page_could_do(page: Page) -> None:
    page.site.journal.incidents.name(1, HOSTILE, HOSTILE)
    for answer in (page.client.get(page.url()), page.client.get("/extend?k=x")):
        assert "script>alert" not in answer.text
        assert "\x1b" not in answer.text
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
        assert answer.headers["Cache-Control"] == "no-store"
    with page.client.get("/extend/static/style.css") as style:
        assert style.status_code == 200
    assert page.client.get("/").headers["Location"].startswith("/login")


def test_a_full_disk_is_said_with_another_way(page: Page, tmp_path: Path) -> None:
    form = page.form(page.url())
    with closing(sqlite3.connect(tmp_path / "inbox.db")) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON command"
            " BEGIN SELECT RAISE(ABORT, 'no space left'); END"
        )

    answer = page.client.post(form)

    assert answer.status_code == 503
    assert "touch /workspace/.keep-alive" in answer.text


def test_without_its_key_it_says_so(page: Page, tmp_path: Path) -> None:
    url = page.url()
    (tmp_path / "link.key").unlink()

    assert page.client.get(url).status_code == 503


def test_without_a_journal_it_still_asks(page: Page, tmp_path: Path) -> None:
    form = page.form(page.url())
    (tmp_path / "journal.db").rename(tmp_path / "away.db")

    assert "Keep it for" in page.client.get(page.url()).text
    assert page.client.post(form).status_code == 303
    assert page.site.inbox.commands_after(0)[0].actor == "somebody"
