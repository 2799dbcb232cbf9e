"""The API does what its description says, in every route and every field."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.builders import DAY, NOON
from tests.gpu_samples import a_container, a_gpu
from tests.peers.receiver import FIRING
from tests.unit.page_site import PROGRAM, TOKEN, PageSite
from tests.unit.stories import write_a_story

AUTHORIZED = {"Authorization": f"Bearer {PROGRAM}"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PageSite]:
    site = PageSite(tmp_path)
    site.samples = [*a_gpu("0", 3), *a_container("train", "bob", "0", kept_until=1_790_000_000)]
    yield site
    site.close()


@pytest.fixture
def described(site: PageSite) -> dict[str, Any]:
    answer = site.client.get("/api/v1/openapi.json", headers=AUTHORIZED)
    assert answer.status_code == 200
    description: dict[str, Any] = answer.json
    return description


def test_the_description_is_openapi(described: dict[str, Any]) -> None:
    assert described["openapi"].startswith("3.1")
    assert [str(error) for error in OpenAPIV31SpecValidator(described).iter_errors()] == []


def test_every_route_of_the_api_is_described_and_no_other(
    site: PageSite, described: dict[str, Any]
) -> None:
    there = {
        (rule.rule.replace("<int:number>", "{number}"), method.lower())
        for rule in site.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }

    assert there == {(path, method) for path, of in described["paths"].items() for method in of}


def schema_of(described: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    """Return the schema of an answer, with all that it refers to."""
    answer = described["paths"][path][method]["responses"][str(status)]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return {**schema, "components": described["components"]}


def closed(schema: Any) -> Any:
    """Return *schema* with no room for a field that is not described."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {name: closed(item) for name, item in schema.items()}
    if "properties" in inside:
        inside["additionalProperties"] = False
    return inside


@pytest.mark.parametrize(
    ("path", "address", "holds"),
    [
        ("/api/v1/state", "/api/v1/state", "breaker"),
        ("/api/v1/incidents", "/api/v1/incidents?limit=1", "incidents"),
        ("/api/v1/incidents/{number}", "/api/v1/incidents/1", "events"),
        ("/api/v1/incidents/{number}", "/api/v1/incidents/1", "approval"),
        ("/api/v1/approvals", "/api/v1/approvals", "approvals"),
        ("/api/v1/gpus", "/api/v1/gpus", "gpus"),
        ("/api/v1/returned", "/api/v1/returned?days=3", "days"),
        ("/api/v1/returned", "/api/v1/returned?days=3", "owners"),
        ("/api/v1/report", "/api/v1/report?month=2026-03", "owners"),
        ("/api/v1/actions", "/api/v1/actions", "actions"),
        ("/api/v1/commands/{number}", "/api/v1/commands/1", "answer"),
    ],
)
def test_answers_are_as_they_are_described(
    site: PageSite, described: dict[str, Any], path: str, address: str, holds: str
) -> None:
    if holds in {"events", "owners"}:
        write_a_story(site.engine.journal)
        site.engine.clock.advance(DAY)
    else:
        site.an_incident()
    site.engine.journal.operations.open_breaker("too many", NOON)
    order = {"action": "pause", "reason": "maintenance"}
    site.client.post("/api/v1/commands", headers=AUTHORIZED, json=order)

    answer = site.client.get(address, headers=AUTHORIZED)

    assert answer.status_code == 200
    schema = closed(schema_of(described, path, "get", 200))
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(answer.json)
    assert answer.json[holds]


