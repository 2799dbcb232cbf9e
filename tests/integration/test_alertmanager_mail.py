"""The mails that a real Alertmanager makes of the shipped templates, as a real server gets them."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.alert_rules.shipped import ALERTMANAGER
from tests.eventually import eventually
from tests.peers.alertmanager import Alertmanager
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.smtp import MailServer, ReceivedMail
from tests.peers.stage import Stage

pytestmark = pytest.mark.integration

HOSTILE = "train\r\nBcc: everybody@example.org\r\n\r\n<script>alert(1)</script>\u202e" + "x" * 2000
RUNBOOK = "https://runbooks.example.org/alert_rules/runbooks/DS01GPULost.md"
GRAPH = "http://prometheus.example.org:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1"

# Once for all: Alertmanager keeps the earliest start that it was ever told.
BEGAN = datetime.now(UTC) - timedelta(minutes=70)


@pytest.fixture
def alertmanager(stage: Stage, mail_server: MailServer) -> Alertmanager:
    nobody = f"http://{LOOPBACK}:{free_port()}"
    return stage.shipped_alertmanager(ALERTMANAGER, nobody, mail=mail_server)


class Page(HTMLParser):
    """The tags, links and words of one HTML mail."""

    def __init__(self, mail: ReceivedMail) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.words = ""
        part = mail.message.get_body(("html",))
        assert part is not None
        self.source = str(part.get_content())
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.words += data


def alert(
    name: str = "DS01GPULost", severity: str = "critical", ended: bool = False, **labels: str
) -> dict[str, Any]:
    """One alert as Prometheus sends it; *ended* an hour and ten minutes after it began."""
    sent = {
        "labels": {"alertname": name, "severity": severity, "instance": "gpu1:9101", **labels},
        "annotations": {
            "summary": "The driver cannot talk to a GPU.",
            "description": f"GPU {labels.get('UUID', 'GPU-a')} of gpu1:9101 is lost.",
            "runbook_url": RUNBOOK,
        },
        "startsAt": BEGAN.isoformat(),
        "generatorURL": GRAPH,
    }
    return {**sent, "endsAt": (BEGAN + timedelta(minutes=70)).isoformat()} if ended else sent


def mail_about(server: MailServer, words: str = "") -> ReceivedMail:
    """The first mail whose subject has *words*.

    Alertmanager takes a post apart, so a mail with less than all of it may come before.
    """

    def found() -> list[ReceivedMail]:
        return [mail for mail in server.messages if words in mail.subject]

    return eventually(found, 10, f"a mail about {words or 'anything'}")[0]


def test_a_mail_says_what_where_since_when_and_what_to_do(
    alertmanager: Alertmanager, mail_server: MailServer
) -> None:
    alertmanager.post([alert(UUID="GPU-a")])

    mail = mail_about(mail_server)

    assert mail.subject == "[CRITICAL] DS01GPULost on gpu1:9101"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    page = Page(mail)
    for text in (mail.text, page.words):
        assert "The driver cannot talk to a GPU." in text
        assert "GPU GPU-a of gpu1:9101 is lost." in text
        assert f"since {BEGAN:%Y-%m-%d %H:%M} UTC" in text
        assert "UUID" in text
    for link in (RUNBOOK, GRAPH, "https://remediator.example.org/"):
        assert link in mail.text
        assert link in page.links


def test_the_subject_counts_when_there_is_more_than_one(
    alertmanager: Alertmanager, mail_server: MailServer
) -> None:
    alertmanager.post([alert(UUID="GPU-a"), alert(UUID="GPU-b")])

    mail = mail_about(mail_server, "(2)")

    assert mail.subject == "[CRITICAL] DS01GPULost (2) on gpu1:9101"
    assert mail.text.count("\n* ") == 2


def test_what_is_resolved_is_told_with_how_long_it_lasted(
    alertmanager: Alertmanager, mail_server: MailServer
) -> None:
    alertmanager.post([alert(UUID="GPU-a"), alert(UUID="GPU-b")])
    mail_about(mail_server, "(2)")

    alertmanager.post([alert(UUID="GPU-a", ended=True)])
    mixed = mail_about(mail_server, "1 resolved")
    alertmanager.post([alert(UUID="GPU-b", ended=True)])
    resolved = mail_about(mail_server, "RESOLVED")

    assert mixed.subject == "[CRITICAL] DS01GPULost (1 firing, 1 resolved) on gpu1:9101"
    assert resolved.subject == "[RESOLVED] DS01GPULost on gpu1:9101"
    assert re.search(r"from \d{4}-.* UTC, 1h10m\r?\n", resolved.text)
    assert "Resolved: from" in Page(resolved).words


def test_hostile_labels_forge_no_header_no_line_and_no_tag(
    alertmanager: Alertmanager, mail_server: MailServer
) -> None:
    hostile = alert(name=HOSTILE, severity="warning", container=HOSTILE, instance=HOSTILE)
    hostile["annotations"]["description"] = HOSTILE
    hostile["annotations"]["runbook_url"] = "javascript:alert(1)"
    alertmanager.post([hostile])

    mail = mail_about(mail_server)

    page = Page(mail)
    assert mail.recipients == ("admins@example.org",)
    assert mail.message["Bcc"] is None
    assert "\n" not in mail.subject
    assert len(mail.subject) < 200
    assert [line for line in mail.text.splitlines() if line.startswith("Bcc")] == []
    assert "script" not in page.tags
    assert not any(link.startswith("javascript") for link in page.links)
    assert "<script>alert(1)</script>" in page.words
    assert "\u202e" not in mail.subject + mail.text + page.words
    assert "x" * 401 not in page.words


def test_a_hundred_alerts_make_a_mail_that_can_be_read(
    alertmanager: Alertmanager, mail_server: MailServer
) -> None:
    alertmanager.post([alert(severity="info", UUID=f"GPU-{number}") for number in range(100)])

    mail = mail_about(mail_server, "(100)")

    assert mail.subject == "[INFO] DS01GPULost (100) on gpu1:9101"
    assert mail.text.count("\n* ") == 20
    assert "The first 20 of 100 are shown." in mail.text
    assert len(Page(mail).source) < 100_000


def test_nobody_is_mailed_that_the_watchdog_is_well(
    alertmanager: Alertmanager, mail_server: MailServer
) -> None:
    alertmanager.post([alert("Watchdog", "info")])
    alertmanager.post([alert("DS01GPUMemoryHigh", "info", UUID="GPU-a")])

    mail_about(mail_server, "DS01GPUMemoryHigh")
    assert [mail.subject for mail in mail_server.messages if "Watchdog" in mail.subject] == []
