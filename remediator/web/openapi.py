"""The API described by OpenAPI 3.1: paths written here, schemas made from the shapes."""

from typing import Any

import msgspec

from remediator import __version__
from remediator.core.report import Report
from remediator.web import shapes

_REF = "#/components/schemas/{name}"
_ANSWERS = (
    *(shapes.State, shapes.Incidents, shapes.Story, shapes.Approvals, shapes.Gpus),
    *(Report, shapes.Returned, shapes.Actions, shapes.Command, shapes.Order, shapes.Problem),
)
_PROBLEMS = {
    400: "A parameter or the body makes no sense.",
    401: "Nobody is known by what was sent.",
    403: "An operator is needed, or the form's token of the session is missing.",
    404: "There is none of that number, or of that month.",
    414: "The request line is longer than 8 KiB.",
    415: "The body is not JSON.",
    503: "The journal or the inbox cannot be used.",
}


def describe() -> dict[str, Any]:
    """Return the description as one JSON object."""
    _, schemas = msgspec.json.schema_components(_ANSWERS, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Remediator",
            "version": __version__,
            "description": "What Remediator knows, did and waits for. Everything that a person"
            " sees on the page, and the commands of an operator. Texts are clean of control"
            " characters; times are UTC.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"session": []}],
        "paths": _paths(),
        "components": {
            "schemas": {**schemas, "Delivery": _DELIVERY},
            "securitySchemes": _SCHEMES,
        },
    }


_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token of an account made by `remediator user add NAME --token`."
        " The receiver's own token delivers alerts; it reads as well where there are no accounts.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "remediator",
        "description": "The session of a browser. A command then needs the header X-CSRF-Token as"
        " well, with the value of the field `form` of any form of the page.",
    },
}


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/alerts": {"post": _DELIVERIES},
        "/api/v1/state": _get("How everything stands", "State"),
        "/api/v1/incidents": _get("Search incidents", "Incidents", 400, 414, parameters=_SEARCH),
        "/api/v1/incidents/{number}": _get(
            "One incident with everything that is known of it", "Story", 404, parameters=[_NUMBER]
        ),
        "/api/v1/approvals": _get("The questions that wait for an operator", "Approvals"),
        "/api/v1/gpus": _get("The GPUs, their containers and idle clocks", "Gpus"),
        "/api/v1/returned": _get(
            "GPU-hours returned by day and by user",
            "Returned",
            400,
            parameters=[_whole("days", "How many days, today included.", 31, 14)],
        ),
        "/api/v1/report": _get("What a month brought", "Report", 400, 404, parameters=[_MONTH]),
        "/api/v1/actions": _get(
            "What was done lately",
            "Actions",
            400,
            parameters=[_whole("limit", "How many at most.", 200, 50)],
        ),
        "/api/v1/commands": {"post": _COMMANDS},
        "/api/v1/commands/{number}": _get(
            "What became of a command", "Command", 404, parameters=[_NUMBER]
        ),
        "/api/v1/openapi.json": {
            "get": {
                "summary": "This description",
                "operationId": "openapi",
                "responses": {
                    "200": {
                        "description": "OpenAPI 3.1.",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                    **_problems(401, 503),
                },
            }
        },
    }


def _get(
    summary: str, answer: str, *more: int, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "operationId": answer[0].lower() + answer[1:],
            "parameters": parameters or [],
            "responses": {
                "200": {"description": summary + ".", "content": _json(answer)},
                **_problems(*more, 401, 503),
            },
        }
    }


def _problems(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {"description": _PROBLEMS[status], "content": _json("Problem")}
        for status in sorted(statuses)
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}


def _word(name: str, says: str) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": 200}
    return {"name": name, "in": "query", "description": says, "schema": schema}


def _whole(name: str, says: str, most: int, default: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return {"name": name, "in": "query", "description": says, "schema": schema}


_NUMBER = {
    "name": "number",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
}
_MONTH = {
    "name": "month",
    "in": "query",
    "description": "Which month of UTC; the last whole one if it is left out.",
    "schema": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
}
_SEARCH = [
    _word("q", "Words that all stand in its title, fault, subject, owner or outcome."),
    _word("owner", "Whose it is."),
    _word("container", "A container's name, or its id from 12 digits on."),
    _word("gpu", "A GPU's UUID, or a slot such as 0 or 1.0."),
    _word("alert", "The name of an alert that belongs to it."),
    {
        "name": "state",
        "in": "query",
        "description": "Only those that are open, or closed.",
        "schema": {"enum": ["open", "closed", ""]},
    },
    _word("since", "Opened on this day or later, or at this time."),
    _word("until", "Opened on this day or earlier, or before this time."),
    {
        "name": "before",
        "in": "query",
        "description": "Only those with a smaller number: `next` of the page before.",
        "schema": {"type": "integer", "minimum": 1},
    },
    _whole("limit", "How many at most.", 200, 50),
]
_COMMANDS = {
    "summary": "Give the worker a command",
    "operationId": "giveCommand",
    "requestBody": {"required": True, "content": _json("Order")},
    "responses": {
        "200": {"description": "The worker's answer.", "content": _json("Command")},
        "202": {
            "description": "It is stored, and followed as soon as a worker runs.",
            "content": _json("Command"),
        },
        **_problems(400, 401, 403, 415, 503),
    },
}
_WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
# What Alertmanager sends; of it, what is read here. Whatever else there is passes.
_DELIVERY = {
    "title": "Delivery",
    "type": "object",
    "required": ["version", "groupKey", "alerts"],
    "properties": {
        "version": {"const": "4"},
        "groupKey": {"type": "string"},
        "receiver": {"type": "string"},
        "truncatedAlerts": {"type": "integer"},
        "alerts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["status", "labels", "startsAt", "fingerprint"],
                "properties": {
                    "status": {"enum": ["firing", "resolved"]},
                    "labels": _WORDS,
                    "annotations": _WORDS,
                    "startsAt": {"type": "string", "format": "date-time", "maxLength": 128},
                    "fingerprint": {"type": "string", "minLength": 1, "maxLength": 128},
                },
            },
        },
    },
}
_DELIVERIES = {
    "summary": "Deliver alerts, as Alertmanager's webhook version 4 does",
    "operationId": "deliver",
    "security": [{"token": []}],
    "parameters": [
        {
            "name": "explain",
            "in": "query",
            "description": "Answer as well what each alert leads to by the policy file.",
            "schema": {"type": "string"},
            "allowEmptyValue": True,
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="Delivery")}}},
    },
    "responses": {
        "200": {
            "description": "It is on the disk.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"delivery": {"type": "integer"}},
                        "required": ["delivery"],
                    }
                }
            },
        },
        **_problems(400, 401, 415, 503),
        "413": {"description": "It is too large.", "content": _json("Problem")},
    },
}
