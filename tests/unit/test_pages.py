"""What a browser is shown, to whom, and with which headers."""

import base64
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry

from remediator.core.policy import Policy
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.metrics import ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile
from tests.unit.stories import write_a_story

TOKEN = "0123456789abcdef"


class _Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    (tmp_path / "token").write_text(TOKEN)
    return create_app(
        ReceiverParts(
            inbox=Inbox.for_receiver(tmp_path),
            token=TokenFile(tmp_path / "token"),
            journal=partial(Journal.for_reading, tmp_path),
            policy=Policy,
            ring=lambda: None,
            metrics=ReceiverMetrics(CollectorRegistry()),
            clock=_Clock(),
            largest_body=1000,
        )
    ).test_client()


@pytest.fixture
def story(tmp_path: Path) -> int:
    journal = Journal.for_worker(tmp_path)
    incident = write_a_story(journal)
    journal.close()
    return incident


def login(password: str = TOKEN) -> dict[str, str]:
    encoded = base64.b64encode(f"anybody:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        login("wrong"),
        {"Authorization": "Basic %%%"},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Authorization": "Basic"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/incidents/1", "/static/style.css"])
def test_a_stranger_sees_nothing(
    client: FlaskClient, story: int, path: str, headers: dict[str, str]
) -> None:
    del story
    answer = client.get(path, headers=headers)

    assert answer.status_code == 401
    assert "alice" not in answer.text


def test_the_first_page_lists_the_incidents(client: FlaskClient, story: int) -> None:
    answer = client.get("/", headers=login())

    assert answer.status_code == 200
    assert f'href="/incidents/{story}"' in answer.text
    assert "alice" in answer.text


def test_an_incident_is_told_in_full(client: FlaskClient, story: int) -> None:
    text = client.get(f"/incidents/{story}", headers=login()).text

    for part in ("with 60 s of grace", "exit code 0", "cut off", "it is gone", "alice"):
        assert part in text


def test_control_characters_of_labels_do_not_reach_the_browser(
    client: FlaskClient, story: int
) -> None:
    text = client.get(f"/incidents/{story}", headers=login()).text

    assert "\x1b" not in text


def test_without_a_journal_the_page_says_what_is_missing(client: FlaskClient) -> None:
    answer = client.get("/", headers=login())

    assert answer.status_code == 200
    assert "has the worker been started?" in answer.text


def test_an_unknown_incident_is_not_found(client: FlaskClient, story: int) -> None:
    assert client.get(f"/incidents/{story + 1}", headers=login()).status_code == 404


def test_nothing_but_our_own_style_may_be_loaded(client: FlaskClient, story: int) -> None:
    del story
    answer = client.get("/", headers=login())

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "<script" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_style_that_a_page_names_is_there(client: FlaskClient, story: int) -> None:
    del story
    assert 'href="/static/style.css"' in client.get("/", headers=login()).text

    answer = client.get("/static/style.css", headers=login())

    assert answer.status_code == 200
    assert answer.mimetype == "text/css"
    answer.close()
