"""What a browser is shown, which roles may do what, and what a form must prove."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from tests.builders import DAY, HOUR, MINUTE, NOON, an_alert
from tests.gpu_samples import a_container, a_gpu
from tests.unit.page_site import PROGRAM, PageSite, form_token
from tests.unit.stories import write_a_story

HOSTILE = {
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "an attribute": "\" onmouseover=alert(1) x='",
    "a template": "{{ 7 * 7 }}{% raw %}",
    "an address": "javascript:alert(1)",
    "ANSI": "\x1b[2J\x1b]0;owned\x07",
    "lines": "a\r\nSet-Cookie: x=1\r\n\r\n<b>",
    "direction": "\u202egnp.exe\u2066\u200f",
    "size": "A" * 100_000,
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PageSite]:
    site = PageSite(tmp_path)
    yield site
    site.close()


# Every route with what it answers a stranger, a viewer and an operator.
MATRIX = [
    ("GET", "/login", 200, 200, 200),
    ("POST", "/login", 403, 401, 401),
    ("GET", "/static/style.css", 200, 200, 200),
    ("GET", "/static/page.js", 200, 200, 200),
    ("GET", "/", 303, 200, 200),
    ("GET", "/incidents", 303, 200, 200),
    ("GET", "/incidents/1", 303, 200, 200),
    ("GET", "/report", 303, 404, 404),
    ("GET", "/report/file", 303, 404, 404),
    ("POST", "/commands", 401, 403, 303),
    ("POST", "/logout", 401, 303, 303),
    ("GET", "/api/v1/state", 401, 200, 200),
    ("GET", "/api/v1/incidents", 401, 200, 200),
    ("GET", "/api/v1/incidents/1", 401, 200, 200),
    ("GET", "/api/v1/approvals", 401, 200, 200),
    ("GET", "/api/v1/gpus", 401, 200, 200),
    ("GET", "/api/v1/returned", 401, 200, 200),
    ("GET", "/api/v1/report", 401, 404, 404),
    ("GET", "/api/v1/actions", 401, 200, 200),
    ("GET", "/api/v1/openapi.json", 401, 200, 200),
    ("POST", "/api/v1/commands", 401, 403, 200),
    ("GET", "/api/v1/commands/1", 401, 404, 404),
    ("POST", "/api/v1/alerts", 401, 401, 401),
    ("GET", "/-/healthy", 200, 200, 200),
    ("GET", "/-/ready", 200, 200, 200),
    ("GET", "/metrics", 200, 200, 200),
]


@pytest.mark.parametrize(("method", "path", "stranger", "viewer", "operator"), MATRIX)
def test_every_route_answers_every_role_as_it_should(
    site: PageSite, method: str, path: str, stranger: int, viewer: int, operator: int
) -> None:
    site.an_incident()
    answers = []
    for name in (None, "vera", "alice"):
        if name:
            site.log_in(name)
        answers.append(ask(site, method, path).status_code)
        site.client = site.anew()

    assert answers == [stranger, viewer, operator]


def ask(site: PageSite, method: str, path: str) -> TestResponse:
    """Ask as the page itself would, with the token of its forms."""
    if method == "GET":
        return site.client.get(path, buffered=True)
    form = form_token(site.client.get("/"))
    if path.startswith("/api"):
        order = {"action": "pause", "reason": "why not"}
        return site.client.post(path, json=order, headers={"X-CSRF-Token": form})
    return site.client.post(path, data={"form": form, "action": "pause", "reason": "why not"})


def test_the_matrix_has_every_route(site: PageSite) -> None:
    there = {
        (method, re.sub(r"<int:\w+>", "1", rule.rule))
        for rule in site.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if "<path:" not in rule.rule
    }

    assert there == {(method, path) for method, path, *_ in MATRIX if "/static/" not in path}


@pytest.mark.parametrize("token", ["", "x" * 43, "another browser's", "löwe"])
def test_a_command_needs_a_form_of_this_session(site: PageSite, token: str) -> None:
    site.log_in()
    if token.startswith("another"):
        other = site.anew()
        site.log_in(client=other)
        token = form_token(other.get("/"))
    data = {"action": "pause", "reason": "forged", "form": token}

    assert site.client.post("/commands", data=data).status_code == 403
    json = {"action": "pause", "reason": "forged"}
    headers = {"X-CSRF-Token": token.encode().decode("latin-1")}
    assert site.client.post("/api/v1/commands", json=json, headers=headers).status_code == 403
    assert site.engine.journal.operations.pause_in_force() is None


def test_every_form_that_is_sent_carries_the_token(site: PageSite) -> None:
    site.an_incident()
    site.log_in()

    for path in ("/", "/incidents", "/incidents/1"):
        for form in re.findall(r'<form method="post".*?</form>', site.client.get(path).text, re.S):
            assert form_token(Piece(form)) != ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a page."""

    text: str


