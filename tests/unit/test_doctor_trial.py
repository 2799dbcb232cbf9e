"""The test alert, with an Alertmanager and a worker in memory that do as they are told."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.config.settings import Settings
from remediator.core.durations import parse_duration
from remediator.doctor.examination import AilmentError
from remediator.doctor.trial import ALERTNAME, LASTS, Trial
from remediator.doctor.web import Answer
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from tests.builders import NOON

RULE = "rules: [{name: all, match: ['alertname%s'], do: [{notify-only: }]}]"


class Relay:
    """Alertmanager with the receiver behind it, and the worker: each link may be broken."""

    def __init__(self, state_dir: Path) -> None:
        self.inbox = Inbox.for_receiver(state_dir / "inbox")
        self.journal = Journal.for_worker(state_dir)
        self.journal.intake.begin(self.inbox.identity())
        self.posted: list[dict[str, Any]] = []
        self.status = 200
        self.delivers = self.takes = True

    def get(self, url: str) -> Answer:
        return Answer(404, url)

    def post(self, url: str, body: bytes, token: str = "") -> Answer:
        assert (url, token) == ("http://127.0.0.1:9093/api/v2/alerts", "")
        self.posted += json.loads(body)
        if self.delivers:
            # Others are delivered as well, before and after.
            numbers = [self.inbox.store(text, "", NOON) for text in (b"{}", body, b"{}")]
            if self.takes:
                self.journal.intake.advance(numbers[-1])
        return Answer(self.status, "so it is")

    def close(self) -> None:
        self.inbox.close()
        self.journal.close()


@pytest.fixture
def relay(folder: Path) -> Iterator[Relay]:
    relay = Relay(folder)
    yield relay
    relay.close()


def run(folder: Path, relay: Relay, matcher: str = '="DS01ContainerIdle"') -> str:
    (folder / "policy.yaml").write_text(RULE % matcher)
    settings = Settings(state_dir=folder, policy=folder / "policy.yaml")
    return Trial(settings, relay, patience=timedelta(0)).run()


def test_it_says_how_long_the_alert_took(folder: Path, relay: Relay) -> None:
    says = run(folder, relay)

    assert re.fullmatch(r"arrived after \d+\.\d s, taken and held after \d+\.\d s", says)


def test_the_alert_is_ended_as_the_one_that_it_was(folder: Path, relay: Relay) -> None:
    run(folder, relay)

    first, last = relay.posted
    assert first["labels"] == last["labels"]
    assert first["labels"]["alertname"] == ALERTNAME
    assert first["startsAt"] == last["startsAt"]
    assert datetime.fromisoformat(first["endsAt"]) > datetime.now(UTC)
    assert datetime.fromisoformat(last["endsAt"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"delivers": False}, "has not arrived within 0 s"),
        ({"takes": False}, "has not been taken by the worker within 0 s"),
        ({"status": 400}, "does not take it: 400 so it is"),
    ],
)
def test_a_broken_link_is_named_and_the_alert_is_ended_all_the_same(
    folder: Path, relay: Relay, broken: dict[str, Any], says: str
) -> None:
    for name, value in broken.items():
        setattr(relay, name, value)

    with pytest.raises(AilmentError, match=says):
        run(folder, relay)

    assert len(relay.posted) == 2


def test_nothing_is_sent_where_the_policy_might_act_on_it(folder: Path, relay: Relay) -> None:
    with pytest.raises(AilmentError, match='"all" is about any alert'):
        run(folder, relay, '=~".*"')

    assert relay.posted == []


def test_it_ends_before_the_shipped_routes_tell_people_of_it() -> None:
    shipped = Path(__file__).parents[2] / "alertmanager" / "alertmanager.yml"
    routes = yaml.safe_load(shipped.read_text())["route"]["routes"]
    (route,) = [r for r in routes if r.get("matchers") == ['severity="info"']]

    assert parse_duration(route["group_wait"]) > LASTS
