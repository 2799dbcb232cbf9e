"""The page: what happened and why, for people with a browser. It reads the journal only."""

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterator

from flask import Blueprint, Response, render_template, request

from remediator.core.notices import clean
from remediator.errors import JournalError, SetupError
from remediator.journal.journal import Journal
from remediator.journal.story import tell
from remediator.web.auth import TokenFile

_MOST = 100
_REFRESH_SECONDS = 5
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_pages(open_journal: Callable[[], Journal], token: TokenFile | None) -> Blueprint:
    """Return the pages; behind *token* as the password of any user, where there is one."""
    pages = Blueprint("pages", __name__, template_folder="templates", static_folder="static")
    views = _Pages(open_journal, token)
    pages.before_request(views.authenticate)
    pages.after_request(_with_headers)
    pages.add_url_rule("/", view_func=views.incidents)
    pages.add_url_rule("/incidents/<int:number>", view_func=views.incident)
    pages.app_template_filter("clean")(_clean)
    return pages


class _Pages:
    def __init__(self, open_journal: Callable[[], Journal], token: TokenFile | None) -> None:
        self._open_journal = open_journal
        self._token = token

    def authenticate(self) -> Response | None:
        """Let in who knows the token, by HTTP's basic scheme, which every browser asks for."""
        if self._token is None:
            return None
        try:
            if self._token.accepts(f"Bearer {_password(request.headers.get('Authorization'))}"):
                return None
        except SetupError:
            return Response("the receiver has no usable token, see its log\n", 503)
        answer = Response("log in with any name and the token as the password\n", 401)
        answer.headers["WWW-Authenticate"] = 'Basic realm="remediator", charset="UTF-8"'
        return answer

    def incidents(self) -> Response:
        """Answer the newest incidents."""
        with self._journal() as journal:
            if journal is None:
                return _page("incidents.html", incidents=[], waiting=True)
            rows = [
                (incident, _last_word(journal, incident.id))
                for incident in journal.incidents.latest(_MOST)
            ]
        return _page("incidents.html", incidents=rows, waiting=False)

    def incident(self, number: int) -> Response:
        """Answer one incident with its story."""
        with self._journal() as journal:
            story = tell(journal, number) if journal else None
        if story is None:
            return Response(f"there is no incident {number}\n", 404, content_type="text/plain")
        return _page("incident.html", story=story)

    @contextlib.contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        """Open the journal for one answer; None while the worker has not made it."""
        try:
            journal = self._open_journal()
        except JournalError:
            yield None
            return
        try:
            yield journal
        finally:
            journal.close()


def _last_word(journal: Journal, incident: int) -> str:
    decisions = journal.decisions.of_incident(incident)
    if not decisions:
        return "new"
    last = decisions[-1]
    return f"held: {last.reason}" if last.reason else "being remediated"


def _password(authorization: str | None) -> str:
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(encoded, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[2]


def _page(template: str, **values: object) -> Response:
    return Response(render_template(template, refresh=_REFRESH_SECONDS, **values))


def _with_headers(answer: Response) -> Response:
    answer.headers.update(_HEADERS)
    return answer


def _clean(text: object) -> str:
    return clean(str(text), 500)