class Foreign(HTMLParser):
    """Collects what none of our templates has: inline scripts and styles, and other addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        for name, value in known.items():
            is_address = name in {"href", "src", "action"}
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}")
            elif is_address and not re.match(r"[/#](?!/)", value or ""):
                self.found.append(f"{tag} {name}={value}")
        if tag in {"style", "img", "iframe", "object", "base"}:
            self.found.append(tag)
        if tag == "script" and known.get("src") != "/static/page.js":
            self.found.append(tag)


def foreign(text: str) -> list[str]:
    """Return what a page has that is not ours."""
    parser = Foreign()
    parser.feed(text)
    parser.close()
    return parser.found


def test_nothing_but_our_own_files_may_be_loaded(site: PageSite) -> None:
    site.an_incident()
    site.log_in()

    for path in ("/", "/incidents", "/incidents/1", "/login", "/nowhere-of-ours/1"):
        answer = site.client.get(path)
        assert foreign(answer.text) == [], path
    policy = dict(
        part.strip().split(" ", 1)
        for part in site.client.get("/").headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}


@pytest.mark.parametrize(
    "path", ["/", "/login", "/static/page.js", "/api/v1/state", "/incidents/9"]
)
def test_every_answer_says_how_it_may_be_used(site: PageSite, path: str) -> None:
    site.log_in()

    answer = site.client.get(path)

    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    answer.close()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_label_is_harmless_everywhere(site: PageSite, text: str) -> None:
    labels = {"container_id": "d" * 64, "container": text, "user": text, "gpu": text}
    number = site.an_incident(labels)
    site.engine.journal.incidents.name(number, text, text)
    firing = an_alert(fingerprint="f1").firing
    site.engine.journal.decisions.warn(number, firing, "container:d", "idle", NOON)
    site.samples = [*a_gpu("0"), *a_container(text, text, "0", exempt=text)]
    site.log_in()

    paths = ["/", "/incidents", f"/incidents/{number}", "/api/v1/gpus", "/api/v1/approvals"]
    paths += ["/report?month=2026-03", "/api/v1/report?month=2026-03"]
    for path in [*paths, "/api/v1/incidents", f"/api/v1/incidents/{number}"]:
        answer = site.client.get(path)
        assert answer.status_code == 200
        assert len(answer.data) < 60_000
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200f]", answer.text
        )
        if not path.startswith("/api"):
            assert foreign(answer.text) == []
            assert "{{ 7 * 7 }}" in answer.text or "{{" not in text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_search_is_harmless(site: PageSite, text: str) -> None:
    site.log_in()

    for name in ("q", "owner", "container", "gpu", "alert", "state", "since", "before"):
        answer = site.client.get("/incidents", query_string={name: text})
        assert answer.status_code in {200, 400}
        assert foreign(answer.text) == []


def test_the_first_page_shows_what_there_is(site: PageSite) -> None:
    number = site.an_incident()
    site.samples = [*a_gpu("0", 93), *a_container("train", "bob", "0", idle=600)]
    site.log_in()

    text = site.client.get("/").text

    for part in ("93 %", "10 min", "of 30 min", "bob", f'href="/incidents/{number}"', "approve"):
        assert part in text


def test_without_prometheus_the_rest_is_shown_at_once(site: PageSite) -> None:
    site.an_incident()
    site.samples = None
    site.log_in()

    text = site.client.get("/").text

    assert "Prometheus at http://127.0.0.1:9090 does not answer" in text
    assert "train" in text


def test_without_a_journal_the_page_says_what_is_missing(site: PageSite) -> None:
    site.log_in()
    for file in site.folder.glob("journal.db*"):
        file.unlink()

    answer = site.client.get("/")

    assert answer.status_code == 503
    assert "Has the worker been started?" in answer.text
    assert site.client.get("/api/v1/state").status_code == 503


def test_an_incident_is_told_in_full(site: PageSite) -> None:
    number = write_a_story(site.engine.journal)
    site.log_in()

    text = site.client.get(f"/incidents/{number}").text

    for part in ("with 60 s of grace", "exit code 0", "cut off", "it is gone", "alice", "docker"):
        assert part in text


@pytest.mark.parametrize("number", ["2", "99999999999999999999999999"])
def test_an_unknown_incident_is_not_found(site: PageSite, number: str) -> None:
    site.an_incident()
    site.log_in()

    assert site.client.get(f"/incidents/{number}").status_code == 404


def test_an_operator_approves_and_sees_the_answer(site: PageSite) -> None:
    number = site.an_incident()
    site.log_in()
    assert "May stop-container be done to" in site.client.get("/").text

    answer = site.give("approve", incident=number, next=f"/incidents/{number}")

    assert answer.location == f"/incidents/{number}?command=1"
    shown = site.client.get(answer.location).text
    assert "stop-container is approved until" in shown
    assert "approve by alice (page)" in shown
    site.engine.round()
    assert site.engine.stop_container.executed
    assert "Waiting for approval</h2>" not in site.client.get("/").text


def test_a_rejection_needs_a_reason_and_keeps_it(site: PageSite) -> None:
    number = site.an_incident()
    site.log_in()

    assert "reject needs a reason" in site.give("reject", incident=number, reason=" ").text.lower()
    shown = site.client.get(site.give("reject", incident=number, reason="a demo").location).text

    assert "is rejected for as long as incident" in shown
    assert "a demo" in site.client.get(f"/incidents/{number}").text


def test_an_answer_to_a_question_that_was_replaced_is_refused(site: PageSite) -> None:
    number = site.an_incident()
    site.log_in()

    answer = site.give("approve", incident=number, question=7)

    assert "waits with another question now" in site.client.get(answer.location).text
    site.engine.round()
    assert not site.engine.stop_container.executed
    own = site.engine.journal.board.waiting(site.engine.clock.now())[0].id
    site.give("approve", incident=number, question=own)
    site.engine.round()
    assert site.engine.stop_container.executed


def test_a_question_that_is_over_is_not_shown(site: PageSite) -> None:
    site.an_incident()
    site.log_in()
    site.engine.clock.advance(5 * HOUR)

    assert "Approve</button>" not in site.client.get("/").text


def test_an_operator_pauses_and_resumes(site: PageSite) -> None:
    site.log_in()

    site.give("pause", reason="driver update")
    page = site.client.get("/").text
    assert "driver update" in page
    assert "alice (page)" in page

    shown = site.client.get(site.give("resume").location).text
    assert "every open incident is looked at anew" in shown
    assert site.engine.journal.operations.pause_in_force() is None


def test_an_operator_closes_the_breaker_with_a_reason(site: PageSite) -> None:
    site.engine.journal.operations.open_breaker("12 attempts in 1 h", site.engine.clock.now())
    site.log_in()
    assert "12 attempts in 1 h" in site.client.get("/").text

    assert site.give("close-breaker").status_code == 400
    site.give("close-breaker", reason="a class has ended")

    assert site.engine.journal.operations.breaker_in_force() is None


def test_a_viewer_is_offered_no_command(site: PageSite) -> None:
    number = site.an_incident()
    site.engine.journal.operations.open_breaker("too many", site.engine.clock.now())
    site.log_in("vera")

    for path in ("/", f"/incidents/{number}"):
        assert 'action="/commands"' not in site.client.get(path).text


def test_what_the_worker_refuses_is_said(site: PageSite) -> None:
    site.log_in()

    shown = site.client.get(site.give("resume").location).text

    assert "Refused." in shown
    assert "it is not paused" in shown


def test_a_worker_that_does_not_answer_is_told_of(site: PageSite) -> None:
    site.log_in()
    site.is_working = False
    shown = site.give("pause", reason="nobody hears it").location

    assert "has not answered yet" in site.client.get(shown).text
    site.engine.clock.advance(MINUTE)
    assert "The worker does not answer." in site.client.get(shown).text

    site.is_working = True
    site.give("resume")
    assert "nothing new is begun until it is resumed" in site.client.get(shown).text


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "extend"},
        {"action": "extend", "container": "train"},
        {"action": "make-coffee"},
        {"action": ""},
        {"action": "approve"},
        {"action": "approve", "incident": "x"},
        {"action": "approve", "incident": str(2**63)},
        {"action": "pause"},
    ],
)
def test_a_command_that_makes_no_sense_is_not_given(site: PageSite, fields: dict[str, str]) -> None:
    site.log_in()

    assert site.give(**fields).status_code == 400
    assert site.engine.inbox.commands_after(0) == []


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 30, "5"])
def test_a_command_that_was_never_given_has_no_answer(site: PageSite, number: str) -> None:
    site.log_in()

    answer = site.client.get("/", query_string={"command": number})

    assert answer.status_code == 200
    assert 'class="note good"' not in answer.text


def test_pages_of_a_search_follow_each_other(site: PageSite) -> None:
    alerts = [
        an_alert({"container_id": f"{n:064x}", "container": f"c{n}"}, fingerprint=f"{n}")
        for n in range(60)
    ]
    site.engine.deliver(*alerts)
    site.log_in()

    first = site.client.get("/incidents?state=open")
    older = re.search(r'href="(/incidents\?[^"]+)" rel="next"', first.text)
    assert older is not None
    second = site.client.get(older[1].replace("&amp;", "&"))

    assert first.text.count("<tr ") == 51
    assert second.text.count("<tr ") == 11
    assert "state=open" in older[1]
    assert 'rel="next"' not in second.text


def test_a_program_needs_no_form(site: PageSite) -> None:
    headers = {"Authorization": f"Bearer {PROGRAM}"}
    data = {"action": "pause", "reason": "maintenance"}

    assert site.client.post("/commands", data=data, headers=headers).status_code == 303


def test_a_container_is_kept_from_the_list_of_gpus_and_from_its_incident(site: PageSite) -> None:
    """The form of each page says what it is about; only an operator is offered it."""
    number = site.an_incident()
    site.samples = [*a_gpu("0"), *a_container("train", "bob", "0", idle=600)]
    site.log_in()
    pages = {path: site.client.get(path).text for path in ("/", f"/incidents/{number}")}
    site.log_in("vera")

    forms = {path: re.findall(r'name="container" value="([^"]+)"', pages[path]) for path in pages}
    assert len(forms["/"]) == 1
    assert forms["/"][0] in site.client.get("/api/v1/gpus").text
    assert forms[f"/incidents/{number}"] == [str(number)]
    for text in pages.values():
        assert '<option value="4h" selected>' in text
    assert 'name="duration"' not in site.client.get("/").text


def test_an_incident_that_is_over_or_of_no_container_has_nothing_to_keep(site: PageSite) -> None:
    closed = site.an_incident()
    site.engine.journal.incidents.close(closed, NOON, "over")
    of_a_gpu = site.an_incident({"UUID": "GPU-0"}, fingerprint="f2")
    site.log_in()

    for number in (closed, of_a_gpu):
        assert 'name="duration"' not in site.client.get(f"/incidents/{number}").text


def test_the_report_of_a_month_is_shown_and_given_as_a_file(site: PageSite) -> None:
    write_a_story(site.engine.journal)
    site.engine.clock.advance(2 * HOUR)
    site.log_in()

    page = site.client.get("/report?month=2026-03")
    file = site.client.get("/report/file?month=2026-03")

    assert page.status_code == 200
    assert "Report of March 2026" in page.text
    assert "unfinished" in page.text
    assert re.search(r"GPU-hours returned</th><td class=\"number\">1\.9<", page.text)
    assert foreign(page.text) == []
    assert file.headers["Content-Disposition"] == 'attachment; filename="remediator-2026-03.html"'
    assert file.text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("month", "status", "says"),
    [
        ("2026-13", 400, "is not a month such as 2026-10"),
        ("2027-01", 404, "2027-01 has not begun yet"),
        ("2026-01", 404, "The journal knows nothing of 2026-01"),
        ("", 404, "The journal knows nothing of 2026-02"),
    ],
)
def test_a_month_that_cannot_be_reported_is_explained(
    site: PageSite, month: str, status: int, says: str
) -> None:
    site.an_incident()
    site.log_in()

    answer = site.client.get("/report", query_string={"month": month})

    assert answer.status_code == status
    assert says in answer.text


def test_a_report_is_made_anew_once_a_minute_and_few_are_kept(site: PageSite) -> None:
    """Many people may look: each looks at the journal's months at most so often."""
    site.an_incident()
    site.engine.clock.advance(400 * DAY)
    site.log_in()
    first = site.client.get("/api/v1/report?month=2026-03").json
    site.an_incident({"container_id": "e" * 64}, fingerprint="f2")

    again = site.client.get("/api/v1/report?month=2026-03").json
    for number in range(4, 13):
        assert site.client.get(f"/api/v1/report?month=2026-{number:02}").status_code == 200

    assert first == again
    assert site.client.get("/api/v1/report?month=2026-03").status_code == 200


def test_an_operator_keeps_a_container(site: PageSite) -> None:
    site.log_in()

    shown = site.client.get(site.give("extend", container="train", duration="4h").location).text

    assert "Refused." in shown
    assert "train" in shown
    (command,) = site.engine.inbox.commands_after(0)
    assert json.loads(command.body) == {
        "action": "extend",
        "container": "train",
        "duration": "4h",
        "via": "page",
    }
