"""What the receiver's application answers, and what it counts and says."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from remediator.config.page import PageSettings
from remediator.config.policy import read_policy
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.metrics import DELIVERY_RESULTS, ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile, accepts_body
from remediator.web.framing import Announced
from remediator.web.taking import Offer, Taking
from tests.peers.receiver import FIRING

NOW = datetime(2026, 11, 21, 23, 8, 30, tzinfo=UTC)
TOKEN = "0123456789abcdef"
POLICY = """\
mode: notify
rules:
- name: hot GPU
  match: ['alertname="GPUHot"']
  mode: act
  do:
  - notify-only:
    attempts: [1 per 1h]
"""


@dataclass(slots=True)
class _Clock:
    def now(self) -> datetime:
        return NOW


@dataclass(slots=True)
class _Site:
    """The application over a real inbox and real files."""

    folder: Path
    rings: list[bool] = field(default_factory=list)
    metrics: ReceiverMetrics = field(default_factory=lambda: ReceiverMetrics(CollectorRegistry()))
    inbox: Inbox = field(init=False)
    client: FlaskClient = field(init=False)
    taking: Taking = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "policy.yaml").write_text(POLICY)
        self.inbox = Inbox.for_receiver(self.folder)
        parts = ReceiverParts(
            inbox=self.inbox,
            token=TokenFile(self.folder / "token"),
            journal=partial(Journal.for_reading, self.folder),
            policy=lambda: read_policy(self.folder / "policy.yaml"),
            ring=lambda: self.rings.append(True),
            metrics=self.metrics,
            clock=_Clock(),
            largest_body=10_000,
            host="gpu1",
            page=PageSettings(),
            session_key=b"k" * 32,
            ask_prometheus=lambda *_names: [],
        )
        self.taking = Taking(
            self.inbox, parts.token, parts.ring, self.metrics, parts.clock, parts.largest_body
        )
        self.client = create_app(parts, self.taking).test_client()

    def post(self, body: bytes = FIRING, query: str = "", **headers: str) -> TestResponse:
        own = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        return self.client.post(f"/api/v1/alerts{query}", data=body, headers={**own, **headers})

    def counted(self) -> dict[str, float]:
        """The results that have been counted at all."""
        name, registry = "remediator_deliveries_total", self.metrics.registry
        counts = {r: registry.get_sample_value(name, {"result": r}) for r in DELIVERY_RESULTS}
        assert None not in counts.values()
        return {result: count for result, count in counts.items() if count}


@pytest.fixture
def site(folder: Path) -> _Site:
    return _Site(folder)


def test_a_delivery_is_stored_counted_and_rung_for(site: _Site) -> None:
    answer = site.post(**{"User-Agent": "Alertmanager/0.25.0"})

    stored = site.inbox.after(0)
    assert answer.json == {"delivery": 1}
    assert [(s.body, s.received_at) for s in stored] == [(FIRING, NOW)]
    assert stored[0].sender == "127.0.0.1 Alertmanager/0.25.0"
    assert site.counted() == {"stored": 1}
    assert site.rings == [True]


def test_every_result_is_counted_from_the_start(site: _Site) -> None:
    text = site.client.get("/metrics").text

    for result in DELIVERY_RESULTS:
        assert f'remediator_deliveries_total{{result="{result}"}} 0.0' in text


@pytest.mark.parametrize(
    ("body", "headers", "status", "counted"),
    [
        pytest.param(b"{}", {}, 400, "refused", id="not a delivery"),
        pytest.param(FIRING, {"Authorization": "Bearer x"}, 401, "unauthorized", id="token"),
        pytest.param(FIRING, {"Authorization": f"Basic {TOKEN}"}, 401, "unauthorized", id="basic"),
        pytest.param(b"x" * 10_001, {}, 413, "too_large", id="large"),
        pytest.param(FIRING, {"Content-Type": "text/json"}, 415, "refused", id="type"),
        pytest.param(FIRING, {"Content-Encoding": "gzip"}, 415, "refused", id="encoding"),
    ],
)
def test_a_refusal_is_counted_and_stores_and_rings_nothing(
    site: _Site, body: bytes, headers: dict[str, str], status: int, counted: str
) -> None:
    answer = site.post(body, **headers)

    assert answer.status_code == status
    assert site.counted() == {counted: 1}
    assert (site.inbox.after(0), site.rings) == ([], [])


def test_what_cannot_be_stored_is_503_and_logged_once(
    site: _Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.inbox.close()

    with caplog.at_level(logging.INFO):
        answers = [site.post().status_code for _ in range(3)]

    assert answers == [503] * 3
    assert site.counted() == {"failed": 3}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert site.client.get("/-/ready").status_code == 503
    assert site.client.get("/-/healthy").status_code == 200
    assert site.rings == []


def an_offer(body: bytes) -> Offer:
    return Offer(body, "10.0.0.1", {"USER-AGENT": "Alertmanager/0.25.0"})


def test_deliveries_of_one_moment_are_acknowledged_one_by_one_and_rung_for_once(
    site: _Site,
) -> None:
    replies = site.taking.store([an_offer(b"one"), an_offer(b"two")])

    assert [(r.status, r.body) for r in replies] == [
        (200, b'{"delivery": 1}\n'),
        (200, b'{"delivery": 2}\n'),
    ]
    assert [s.sender for s in site.inbox.after(0)] == ["10.0.0.1 Alertmanager/0.25.0"] * 2
    assert (site.counted(), site.rings) == ({"stored": 2}, [True])


def test_one_that_does_not_fit_keeps_out_no_other(site: _Site) -> None:
    site.inbox._database._connection.execute("PRAGMA max_page_count = 20")

    replies = site.taking.store([an_offer(b"one"), an_offer(bytes(1_000_000)), an_offer(b"two")])

    assert [reply.status for reply in replies] == [200, 503, 200]
    assert [stored.body for stored in site.inbox.after(0)] == [b"one", b"two"]
    assert site.counted() == {"stored": 2, "failed": 1}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(site: _Site, scheme: str) -> None:
    assert site.post(Authorization=f"{scheme} {TOKEN}").status_code == 200


def test_without_a_usable_token_it_is_not_ready_and_takes_nothing(site: _Site) -> None:
    (site.folder / "token").write_bytes(b"\xff" * 32)

    assert site.post().status_code == 503
    assert site.client.get("/-/ready").status_code == 503
    assert site.counted() == {"failed": 1}


def test_an_explanation_names_rule_mode_and_remediations(site: _Site) -> None:
    answer = site.post(query="?explain").json

    assert answer == {
        "delivery": 1,
        "policy_mode": "notify",
        "alerts": [
            {
                "alertname": "GPUHot",
                "fingerprint": "60c6e0280cbb09d5",
                "status": "firing",
                "subject": answer["alerts"][0]["subject"],
                "policy_rule": "hot GPU",
                "mode": "notify",
                "remediations": ["notify-only"],
            }
        ],
    }
    assert "GPU-aaaaaaaa" in answer["alerts"][0]["subject"]


def test_an_alert_without_a_rule_is_explained_as_such(site: _Site) -> None:
    answer = site.post(FIRING.replace(b"GPUHot", b"Other"), query="?explain").json

    explained = answer["alerts"][0]
    assert (explained["policy_rule"], explained["mode"]) == (None, None)
    assert explained["remediations"] == []


@pytest.mark.parametrize("policy", ["mode: perhaps\nrules: []\n", "{", None])
def test_a_broken_policy_is_explained_and_the_delivery_stored(
    site: _Site, policy: str | None
) -> None:
    path = site.folder / "policy.yaml"
    if policy is None:
        path.unlink()
    else:
        path.write_text(policy)

    answer = site.post(query="?explain")

    assert answer.status_code == 200
    assert answer.json["policy_problems"][0].startswith(f"{path}:1:")
    assert len(site.inbox.after(0)) == 1


def test_a_delivery_is_worth_taking_only_with_the_token(folder: Path) -> None:
    token = TokenFile(folder / "token")
    delivery = Announced("/api/v1/alerts", f"Bearer {TOKEN}", 5_000_000)
    assert accepts_body(None, Announced("/api/v1/alerts", None, None))
    assert not accepts_body(token, delivery)

    (folder / "token").write_text(TOKEN)

    assert accepts_body(token, delivery)
    assert not accepts_body(token, Announced("/api/v1/alerts", None, 10))
    assert TOKEN not in repr(token)


@pytest.mark.parametrize(
    ("path", "length", "is_taken"),
    [
        ("/login", 16 * 1024, True),
        ("/login", 16 * 1024 + 1, False),
        ("/login", None, False),
        ("/api/v1/alerts/", 16 * 1024 + 1, False),
        ("/nowhere", 10, True),
    ],
)
def test_whatever_else_is_sent_is_short(
    folder: Path, path: str, length: int | None, is_taken: bool
) -> None:
    (folder / "token").write_text(TOKEN)
    announced = Announced(path, f"Bearer {TOKEN}", length)

    assert accepts_body(TokenFile(folder / "token"), announced) == is_taken