@pytest.mark.parametrize(
    ("method", "address", "path", "status"),
    [
        ("get", "/api/v1/incidents?state=ajar", "/api/v1/incidents", 400),
        ("get", "/api/v1/incidents?limit=201", "/api/v1/incidents", 400),
        ("get", "/api/v1/returned?days=32", "/api/v1/returned", 400),
        ("get", "/api/v1/actions?limit=x", "/api/v1/actions", 400),
        ("get", "/api/v1/report?month=2026-13", "/api/v1/report", 400),
        ("get", "/api/v1/report?month=2027-01", "/api/v1/report", 404),
        ("get", "/api/v1/report", "/api/v1/report", 404),
        ("get", "/api/v1/incidents/77", "/api/v1/incidents/{number}", 404),
        ("get", "/api/v1/incidents/" + "9" * 40, "/api/v1/incidents/{number}", 404),
        ("get", "/api/v1/commands/77", "/api/v1/commands/{number}", 404),
        ("get", "/api/v1/commands/0", "/api/v1/commands/{number}", 404),
    ],
)
def test_refusals_are_as_they_are_described(
    site: PageSite, described: dict[str, Any], method: str, address: str, path: str, status: int
) -> None:
    answer = site.client.get(address, headers=AUTHORIZED)

    assert answer.status_code == status
    Draft202012Validator(closed(schema_of(described, path, method, status))).validate(answer.json)


@pytest.mark.parametrize(
    "order",
    [
        {},
        [],
        {"action": "extend"},
        {"action": "pause"},
        {"action": "pause", "reason": 5},
        {"action": "approve"},
        {"action": "approve", "incident": -1},
        {"action": "approve", "incident": "1"},
    ],
    ids=str,
)
def test_an_order_that_makes_no_sense_is_refused(
    site: PageSite, described: dict[str, Any], order: object
) -> None:
    answer = site.client.post("/api/v1/commands", headers=AUTHORIZED, json=order)

    assert answer.status_code == 400
    schema = closed(schema_of(described, "/api/v1/commands", "post", 400))
    Draft202012Validator(schema).validate(answer.json)
    assert site.engine.inbox.commands_after(0) == []


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [(b"{", "application/json", 400), (b"[" * 9000, "application/json", 400), (b"{}", None, 415)],
)
def test_what_is_not_json_is_refused(
    site: PageSite, data: bytes, kind: str | None, status: int
) -> None:
    answer = site.client.post("/api/v1/commands", headers=AUTHORIZED, data=data, content_type=kind)

    assert answer.status_code == status


def test_an_order_is_answered_by_the_worker_or_stored_for_it(
    site: PageSite, described: dict[str, Any]
) -> None:
    number = site.an_incident()
    (question,) = site.client.get("/api/v1/approvals", headers=AUTHORIZED).json["approvals"]
    order = {"action": "approve", "incident": number, "question": question["question"]}

    followed = site.client.post("/api/v1/commands", headers=AUTHORIZED, json=order)
    site.is_working = False
    stored = site.client.post("/api/v1/commands", headers=AUTHORIZED, json=order)

    for answer, status in ((followed, 200), (stored, 202)):
        assert answer.status_code == status
        schema = closed(schema_of(described, "/api/v1/commands", "post", status))
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(answer.json)
    assert followed.json["accepted"] is True
    assert (stored.json["accepted"], stored.json["answer"]) == (None, None)
    again = site.client.get(f"/api/v1/commands/{followed.json['number']}", headers=AUTHORIZED)
    assert again.json == followed.json


def test_the_page_and_the_api_say_the_same(site: PageSite) -> None:
    number = site.an_incident()
    site.log_in()

    told = site.client.get(f"/api/v1/incidents/{number}").json
    page = site.client.get(f"/incidents/{number}").text

    assert told["incident"]["title"] in page
    for event in told["events"]:
        assert datetime.fromisoformat(event["at"]).tzinfo is not None
        assert event["what"] in page


def test_a_delivery_is_as_it_is_described(site: PageSite, described: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    answer = site.client.post("/api/v1/alerts", headers=headers, data=FIRING)

    assert answer.status_code == 200
    schema = schema_of(described, "/api/v1/alerts", "post", 200)
    Draft202012Validator(schema).validate(answer.json)
