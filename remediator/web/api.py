"""The page's data as JSON under ``/api/v1/``, described by OpenAPI (`remediator.web.openapi`)."""

from collections.abc import Callable

import msgspec
from flask import Blueprint, Response, request

from remediator.errors import InboxError, JournalError, ReportError
from remediator.web import shapes
from remediator.web.asking import month_in, query_of, within
from remediator.web.gate import CSRF_HEADER, Refusal, visitor
from remediator.web.openapi import describe
from remediator.web.pages import DAYS, PER_PAGE, PageParts, with_headers

_MOST_INCIDENTS = 200
_MOST_ACTIONS = 200
_MOST_DAYS = 31
_ACTIONS = 50


def make_api(parts: PageParts) -> Blueprint:
    """Return the API."""
    api = Blueprint("api", __name__, url_prefix="/api/v1")
    views = _Api(parts)
    api.before_request(views.admit)
    api.after_request(with_headers)
    for path, view in (
        ("/state", views.state),
        ("/incidents", views.incidents),
        ("/incidents/<int:number>", views.incident),
        ("/approvals", views.approvals),
        ("/gpus", views.gpus),
        ("/returned", views.returned),
        ("/report", views.report),
        ("/actions", views.actions),
        ("/commands/<int:number>", views.command),
        ("/openapi.json", views.description),
    ):
        api.add_url_rule(path, view_func=_guarded(view), endpoint=view.__name__)
    api.add_url_rule("/commands", view_func=_guarded(views.give), methods=["POST"])
    return api


class _Api:
    def __init__(self, parts: PageParts) -> None:
        self._parts = parts
        self._facts = parts.facts
        self._description = msgspec.json.encode(describe())

    def admit(self) -> Response | None:
        """Let in who may look."""
        refusal = self._parts.gate.admit(request)
        return None if refusal is None else refused(refusal)

    def state(self) -> Response:
        """Answer how everything stands."""
        return _json(self._facts.state())

    def incidents(self) -> Response:
        """Answer the incidents that are searched for."""
        most = within(request.args, "limit", PER_PAGE, _MOST_INCIDENTS)
        return _json(self._facts.incidents(query_of(request.args), most))

    def incident(self, number: int) -> Response:
        """Answer one incident with its story."""
        story = self._facts.story(number) if number < 2**63 else None
        if story is None:
            return refused(Refusal(404, f"there is no incident {number}"))
        return _json(story)

    def approvals(self) -> Response:
        """Answer the questions that wait."""
        return _json(self._facts.approvals())

    def gpus(self) -> Response:
        """Answer the GPUs as Prometheus last told."""
        return _json(self._parts.gpus.newest())

    def returned(self) -> Response:
        """Answer the GPU-hours returned."""
        return _json(self._facts.returned(within(request.args, "days", DAYS, _MOST_DAYS)))

    def report(self) -> Response:
        """Answer what a month brought."""
        try:
            return _json(self._facts.report(month_in(request.args)))
        except ReportError as error:
            return refused(Refusal(404, str(error)))

    def actions(self) -> Response:
        """Answer what was done lately."""
        return _json(self._facts.actions(within(request.args, "limit", _ACTIONS, _MOST_ACTIONS)))

    def command(self, number: int) -> Response:
        """Answer what became of a command."""
        command = self._parts.commands.look(number) if 0 < number < 2**63 else None
        if command is None:
            return refused(Refusal(404, f"there is no command {number}"))
        return _json(command)

    def give(self) -> Response:
        """Give the worker a command: 200 with its answer, 202 while it has not taken it."""
        refusal = self._parts.gate.admit_command(request, request.headers.get(CSRF_HEADER, ""))
        if refusal is not None:
            return refused(refusal)
        if request.mimetype != "application/json":
            return refused(Refusal(415, "Content-Type must be application/json"))
        order = msgspec.json.decode(request.get_data(cache=False), type=shapes.Order)
        given = self._parts.commands.give(order, f"{visitor().name} (api)")
        return _json(given, 202 if given.accepted is None else 200)

    def description(self) -> Response:
        """Answer the description of this API."""
        return Response(self._description, content_type="application/json")


def refused(refusal: Refusal) -> Response:
    """Answer why not, in the form of the API."""
    answer = _json(shapes.Problem(refusal.says), refusal.status)
    if refusal.status == 401:  # noqa: PLR2004 - a status
        answer.headers["WWW-Authenticate"] = 'Bearer realm="remediator"'
    return answer


def _guarded(view: Callable[..., Response]) -> Callable[..., Response]:
    """Return *view* with an answer for whatever goes wrong in it."""

    def answer(**arguments: int) -> Response:
        try:
            return view(**arguments)
        except (msgspec.ValidationError, msgspec.DecodeError, ValueError) as error:
            return refused(Refusal(400, str(error)))
        except JournalError as error:
            return refused(Refusal(503, str(error)))
        except InboxError:
            return refused(Refusal(503, "the inbox cannot be written: nothing was commanded"))

    return answer


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, content_type="application/json")
