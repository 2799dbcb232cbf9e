from email.utils import parsedate_to_datetime

import pytest

from remediator.core.notices import Letter, NoticeKind
from remediator.notifiers.interface import Envelope
from remediator.notifiers.mail import compose


def envelope(
    subject: str = "idle was stopped",
    body: str = "It was stopped.\n",
    *,
    host: str = "gpu1",
    thread: str | None = "incident-3.ab12",
    html: str = "",
) -> Envelope:
    letter = Letter(NoticeKind.FAILED, "mail", "alice@example.org", subject, body, html)
    return Envelope("notice-7.ab12", thread, host, letter)


def test_a_mail_says_what_programs_need_to_know() -> None:
    mail = compose(envelope(), "remediator@example.org")

    assert mail["Message-ID"] == "<notice-7.ab12.remediator@gpu1>"
    assert mail["In-Reply-To"] == "<incident-3.ab12.remediator@gpu1>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Remediator-Kind"] == "failed"
    assert parsedate_to_datetime(mail["Date"]).tzinfo is not None


def test_a_notice_of_no_incident_belongs_to_no_thread() -> None:
    mail = compose(envelope(thread=None), "remediator@example.org")

    assert mail["In-Reply-To"] is None
    assert mail["References"] is None


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nBcc: eve@example.org",
        "a\nSubject: other",
        "a\0b",
        "\x1b[31mred",
        "\u202eright to left",
        "=?utf-8?q?=0ABcc=3A_eve?=",
        "ü" * 3000,
    ],
)
def test_no_text_of_a_label_becomes_a_header(text: str) -> None:
    mail = compose(envelope(subject=text, host=text[:50]), "remediator@example.org")
    raw = mail.as_bytes()
    headers = raw.partition(b"\n\n")[0]

    names = [line.partition(b":")[0] for line in headers.split(b"\n") if line[:1] not in b" \t"]
    assert set(names) == {
        b"From",
        b"To",
        b"Subject",
        b"Date",
        b"Message-ID",
        b"In-Reply-To",
        b"References",
        b"Auto-Submitted",
        b"Precedence",
        b"X-Auto-Response-Suppress",
        b"List-Id",
        b"X-Remediator-Kind",
        b"Content-Type",
        b"Content-Transfer-Encoding",
        b"MIME-Version",
    }
    assert len(mail["Subject"]) <= 200
    assert mail["To"] == "alice@example.org"


def test_a_mail_has_both_forms_and_fetches_nothing() -> None:
    mail = compose(envelope(html="<p>It was <b>stopped</b>.</p>\n"), "remediator@example.org")

    assert mail.get_content_type() == "multipart/alternative"
    plain, html = mail.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content() == "It was stopped.\n"
    assert html.get_content() == "<p>It was <b>stopped</b>.</p>\n"


def test_no_program_answers_it() -> None:
    mail = compose(envelope(), "remediator@example.org")

    assert mail["Precedence"] == "bulk"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["List-Id"] == "Remediator on gpu1 <remediator.gpu1>"


def test_the_body_stays_as_it_is() -> None:
    body = "grüße\n.\nFrom me\n" + "x" * 2000 + "\n"

    assert compose(envelope(body=body), "remediator@example.org").get_content() == body
